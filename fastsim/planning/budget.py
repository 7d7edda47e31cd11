"""The budget of a deployment: a number of GPUs, or dollars per hour."""

import re
from dataclasses import dataclass

from fastsim.deployment.resolved import Resolved
from fastsim.errors import ConfigError
from fastsim.files.documents import short

FORM = re.compile(r"\s*(\$?)\s*(\d+(?:\.\d+)?)\s*(gpus?|\$(?:/h)?|/h|)\s*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Budget:
    """The most that a deployment may use: ``amount`` GPUs, or ``amount`` dollars per hour."""

    amount: float
    dollars: bool

    def __str__(self) -> str:
        return f"${self.amount:g} an hour" if self.dollars else f"{self.amount:g} GPUs"

    def copies(self, resolved: Resolved) -> int:
        """How many copies of a deployment the budget pays for: replicas, or as many as its pools have, in their ratio.

        Raises ConfigError for a GPU without a price.
        """
        price = 0.0
        for kind in resolved.kinds:
            if self.dollars and kind.price is None:
                raise ConfigError(
                    f"budget: {kind.device.name} has no price_per_hour, so {self} buys no number of GPUs; give a "
                    f"number of GPUs (e.g. 16), or the price (e.g. --price {kind.device.name}=2.50)"
                )
            price += kind.num_gpus // resolved.copies * (kind.price.dollars if self.dollars and kind.price else 1)
        return int(self.amount / price + 1e-9)


def parse_budget(text: str | float | None) -> Budget | None:
    """Parse ``16``, ``"16 GPUs"`` or ``"$40/h"``. Raises ConfigError."""
    if text is None:
        return None
    match = FORM.fullmatch(str(text))
    if match is None:
        raise ConfigError(f"budget: {short(text)} is neither GPUs nor dollars per hour (e.g. 16, or $40/h)")
    amount, dollars = float(match[2]), bool(match[1]) or match[3].startswith(("$", "/"))
    if not 0 < amount <= 1e9 or not (dollars or amount.is_integer()):
        raise ConfigError(f"budget: {short(text)} must be above 0 up to 1e9, and whole if it counts GPUs (e.g. 16)")
    return Budget(amount, dollars)

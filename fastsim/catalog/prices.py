"""What GPUs cost: the price of one by the hour, and those of data/catalog/prices.yaml."""

from dataclasses import dataclass
from functools import cache
from typing import Literal

from fastsim.files import DATA

Kind = Literal["on_demand", "reserved", "spot"]


@dataclass(frozen=True, slots=True)
class Price:
    """What one GPU costs by the hour, and where that is known from."""

    dollars: float  # per GPU and hour
    per_hour: float  # the same as it is listed, in ``currency``
    currency: str = "USD"
    kind: Kind = "on_demand"
    cloud: str | None = None  # whose offer it is; None: it is not said
    date: str | None = None  # of the price; None: it is not said
    source: str | None = None  # where it was read; None: it is not said
    interruptions_per_hour: float | None = None  # of a replica, on spot; None: it is not said

    @property
    def said(self) -> str:
        """The price in words: what it is, whose, and where from."""
        offer = " of ".join(filter(None, (self.kind.replace("_", " "), self.cloud)))
        listed = "" if self.currency == "USD" else f", {self.per_hour:g} {self.currency}"
        amount = f"{self.dollars:.2f}" if round(self.dollars, 2) == self.dollars else f"{self.dollars:g}"
        return f"${amount}{listed} per GPU and hour, {offer}{f': {self.source}' if self.source else ''}"


@cache
def listed() -> dict[str, tuple[Price, ...]]:
    """The prices of data/catalog/prices.yaml by GPU; the first of each is that of the catalog."""
    from fastsim.files.documents import shipped

    gpus = shipped(DATA / "catalog" / "prices.yaml")["gpus"]
    return {
        name: tuple(Price(dollars=float(one["per_hour"]), **one) for one in offers) for name, offers in gpus.items()
    }

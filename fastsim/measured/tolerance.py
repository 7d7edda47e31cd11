"""How large an error may be, as `--within 5%` says it."""

import re

from fastsim.errors import ConfigError
from fastsim.measured.validation import Validation

WRITTEN = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*%")
MOST = 10_000  # %


def parse(text: str, where: str = "--within") -> float:
    """The share of 1 that a text in per cent says. Raises ConfigError."""
    found = WRITTEN.fullmatch(text.strip())
    if found is None or not float(found[1]) <= MOST:
        raise ConfigError(f"{where}: {text[:40]!r} is not an error in per cent from 0% to {MOST:,}% (e.g. 5%)")
    return float(found[1]) / 100


def judged(validation: Validation, limit: float) -> list[str]:
    """The mean figures whose error is larger than ``limit``, in words; empty where none is."""
    missed = []
    for name, pair in validation.means().items():
        if pair.error is None or not abs(pair.error) <= limit:
            missed.append(f"{name} {'from 0' if pair.error is None else f'{pair.error:+.1%}'}")
    return missed

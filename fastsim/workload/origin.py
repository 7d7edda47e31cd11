"""Where the requests of a workload come from, and what was changed between the file and the simulation."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

MAX_NAME = 100  # characters of the name of a layout
MAX_SIZE = 2**24  # bytes of the configuration that a file of requests carries


@dataclass(frozen=True, slots=True)
class Origin:
    """The layout of the file, and how many requests were left out or changed.

    Parameters
    ----------
    layout : str
        What the layout is called.
    without_output : int
        Requests of the file that have no output, which were left out.
    without_prompt : int
        Further requests of a published file that have no prompt, which were left out too.
    sorted : bool
        Whether the requests were not in order of arrival, and have been sorted.
    estimated : bool
        Whether tokens are estimated from text.
    hashed : bool
        Whether the requests have hashes of blocks.
    mean_gap : float
        The mean time between two arrivals, s, where it is so long that the unit of the times may be another; else 0.
    dropped, clipped : int
        Requests that were longer than ``max_model_len``, and were dropped or clipped.
    max_model_len : int
        The most tokens of a request, where requests were dropped or clipped; else 0.
    """

    layout: str = ""
    without_output: int = 0
    without_prompt: int = 0
    sorted: bool = False
    estimated: bool = False
    hashed: bool = False
    mean_gap: float = 0.0
    dropped: int = 0
    clipped: int = 0
    max_model_len: int = 0

    def as_dict(self) -> dict[str, Any]:
        """The fields, as JSON has them."""
        return asdict(self)

    def notes(self) -> tuple[str, ...]:
        """What a user must know of all this, one sentence each."""
        said, longer = [], f"with more tokens than max_model_len {self.max_model_len:,}"
        if self.without_output:
            said.append(f"{_requests(self.without_output, 'without output')} left out")
        if self.without_prompt:
            said.append(f"{_requests(self.without_prompt, 'without prompt')} left out")
        if self.sorted:
            said.append("the requests of the file were not in order of arrival, and have been sorted")
        if self.estimated:
            said.append(
                "tokens are estimated, as one per 4 bytes of text; for exact ones count them with the model's tokenizer"
            )
        if self.mean_gap:
            said.append(
                f"requests arrive {self.mean_gap:,.0f} s apart on average; if their times are in milliseconds, say "
                "unit ms (--unit ms), and if they are in seconds, --unit s"
            )
        if self.dropped:
            said.append(f"{_requests(self.dropped, longer)} dropped")
        if self.clipped:
            said.append(f"{_requests(self.clipped, longer)} clipped to it")
        return tuple(said)

    @classmethod
    def of(cls, values: Any) -> Self | None:
        """The origin that ``as_dict`` wrote; None if ``values`` are anything else."""
        kinds: dict[str, type] = {field.name: type(field.default) for field in fields(cls)}
        if not isinstance(values, dict) or set(values) != set(kinds):
            return None
        if [*map(type, map(values.get, kinds))] != [*kinds.values()]:
            return None
        if not all(0 <= value < 2**53 for value in values.values() if not isinstance(value, str)):
            return None
        return cls(**values) if len(values["layout"]) <= MAX_NAME else None


def recorded(metadata: Mapping[bytes, bytes] | None) -> tuple[str, Origin] | None:
    """The digest and the origin of the requests that a result's table has, by its metadata; None without them."""
    text = (metadata or {}).get(b"fastsim", b"")
    if not 0 < len(text) <= MAX_SIZE:
        return None
    try:
        workload = json.loads(text)["workload"]
        digest, origin = workload["sha256"], Origin.of(workload["origin"])
    except (ValueError, RecursionError, TypeError, KeyError):
        return None
    return (digest, origin) if isinstance(digest, str) and origin is not None else None


def _requests(number: int, which: str) -> str:
    return f"{number:,} requests {which} are" if number != 1 else f"1 request {which} is"

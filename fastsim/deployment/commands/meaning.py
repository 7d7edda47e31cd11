"""What a flag of an engine means in a deployment."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a flag of an engine and its value mean here."""

    settings: Mapping[str, Any] = field(default_factory=dict)  # by dotted name
    lost: str = ""  # a sentence about what is not simulated
    unchanged: bool = False  # nothing that is simulated depends on it

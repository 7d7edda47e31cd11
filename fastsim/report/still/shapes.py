"""What a still picture is made of, in pixels from the upper left corner."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

Points: TypeAlias = "list[tuple[float, float]]"


@dataclass(frozen=True, slots=True)
class Stroke:
    """A line through points. ``dash``: pixels that are drawn and left out in turn; () for all drawn."""

    points: Points
    colour: str
    width: float = 1.0
    dash: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Area:
    """The inside of a polygon; ``alpha`` from 0, nothing, to 1, opaque."""

    points: Points
    colour: str
    alpha: float = 1.0


@dataclass(frozen=True, slots=True)
class Words:
    """A line of text whose ``anchor`` is at a point; ``turned`` is read from below."""

    at: tuple[float, float]
    text: str
    colour: str
    anchor: Literal["start", "middle", "end"] = "start"
    size: int = 12
    turned: bool = False


Shape: TypeAlias = Stroke | Area | Words


@dataclass(frozen=True, slots=True)
class Sheet:
    """Shapes from the back to the front, and the size of the picture."""

    width: int
    height: int
    shapes: list[Shape]


def box(left: float, top: float, right: float, bottom: float) -> Points:
    """The corners of a rectangle."""
    return [(left, top), (right, top), (right, bottom), (left, bottom)]

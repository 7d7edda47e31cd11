"""What a figure shows, as a value: axes, layers of data, and limits.

``draw`` makes a Bokeh figure of it. Pictures of the same ``shape`` differ in their data alone, which a figure that is
drawn already can take over without being drawn again.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from fastsim.report.page import bars, figures, markers
from fastsim.report.page.figures import Scale

Tips: TypeAlias = Mapping[str, Sequence[str]]
Range: TypeAlias = "tuple[float, float] | Sequence[str] | Literal['from zero'] | None"


@dataclass(frozen=True)
class Line:
    """A line; its fields are the arguments of ``figures.line``."""

    x: ArrayLike
    y: ArrayLike
    name: str = ""
    number: int = 0
    step: bool = False
    tips: Tips | None = None


@dataclass(frozen=True)
class Band:
    """The area between two lines; its fields are the arguments of ``figures.band``."""

    x: ArrayLike
    low: ArrayLike
    high: ArrayLike
    number: int = 0


@dataclass(frozen=True)
class Bars:
    """A histogram; its fields are the arguments of ``bars.bars``."""

    left: ArrayLike
    right: ArrayLike
    top: ArrayLike
    number: int = 0
    what: str = ""


@dataclass(frozen=True)
class Marks:
    """A marker for each point; its fields are the arguments of ``markers.marks``."""

    x: ArrayLike
    y: ArrayLike
    number: int = 0
    tips: Tips | None = None
    marker: str = "circle"
    size: int = 6
    hollow: bool = False


@dataclass(frozen=True)
class Stack:
    """Horizontal bars made up of parts; its fields are the arguments of ``bars.stacked``."""

    rows: Sequence[str]
    parts: Mapping[str, ArrayLike]
    unit: str


@dataclass(frozen=True)
class Blocks:
    """Bars from one time to another, in rows; its fields are the arguments of ``bars.blocks``."""

    left: ArrayLike
    right: ArrayLike
    row: Sequence[str]
    name: str
    number: int = 0
    tips: Tips | None = None


@dataclass(frozen=True)
class Limit:
    """A dashed line with a label; its fields are the arguments of ``figures.limit``."""

    at: float
    text: str
    axis: Literal["x", "y"] = "x"


SPARE = 4  # limits that a figure which is drawn already can show
Layer: TypeAlias = Line | Band | Bars | Marks | Stack | Blocks


@dataclass(frozen=True)
class Picture:
    """A figure with labelled axes.

    Parameters
    ----------
    x_label, y_label : str
        Labels of the axes, with units; "" for none.
    layers : sequence of Layer
        What is drawn, from the back to the front.
    limits : sequence of Limit
        Lines that the data should stay below.
    x, y : "linear" or "log", default "linear"
        Scales of the axes.
    height : int, default 300
        Height in pixels.
    x_range, y_range : tuple of two floats, sequence of str, "from zero" or None
        Ends of the axes, names of rows, from 0 to the largest value, or None for all of the data.
    x_ticks, y_ticks : mapping of float to str, optional
        Places and labels of the ticks.
    legend : str, default "top_left"
        Corner of the legend.
    """

    x_label: str
    y_label: str
    layers: Sequence[Layer]
    limits: Sequence[Limit] = ()
    x: Scale = "linear"
    y: Scale = "linear"
    height: int = 300
    x_range: Range = None
    y_range: Range = None
    x_ticks: Mapping[float, str] = field(default_factory=dict)
    y_ticks: Mapping[float, str] = field(default_factory=dict)
    legend: str = "top_left"

    @property
    def names(self) -> list[tuple[str, str]]:
        """Names and colours of stacked parts that any bar has, and of blocks, for a legend below the figure."""
        found: list[tuple[str, str]] = []
        for layer in self.layers:
            if isinstance(layer, Stack):
                parts = bars.legend_of([*layer.parts])
                found += [part for part in parts if np.any(np.asarray(layer.parts[part[0]]) > 0)]
            elif isinstance(layer, Blocks):
                found.append((layer.name, bars.SEVERAL[layer.number % len(bars.SEVERAL)]))
        return found

    @property
    def shape(self) -> str:
        """A digest of all but the data: what two pictures have in common that one figure can show."""
        about: list[Any] = [self.x_label, self.y_label, self.x, self.y, self.height, self.legend]
        for ends in (self.x_range, self.y_range):
            about.append("ends" if isinstance(ends, tuple) else ends if ends is None else list(ends))
        about += [bool(self.x_ticks), bool(self.y_ticks), len(self.limits) > SPARE]
        about += [[type(layer).__name__, _look(layer)] for layer in self.layers]
        return hashlib.sha256(json.dumps(about).encode()).hexdigest()[:16]

    @property
    def columns(self) -> list[dict[str, Any]]:
        """The data of each layer by column: arrays and lists of str."""
        return [_columns(layer) for layer in self.layers]

    def draw(self, spare: bool = False) -> Any:
        """Return a Bokeh figure whose sources are named ``layer0``, ``layer1`` and so on, and limits ``limit0``.

        ``spare``: whether it has SPARE limits, of which those beyond its own are not visible.
        """
        ranges = {
            name: figures.from_zero() if ends == "from zero" else ends if isinstance(ends, tuple) else list(ends)
            for name, ends in (("x_range", self.x_range), ("y_range", self.y_range))
            if ends is not None
        }
        plotted = figures.plot(self.x_label, self.y_label, x=self.x, y=self.y, height=self.height, **ranges)
        for axis, labels in ((plotted.xaxis[0], self.x_ticks), (plotted.yaxis[0], self.y_ticks)):
            if labels:
                figures.ticks(axis, labels)
        for number, layer in enumerate(self.layers):
            _draw(plotted, layer).name = f"layer{number}"
        others = [Limit(1.0, "")] * (SPARE - len(self.limits)) if spare else []
        for number, limit in enumerate((*self.limits, *others)):
            line, label = figures.limit(plotted, limit.at, limit.text, limit.axis)
            line.name, label.name = f"limit{number}", f"text{number}"
            line.visible = label.visible = number < len(self.limits)
        if not self.y_label:
            plotted.yaxis.axis_label = None
        if self.legend != "top_left":
            figures.legend(plotted, self.legend)
        return plotted


def _draw(plotted: Any, layer: Layer) -> Any:
    """Draw a layer and return its source."""
    match layer:
        case Line(x, y, name, number, step, tips):
            return figures.line(plotted, x, y, name, number, step, tips)
        case Band(x, low, high, number):
            return figures.band(plotted, x, low, high, number)
        case Bars(left, right, top, number, what):
            return bars.bars(plotted, left, right, top, number, what)
        case Marks(x, y, number, tips, marker, size, hollow):
            return markers.marks(plotted, x, y, number, tips, marker, size, hollow)
        case Stack(rows, parts, unit):
            return bars.stacked(plotted, rows, parts, unit)
        case Blocks(left, right, row, name, number, tips):
            return bars.blocks(plotted, left, right, row, name, number, tips)


def _look(layer: Layer) -> list[Any]:
    """What a layer has besides its data."""
    match layer:
        case Line():
            return [layer.name, layer.number, layer.step, None if layer.tips is None else [*layer.tips]]
        case Band():
            return [layer.number]
        case Bars():
            return [layer.number, layer.what]
        case Marks():
            tips = None if layer.tips is None else [*layer.tips]
            return [layer.number, layer.marker, layer.size, layer.hollow, tips]
        case Stack():
            return [*layer.parts, layer.unit]
        case Blocks():
            return [layer.name, layer.number, None if layer.tips is None else [*layer.tips]]


def _columns(layer: Layer) -> dict[str, Any]:
    match layer:
        case Line() | Marks():
            texts = {key or "note": list(texts) for key, texts in (layer.tips or {}).items()}
            return {"x": figures.small(layer.x), "y": figures.small(layer.y), **texts}
        case Band():
            return {name: figures.small(getattr(layer, name)) for name in ("x", "low", "high")}
        case Bars():
            return {name: figures.small(getattr(layer, name)) for name in ("left", "right", "top")}
        case Blocks():
            times = {name: figures.small(getattr(layer, name)) for name in ("left", "right")}
            return {**times, "row": list(layer.row), **{key: list(texts) for key, texts in (layer.tips or {}).items()}}
        case Stack():
            return {
                "row": list(layer.rows),
                **{name: np.asarray(part, np.float32) for name, part in layer.parts.items()},
            }

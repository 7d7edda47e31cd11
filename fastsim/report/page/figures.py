"""Bokeh figures in the style of a page: muted axes, colours that follow the theme, no tools that capture touches."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from bokeh.models import (
    CategoricalColorMapper,
    CDSView,
    ColumnDataSource,
    DataRange1d,
    FixedTicker,
    HoverTool,
    IndexFilter,
    Label,
    LogScale,
    NumeralTickFormatter,
    Span,
)
from bokeh.plotting import figure
from numpy.typing import ArrayLike, NDArray

from fastsim.report.page.palette import FAINT, GRID, INK, LINES, MUTED, SLOTS

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', Arial, sans-serif"
DASHES = ("solid", "dashed", "dotdash", "dotted")  # so that more lines than colours differ, also in print
Scale = Literal["linear", "log"]


def plot(
    x_label: str, y_label: str, *, x: Scale = "linear", y: Scale = "linear", height: int = 300, **more: Any
) -> Any:
    """Return an empty figure that is as wide as the page.

    Parameters
    ----------
    x_label, y_label : str
        Labels of the axes, with units.
    x, y : "linear" or "log", default "linear"
        Scales of the axes.
    height : int, default 300
        Height in pixels.
    more
        Further arguments of bokeh.plotting.figure, such as ``x_range``.
    """
    plotted = figure(
        height=height,
        sizing_mode="stretch_width",
        min_width=200,
        x_axis_label=x_label,
        y_axis_label=y_label,
        x_axis_type=x if x == "log" else "auto",
        y_axis_type=y if y == "log" else "auto",
        tools="xbox_zoom,reset,save",
        active_drag=None,
        active_scroll=None,
        active_tap=None,
        toolbar_location="right",
        toolbar_inner=True,
        background_fill_color=None,
        border_fill_color=None,
        outline_line_color=None,
        **more,
    )
    plotted.toolbar.logo = None
    plotted.toolbar.autohide = True
    plotted.min_border_right = 16
    for axis, scale, drawn in ((plotted.xaxis[0], x, "x_range"), (plotted.yaxis[0], y, "y_range")):
        if scale == "linear" and not isinstance(more.get(drawn), list):
            axis.formatter = NumeralTickFormatter(format="0,0.[000]")
        axis.axis_line_color = MUTED
        axis.major_tick_line_color = MUTED
        axis.minor_tick_line_color = None
        axis.major_label_text_color = MUTED
        axis.axis_label_text_color = INK
        axis.axis_label_text_font_style = "normal"
        axis.axis_label_text_font = axis.major_label_text_font = FONT
        axis.axis_label_text_font_size = "13px"
        axis.major_label_text_font_size = "12px"
    for grid in plotted.grid:
        grid.grid_line_color = GRID
    return plotted


def line(
    plotted: Any,
    x: ArrayLike,
    y: ArrayLike,
    name: str = "",
    number: int = 0,
    step: bool = False,
    tips: Mapping[str, Sequence[str]] | None = None,
) -> Any:
    """Draw a line, which NaN interrupts, and return the source of its points.

    Parameters
    ----------
    plotted
        A figure made by ``plot``.
    x, y : array_like, float[points]
        The points, in the units of the axes.
    name : str, default ""
        Name in the legend; "" leaves the line out of the legend.
    number : int, default 0
        Position of the line among the lines of the figure, which gives it its colour and dashes.
    step : bool, default False
        Whether each value holds until the next point.
    tips : mapping of str to sequence of str[points], optional
        Texts shown on hover instead of x and y, by heading.
    """
    source = ColumnDataSource(
        {"x": small(x), "y": small(y), **{key: list(texts) for key, texts in (tips or {}).items()}}
    )
    look: dict[str, Any] = {"line_width": 2, "line_color": LINES[number % len(LINES)]}
    look["line_dash"] = DASHES[number // len(LINES) % len(DASHES)]
    if name:
        look |= {"legend_label": name, "name": name}
    if step:
        drawn = plotted.step("x", "y", source=source, mode="after", **look)
    else:
        drawn = plotted.line("x", "y", source=source, **look)
    shown = [(key, f"@{{{key}}}") for key in tips] if tips else [("", "@y{0,0.[000]}"), *_at(plotted)]
    plotted.add_tools(hover([drawn], [("", name), *shown] if name else shown, "nearest"))
    legend(plotted)
    return source


def band(plotted: Any, x: ArrayLike, low: ArrayLike, high: ArrayLike, number: int = 0) -> Any:
    """Shade the area between two lines, and return the source of their points.

    Parameters
    ----------
    plotted
        A figure made by ``plot``.
    x, low, high : array_like, float[points]
        Both lines, in the units of the axes.
    number : int, default 0
        Position of the area among the lines of the figure, which gives it its colour.
    """
    source = ColumnDataSource({"x": small(x), "low": small(low), "high": small(high)})
    colour = LINES[number % len(LINES)]
    plotted.varea("x", "low", "high", source=source, fill_color=colour, fill_alpha=0.2)
    return source


def limit(plotted: Any, at: float, text: str, axis: Literal["x", "y"] = "x") -> tuple[Any, Any]:
    """Draw a dashed line for a limit that the figure should stay below, and return the line and its label.

    Parameters
    ----------
    plotted
        A figure made by ``plot``.
    at : float
        The limit, in the unit of the axis.
    text : str
        A label beside the line.
    axis : "x" or "y", default "x"
        The axis of the limit.
    """
    upright = axis == "x"
    line = Span(location=at, dimension="height" if upright else "width", line_color=INK, line_dash=[4, 4], line_width=1)
    plotted.add_layout(line)
    position = {"x": at, "y": 4, "y_units": "screen"} if upright else {"x": 4, "x_units": "screen", "y": at}
    # To the left of a line in the right half, where there is more room.
    left = upright and _is_right(plotted, at)
    aside = {"text_align": "right", "x_offset": -4} if left else {"x_offset": 4}
    label = Label(**position, **aside, text=text, text_color=INK, text_font=FONT, text_font_size="12px")
    plotted.add_layout(label)
    return line, label


def _is_right(plotted: Any, at: float) -> bool:
    """Whether a place on the horizontal axis is in the right half of a figure."""
    low, high = plotted.x_range.start, plotted.x_range.end
    if low is None or high is None:
        return False
    middle = math.sqrt(low * high) if isinstance(plotted.x_scale, LogScale) else (low + high) / 2
    return bool(at > middle)


def choosable(plotted: Any, names: Sequence[str], xs: Sequence[ArrayLike], ys: Sequence[ArrayLike]) -> None:
    """Draw lines that the figure shows only while their rows are ticked in a ``page.Table`` with ``choices``.

    Parameters
    ----------
    plotted
        A figure made by ``plot``.
    names : sequence of str
        Names of the lines, as in ``choices``.
    xs, ys : sequence of array_like, float[points]
        Points of each line, in the units of the axes.
    """
    source = ColumnDataSource(
        {
            "xs": [small(x) for x in xs],
            "ys": [small(y) for y in ys],
            "name": list(names),
            "slot": ["0"] * len(names),
        },
        name="chosen",
    )
    colour = {"field": "slot", "transform": CategoricalColorMapper(palette=list(LINES), factors=list(SLOTS))}
    view = CDSView(filter=IndexFilter([], name="choice"))
    drawn = plotted.multi_line("xs", "ys", source=source, view=view, line_color=colour, line_width=2)
    plotted.add_tools(hover([drawn], [("", "@name"), *_at(plotted)]))


def ticks(axis: Any, labels: Mapping[float, str]) -> None:
    """Set the ticks of an axis to these positions, with these labels."""
    axis.ticker = FixedTicker(ticks=list(labels))
    axis.major_label_overrides = dict(labels)


def from_zero() -> Any:
    """Return a range from 0 to the largest visible value."""
    return DataRange1d(start=0)


def legend(plotted: Any, location: str = "top_left") -> None:
    """Style the legend of a figure, if it has one; a click on a name hides its line."""
    for shown in plotted.legend:
        shown.location = location
        shown.label_text_color = INK
        shown.label_text_font = FONT
        shown.label_text_font_size = "12px"
        shown.background_fill_color = FAINT
        shown.background_fill_alpha = 0.7
        shown.border_line_color = None
        shown.spacing = 2
        shown.click_policy = "hide"


def small(values: ArrayLike) -> NDArray[np.float32]:
    """Convert values to float32, which halves the size of a page; seven digits are more than a screen can show."""
    return np.asarray(values, np.float64).astype(np.float32)


def hover(renderers: list[Any], tips: list[tuple[str, str]], mode: str = "mouse") -> HoverTool:
    """A tool that shows ``tips`` for the points of ``renderers``."""
    more = {} if mode == "mouse" else {"line_policy": mode}
    return HoverTool(renderers=renderers, tooltips=tips, visible=False, **more)


def _at(plotted: Any) -> list[tuple[str, str]]:
    """The tip for the position on the x axis."""
    return [(plotted.xaxis[0].axis_label, "$x{0,0.[000]}")]

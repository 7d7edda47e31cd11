"""Figures in the style of a report: quiet axes, colours of palette.py, and no tool in the way of a thumb."""

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
    NumeralTickFormatter,
    Span,
)
from bokeh.plotting import figure
from numpy.typing import ArrayLike, NDArray

from fastsim.report.page.palette import FAINT, GRID, INK, LINES, MUTED, RAMP, SLOTS

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', Arial, sans-serif"
SEVERAL = (*LINES, RAMP[3])
DASHES = ("solid", "dashed", "dotdash", "dotted")  # lines differ in print and without colours too
Scale = Literal["linear", "log"]


def plot(
    x_label: str, y_label: str, *, x: Scale = "linear", y: Scale = "linear", height: int = 300, **more: Any
) -> Any:
    """An empty figure as wide as the page. ``more``: ranges and the like, for bokeh.plotting.figure."""
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
) -> None:
    """A line with a legend entry in the colour of that ``number``; NaN parts it.

    ``tips``: words by point and heading, shown on hover in place of x and y.
    """
    source = ColumnDataSource({"x": small(x), "y": small(y), **{key: list(said) for key, said in (tips or {}).items()}})
    look: dict[str, Any] = {"line_width": 2, "line_color": LINES[number % len(LINES)]}
    look["line_dash"] = DASHES[number // len(LINES) % len(DASHES)]
    if name:
        look |= {"legend_label": name, "name": name}
    if step:
        drawn = plotted.step("x", "y", source=source, mode="after", **look)
    else:
        drawn = plotted.line("x", "y", source=source, **look)
    shown = [(key, f"@{{{key}}}") for key in tips] if tips else [("", "@y{0,0.[000]}"), *_at(plotted)]
    plotted.add_tools(_hover([drawn], [("", name), *shown] if name else shown, "nearest"))
    legend(plotted)


def band(plotted: Any, x: ArrayLike, low: ArrayLike, high: ArrayLike, number: int = 0) -> None:
    """What lies between ``low`` and ``high``, faintly."""
    source = ColumnDataSource({"x": small(x), "low": small(low), "high": small(high)})
    colour = LINES[number % len(LINES)]
    plotted.varea("x", "low", "high", source=source, fill_color=colour, fill_alpha=0.2)


def bars(plotted: Any, left: ArrayLike, right: ArrayLike, top: ArrayLike, number: int = 0, what: str = "") -> None:
    """A histogram."""
    source = ColumnDataSource({"left": small(left), "right": small(right), "top": small(top)})
    colour = LINES[number % len(LINES)]
    drawn = plotted.quad(
        "left", "right", "top", bottom=0, source=source, fill_color=colour, fill_alpha=0.75, line_color=None
    )
    tips = [(plotted.xaxis[0].axis_label, "@left{0,0.[000]} to @right{0,0.[000]}"), (what, "@top{0,0.[00]}")]
    plotted.add_tools(_hover([drawn], tips))


def stacked(plotted: Any, rows: Sequence[str], parts: Mapping[str, ArrayLike], unit: str) -> list[tuple[str, str]]:
    """Horizontal bars by row (the figure's y_range), made up of parts; returns the legend for page.Figure."""
    colours = [SEVERAL[n % len(SEVERAL)] for n in range(len(parts))]
    source = ColumnDataSource({"row": list(rows), **{name: small(values) for name, values in parts.items()}})
    drawn = plotted.hbar_stack(list(parts), y="row", height=0.62, source=source, fill_color=colours, line_color=None)
    for renderer in drawn:
        tips = [("", "@row"), (renderer.name, f"@{{{renderer.name}}}{{0.[0000]}} {unit}")]
        plotted.add_tools(_hover([renderer], tips))
    plotted.ygrid.grid_line_color = None
    return list(zip(parts, colours, strict=True))


def limit(plotted: Any, at: float, text: str, axis: Literal["x", "y"] = "x") -> None:
    """A dashed line that a figure should stay below."""
    upright = axis == "x"
    plotted.add_layout(
        Span(location=at, dimension="height" if upright else "width", line_color=INK, line_dash=[4, 4], line_width=1)
    )
    place = {"x": at, "y": 4, "y_units": "screen"} if upright else {"x": 4, "x_units": "screen", "y": at}
    plotted.add_layout(Label(**place, text=text, text_color=INK, text_font=FONT, text_font_size="12px", x_offset=4))


def choosable(plotted: Any, names: Sequence[str], xs: Sequence[ArrayLike], ys: Sequence[ArrayLike]) -> None:
    """Lines of which the figure shows those that are ticked in a page.Table with ``choices``."""
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
    plotted.add_tools(_hover([drawn], [("", "@name"), *_at(plotted)]))


def ticks(axis: Any, places: Mapping[float, str]) -> None:
    """Ticks at these places only, with these words."""
    axis.ticker = FixedTicker(ticks=list(places))
    axis.major_label_overrides = dict(places)


def from_zero() -> Any:
    """A range from nothing to the most that is seen."""
    return DataRange1d(start=0)


def legend(plotted: Any, place: str = "top_left") -> None:
    """Style the legend, if there is one. A click on a name hides its line."""
    for one in plotted.legend:
        one.location = place
        one.label_text_color = INK
        one.label_text_font = FONT
        one.label_text_font_size = "12px"
        one.background_fill_color = FAINT
        one.background_fill_alpha = 0.7
        one.border_line_color = None
        one.spacing = 2
        one.click_policy = "hide"


def small(values: ArrayLike) -> NDArray[np.float32]:
    """Half the bytes: seven digits are more than a screen shows."""
    return np.asarray(values, np.float64).astype(np.float32)


def _hover(renderers: list[Any], tips: list[tuple[str, str]], mode: str = "mouse") -> HoverTool:
    more = {} if mode == "mouse" else {"line_policy": mode}
    return HoverTool(renderers=renderers, tooltips=tips, visible=False, **more)


def _at(plotted: Any) -> list[tuple[str, str]]:
    return [(plotted.xaxis[0].axis_label, "$x{0,0.[000]}")]

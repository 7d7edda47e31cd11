"""Bars in a figure: a histogram, bars of parts, and bars from one time to another."""

from collections.abc import Mapping, Sequence
from typing import Any

from bokeh.models import ColumnDataSource
from numpy.typing import ArrayLike

from fastsim.report.page.figures import hover, small
from fastsim.report.page.palette import FAINT, LINES, RAMP

SEVERAL = (*LINES, RAMP[3])


def bars(plotted: Any, left: ArrayLike, right: ArrayLike, top: ArrayLike, number: int = 0, what: str = "") -> Any:
    """Draw a histogram, and return the source of its bins.

    Parameters
    ----------
    plotted
        A figure made by ``plot``.
    left, right, top : array_like, float[bins]
        Edges and heights of the bins, in the units of the axes.
    number : int, default 0
        Position among the lines of the figure, which gives the bins their colour.
    what : str, default ""
        What the heights count, shown on hover.
    """
    source = ColumnDataSource({"left": small(left), "right": small(right), "top": small(top)})
    colour = LINES[number % len(LINES)]
    drawn = plotted.quad(
        "left", "right", "top", bottom=0, source=source, fill_color=colour, fill_alpha=0.75, line_color=None
    )
    tips = [(plotted.xaxis[0].axis_label, "@left{0,0.[000]} to @right{0,0.[000]}"), (what, "@top{0,0.[00]}")]
    plotted.add_tools(hover([drawn], tips))
    return source


def blocks(
    plotted: Any,
    left: ArrayLike,
    right: ArrayLike,
    row: Sequence[str],
    name: str,
    number: int = 0,
    tips: Mapping[str, Sequence[str]] | None = None,
) -> Any:
    """Draw a bar from one time to another in a row for each of many things, and return their source.

    Parameters
    ----------
    plotted
        A figure made by ``plot`` with the rows as its ``y_range``.
    left, right : array_like, float[blocks]
        Beginning and end of each bar, in the unit of the axis.
    row : sequence of str[blocks]
        Row of each bar.
    name : str
        What the bars are, shown on hover.
    number : int, default 0
        Position among the kinds of bars, which gives these their colour.
    tips : mapping of str to sequence of str[blocks], optional
        Texts shown on hover, by heading.
    """
    texts = {key: list(values) for key, values in (tips or {}).items()}
    source = ColumnDataSource({"left": small(left), "right": small(right), "row": list(row), **texts})
    look = {"fill_color": SEVERAL[number % len(SEVERAL)], "fill_alpha": 0.8, "line_color": FAINT, "line_width": 0.5}
    drawn = plotted.hbar("row", left="left", right="right", height=0.62, source=source, **look)
    plotted.add_tools(hover([drawn], [("", name), *((key, f"@{{{key}}}") for key in texts)]))
    plotted.ygrid.grid_line_color = None
    return source


def stacked(plotted: Any, rows: Sequence[str], parts: Mapping[str, ArrayLike], unit: str) -> Any:
    """Draw horizontal bars made up of parts, and return the source of their lengths.

    Parameters
    ----------
    plotted
        A figure made by ``plot`` with the rows as its ``y_range``.
    rows : sequence of str
        Names of the bars.
    parts : mapping of str to array_like, float[rows]
        Lengths of each part, in the order in which the parts are stacked.
    unit : str
        Unit of the lengths, shown on hover.
    """
    colours = [colour for _, colour in legend_of(list(parts))]
    source = ColumnDataSource({"row": list(rows), **{name: small(values) for name, values in parts.items()}})
    drawn = plotted.hbar_stack(list(parts), y="row", height=0.62, source=source, fill_color=colours, line_color=None)
    for renderer in drawn:
        tips = [("", "@row"), (renderer.name, f"@{{{renderer.name}}}{{0.[0000]}} {unit}")]
        plotted.add_tools(hover([renderer], tips))
    plotted.ygrid.grid_line_color = None
    return source


def legend_of(parts: Sequence[str]) -> list[tuple[str, str]]:
    """Return the names and colours of the parts of ``stacked`` bars, for ``page.Figure.legend``."""
    return [(name, SEVERAL[n % len(SEVERAL)]) for n, name in enumerate(parts)]

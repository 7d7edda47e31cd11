"""Markers in figures: a point for each pair of values."""

from collections.abc import Mapping, Sequence
from typing import Any

from bokeh.models import ColumnDataSource
from numpy.typing import ArrayLike

from fastsim.report.page.figures import hover, small
from fastsim.report.page.palette import LINES


def points(
    plotted: Any, x: ArrayLike, y: ArrayLike, number: int = 0, tips: Mapping[str, Sequence[str]] | None = None
) -> None:
    """Draw a small point for each pair of values, of which many may lie upon each other.

    Parameters
    ----------
    plotted
        A figure made by ``figures.plot``.
    x, y : array_like, float[points]
        The points, in the units of the axes.
    number : int, default 0
        Position among the lines of the figure, which gives the points their colour.
    tips : mapping of str to sequence of str[points], optional
        Texts shown on hover, by heading.
    """
    _scatter(plotted, x, y, tips, size=5, fill_color=_colour(number), fill_alpha=0.45, line_color=None)


def marks(
    plotted: Any,
    x: ArrayLike,
    y: ArrayLike,
    number: int = 0,
    tips: Mapping[str, Sequence[str]] | None = None,
    marker: str = "circle",
    size: int = 6,
    hollow: bool = False,
) -> Any:
    """Draw a marker for each pair of values, which stands out against the line that it is on; return their source.

    Parameters
    ----------
    plotted, x, y, number, tips
        As for ``points``.
    marker : str, default "circle"
        A marker of Bokeh.
    size : int, default 6
        Size in pixels.
    hollow : bool, default False
        Whether the markers are not filled.
    """
    colour = _colour(number)
    fill = {"fill_alpha": 0.0} if hollow else {"fill_color": colour, "fill_alpha": 0.8}
    return _scatter(plotted, x, y, tips, size=size, marker=marker, line_color=colour, **fill)


def _scatter(plotted: Any, x: ArrayLike, y: ArrayLike, tips: Mapping[str, Sequence[str]] | None, **look: Any) -> Any:
    columns = {key or "note": list(texts) for key, texts in (tips or {}).items()}  # a column needs a name
    source = ColumnDataSource({"x": small(x), "y": small(y), **columns})
    drawn = plotted.scatter("x", "y", source=source, **look)
    if tips:
        plotted.add_tools(hover([drawn], [(key, f"@{{{key or 'note'}}}") for key in tips]))
    return source


def _colour(number: int) -> str:
    return LINES[number % len(LINES)]

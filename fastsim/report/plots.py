"""Figures of results for Python and notebooks: ``result.plot``."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastsim.errors import ConfigError, InputError, did_you_mean
from fastsim.files.writing import write_text, writing
from fastsim.report.charts.distribution import distribution
from fastsim.report.charts.over_time import over_time
from fastsim.report.charts.time_spent import tail
from fastsim.report.page.page import Block, Figure, Section, Tabs, page
from fastsim.report.page.picture import Picture
from fastsim.report.runs import Run, run_of
from fastsim.report.still.png import png
from fastsim.report.still.sheet import WIDTH, sheet
from fastsim.report.still.svg import svg
from fastsim.report.thin import POINTS
from fastsim.report.words import title
from fastsim.result.result import Result

if TYPE_CHECKING:
    from bokeh.plotting import figure

SUFFIXES = (".html", ".svg", ".png")
OWN = "this run"  # the name of the result beside others
METRICS = ("ttft", "e2e", "tpot", "scheduling_delay")
PARTS_OF = ("e2e", "ttft")
SERIES = {
    "queue": "Queue",
    "running": "Running",
    "ttft": title("ttft"),
    "e2e": title("e2e"),
    "rates": "Arrivals and completions",
    "tokens": "Tokens",
    "busy": "Busy",
    "kv": "KV memory",
}


class Plot:
    """A figure: a notebook shows it, ``save`` writes it, and ``figure`` is it in Bokeh.

    Attributes
    ----------
    figure : bokeh.plotting.figure
        The figure with its tools: hover, zoom, and a button that saves it.
    """

    def __init__(self, picture: Picture, heading: str, caption: str) -> None:
        self._picture, self._heading, self._caption = picture, heading, caption

    def __repr__(self) -> str:
        return f"<Plot: {self._heading}; .save('figure.svg') writes it>"

    def _repr_html_(self) -> str:
        return svg(sheet(self._picture))

    @cached_property
    def figure(self) -> "figure":
        """The figure in Bokeh."""
        return self._picture.draw()

    def save(self, path: str | Path, width: int = WIDTH) -> None:
        """Write the figure to a file: a page for a browser, which needs no network, or a picture.

        Parameters
        ----------
        path : str or Path
            The file; its name ends in .html, .svg or .png. A PNG has two pixels for one of ``width``.
        width : int
            Width of a picture, pixels, from 200 to 10,000. By default 760. A page is as wide as its window.

        Raises
        ------
        errors.ConfigError
            When the name ends otherwise, or the width is out of bounds.
        errors.OutputError
            When the file cannot be written.
        """
        if not 200 <= width <= 10_000:
            raise ConfigError(f"width: {width} is not a number of pixels from 200 to 10,000 (e.g. {WIDTH})")
        match Path(path).suffix.lower():
            case ".html":
                block = Figure(self._picture, self._caption)
                write_text(Path(path), page(self._heading, [Section("Figure", [block])]))
            case ".svg":
                write_text(Path(path), svg(sheet(self._picture, width, self._heading)))
            case ".png":
                with writing(Path(path)) as part:
                    part.write_bytes(png(sheet(self._picture, width, self._heading)))
            case suffix:
                raise ConfigError(
                    f"{path}: the name ends in {suffix!r}, not in {', '.join(SUFFIXES)} (e.g. figure.svg)"
                )


class Plots:
    """The figures of a result: those of ``fastsim report``, one by one.

    Each takes ``others``, results by name that are drawn beside it; ``this run`` is the name of the result itself.
    """

    def __init__(self, result: Result) -> None:
        self._result = result

    def latency(self, metric: str = "ttft", others: Mapping[str, Result] | None = None) -> Plot:
        """The share of requests at or below each latency; objectives are drawn as limits.

        Parameters
        ----------
        metric : str
            ``"ttft"`` (the default), ``"e2e"``, ``"tpot"`` or ``"scheduling_delay"``.
        others : mapping of str to Result, optional
            More results to draw, by name.

        Returns
        -------
        Plot

        Raises
        ------
        errors.InputError
            When no request finished, the metric is another, or one of ``others`` is named ``this run``.
        """
        _check("metric", metric, METRICS)
        runs = [run for run in self._runs(others) if len(run.curves[metric].value)]
        if not runs:
            raise InputError("plot: no request finished, so there is no latency to show")
        return Plot(distribution(metric, runs, runs[0]), f"{title(metric)} of requests", "")

    def breakdown(self, of: str = "e2e", others: Mapping[str, Result] | None = None) -> Plot:
        """Where the time of all requests, of the slowest 10 % and of the slowest 1 % goes, as means.

        Parameters
        ----------
        of : str
            ``"e2e"`` (the default) or ``"ttft"``.
        others : mapping of str to Result, optional
            More results to draw, by name.

        Returns
        -------
        Plot

        Raises
        ------
        errors.InputError
            When no request finished, the time is another, or one of ``others`` is named ``this run``.
        """
        _check("of", of, PARTS_OF)
        return _tab(tail(self._runs(others)), of.upper(), f"Parts of {title(of)}")

    def timeline(self, of: str = "queue", others: Mapping[str, Result] | None = None) -> Plot:
        """A figure over the time of the run.

        Parameters
        ----------
        of : str
            ``"queue"`` (the default) or ``"running"`` requests, ``"ttft"`` or ``"e2e"`` by time of arrival, ``"rates"``
            of arrivals and completions, ``"tokens"`` per second, ``"busy"`` stages, or ``"kv"`` memory in use.
        others : mapping of str to Result, optional
            More results to draw, by name.

        Returns
        -------
        Plot

        Raises
        ------
        errors.InputError
            When there are no requests, the result was simulated without what the figure shows, or one of ``others``
            is named ``this run``.
        """
        _check("of", of, SERIES)
        return _tab(over_time(self._runs(others)), SERIES[of], f"{SERIES[of]} over time")

    def _runs(self, others: Mapping[str, Result] | None) -> list[Run]:
        if OWN in (others or {}):
            raise ConfigError(f"others: {OWN!r} is the name of the result itself; name the other one (e.g. 'before')")
        named = {OWN: self._result, **(others or {})}
        return [run_of(name, number, each, True, POINTS) for number, (name, each) in enumerate(named.items())]


def _check(name: str, value: str, valid: Any) -> None:
    if value not in valid:
        raise ConfigError(f"{name}: {value!r} is not one; {did_you_mean(str(value), valid)}")


def _tab(block: Block, name: str, heading: str) -> Plot:
    """The figure behind a tab of the report."""
    if isinstance(block, Tabs):
        for label, blocks in block.tabs:
            if label == name and isinstance(blocks[0], Figure) and isinstance(blocks[0].figure, Picture):
                return Plot(blocks[0].figure, heading, blocks[0].caption)
    raise InputError(f"plot: the result has nothing to show for {heading}")

"""Latency and cost against load, with the knee, and where the objectives break."""

from collections.abc import Callable, Sequence

import numpy as np

from fastsim.planning.load_curve import Curve, Point
from fastsim.report.charts.distribution import time_ticks
from fastsim.report.page.page import Block, Cell, Figure, Table, Tabs
from fastsim.report.page.picture import Layer, Limit, Line, Marks, Picture
from fastsim.report.words import number, seconds, share, statistic, title
from fastsim.result.metrics.objectives import Objective, parse

SHOWN = (("ttft", "p90"), ("tbt", "p99"), ("e2e", "mean"))  # latencies beside those of the objectives
LINES = ("p50", "p90", "p99")  # of one deployment alone
MARKS = (
    "A diamond is the knee, where requests/s over the mean end-to-end time is highest. A circle is the highest load "
    "within the objectives. Hollow points fall behind: their latency grows for as long as the load lasts."
)
COST = "cost.dollars_per_million_output_tokens"
OUTPUT = "throughput.output_tokens_per_s"


def against_load(curves: Sequence[Curve], now: Sequence[tuple[str, float, int]] = ()) -> Tabs:
    """Return a tab with a figure of each latency, of the cost, and of throughput by the speed that a user sees.

    ``now``: loads to mark, such as those of runs: a label, the load, and the number of the curve.
    """
    wanted = [parse(text) for text in curves[0].objectives]
    keys = list(dict.fromkeys([*((each.metric, each.statistic) for each in wanted), *SHOWN]))
    tabs: list[tuple[str, Sequence[Block]]] = [
        (
            f"{title(metric)} {statistic(part)}",
            [Figure(_latency(curves, metric, part, wanted, now), f"{_of(curves)} {MARKS}")],
        )
        for metric, part in keys
    ]
    if any(point.figures.get(COST) is not None for curve in curves for point in curve.points):
        caption = f"Price of the GPUs per million output tokens by load. {MARKS}"
        tabs.append(("Cost", [Figure(_cost(curves, now), caption)]))
    caption = (
        "Output tokens/s of a GPU by those that a user sees, 1 / mean time per output token: further right is faster "
        f"for users, further up cheaper. {MARKS}"
    )
    tabs.append(("Speed", [Figure(_speed(curves), caption)]))
    return Tabs(tabs)


def points_table(curves: Sequence[Curve]) -> Table:
    """Return a row for each point of each curve."""
    load = "users" if curves[0].users else "requests/s"
    keys = ("latency.ttft.p50", "latency.ttft.p90", "latency.ttft.p99", "latency.tbt.p99", "latency.e2e.mean")
    heads = [f"{title(key.split('.')[1])} {statistic(key.split('.')[2])}" for key in keys]
    rows: list[list[Cell | str]] = [
        [
            *([curve.name] if len(curves) > 1 else []),
            Cell(number(point.load), point.load),
            *(Cell(seconds(point.figures[key]), point.figures[key]) for key in keys),
            Cell(number(point.figures[OUTPUT]), point.figures[OUTPUT]),
            Cell(share(point.goodput), point.goodput),
            _dollars(point.dollars_per_million_requests),
            _dollars(point.figures[COST]),
            _what(point, curve),
        ]
        for curve in curves
        for point in curve.points
    ]
    more = ("output tokens/s", "goodput", "$ per million requests", "$ per million output tokens", "")
    return Table([*(["deployment"] if len(curves) > 1 else []), load, *heads, *more], rows)


def _dollars(value: float | None) -> Cell:
    return Cell("–" if value is None else f"{value:,.2f}", value)


def _what(point: Point, curve: Curve) -> Cell:
    marks = [word for word, at in (("knee", curve.knee), ("capacity", curve.capacity)) if point.load == at]
    if point.drift:
        marks.append(f"falls behind by {share(point.drift)}")
    elif point.missed:
        marks.append(f"misses {', '.join(point.missed)}")
    return Cell(", ".join(marks), tone="plain" if point.met else "bad")


def _of(curves: Sequence[Curve]) -> str:
    load = "users who wait for their answers" if curves[0].users else "requests/s"
    return f"Latency by {load}."


def _load_axis(curves: Sequence[Curve]) -> str:
    return "users" if curves[0].users else "requests/s"


def _latency(
    curves: Sequence[Curve],
    metric: str,
    part: str,
    wanted: Sequence[Objective],
    now: Sequence[tuple[str, float, int]],
) -> Picture:
    """A latency by load: one statistic of several deployments, or several of one."""
    shown = [part] if len(curves) > 1 else list(dict.fromkeys([part, *(("mean",) if part == "mean" else LINES)]))
    series = [
        (curve, each, [point.figures.get(f"latency.{metric}.{each}") for point in curve.points])
        for curve in curves
        for each in shown
    ]
    known = [value for _, _, values in series for value in values if value]
    if not known:
        return Picture(_load_axis(curves), title(metric), ())
    limits = [each.limit for each in wanted if (each.metric, each.statistic) == (metric, part)]
    low, high = min([*known, *limits]) / 1.3, max([*known, *limits]) * 1.3
    layers: list[Layer] = []
    for place, (curve, each, values) in enumerate(series):
        name = curve.name if len(curves) > 1 else statistic(each)
        layers += _drawn(curve, [np.nan if value is None else value for value in values], name, place, seconds)
    return Picture(
        _load_axis(curves),
        title(metric),
        layers,
        [
            *(Limit(limit, f"limit {seconds(limit)} for {statistic(part)}", "y") for limit in limits),
            *_loads(curves, now),
        ],
        y="log",
        height=380,
        x_range=_ends(curves, now),
        y_range=(low, high),
        y_ticks=time_ticks(low, high, True),
    )


def _ends(curves: Sequence[Curve], now: Sequence[tuple[str, float, int]]) -> tuple[float, float]:
    """The ends of an axis of loads, which holds those to mark."""
    return 0.0, 1.04 * max([*(point.load for curve in curves for point in curve.points), *(load for _, load, _ in now)])


def _loads(curves: Sequence[Curve], now: Sequence[tuple[str, float, int]]) -> list[Limit]:
    """The loads to mark."""
    return [
        Limit(load, label if len(curves) == 1 else f"{label}, {curves[number_of].name}")
        for label, load, number_of in now
    ]


def _cost(curves: Sequence[Curve], now: Sequence[tuple[str, float, int]]) -> Picture:
    layers: list[Layer] = []
    for place, curve in enumerate(curves):
        values = [np.nan if (value := point.figures.get(COST)) is None else value for point in curve.points]
        name = curve.name if len(curves) > 1 else ""
        layers += _drawn(curve, values, name, place, lambda value: f"${value:,.2f}")
    return Picture(
        _load_axis(curves),
        "$ per million output tokens",
        layers,
        _loads(curves, now),
        y="log",
        height=380,
        x_range=_ends(curves, now),
    )


def _speed(curves: Sequence[Curve]) -> Picture:
    layers: list[Layer] = []
    for place, curve in enumerate(curves):
        speeds = [1 / (point.figures.get("latency.tpot.mean") or np.inf) for point in curve.points]
        values = [(point.figures.get(OUTPUT) or 0.0) / curve.gpus for point in curve.points]
        layers += _drawn(curve, values, curve.name, place, number, speeds)
    labels = "output tokens/s that a user sees", "output tokens/s of a GPU"
    return Picture(*labels, layers, height=380, legend="top_right")


def _drawn(
    curve: Curve,
    values: Sequence[float],
    name: str,
    place: int,
    words: Callable[[float], str],
    at: Sequence[float] | None = None,
) -> list[Layer]:
    """A curve with its points; ``at``: their places on the x axis, by default their loads."""
    xs = [point.load for point in curve.points] if at is None else list(at)
    unit = "users" if curve.users else "requests/s"
    tips = {
        "load": [f"{number(point.load)} {unit}" for point in curve.points],
        "value": [words(value) for value in values],
        "goodput": [share(point.goodput) for point in curve.points],
        "per million requests": [_dollars(point.dollars_per_million_requests).text for point in curve.points],
        "": [_what(point, curve).text for point in curve.points],
    }

    def marks(chosen: Sequence[int], marker: str = "circle", size: int = 6, hollow: bool = False) -> Marks:
        these = {key: [texts[index] for index in chosen] for key, texts in tips.items()}
        return Marks(_at(xs, chosen), _at(values, chosen), place, these, marker, size, hollow)

    places = range(len(curve.points))
    return [
        Line(xs, values, name, place),
        *(
            marks([n for n in places if bool(curve.points[n].drift) == hollow], hollow=hollow)
            for hollow in (False, True)
        ),
        *(
            marks([n for n in places if curve.points[n].load == load], marker, 13)
            for load, marker in ((curve.knee, "diamond"), (curve.capacity, "circle"))
        ),
    ]


def _at(values: Sequence[float], chosen: Sequence[int]) -> list[float]:
    return [values[index] for index in chosen]

"""Distributions of latencies, whose axis is stretched towards the slowest requests."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fastsim.report.headline import judged
from fastsim.report.page import figures
from fastsim.report.page.page import Block, Figure, Tabs, Text
from fastsim.report.page.picture import Limit, Line, Picture
from fastsim.report.runs import Run
from fastsim.report.thin import Curve, Floats
from fastsim.report.words import meaning, seconds, statistic, title

SHARES = (0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999999)
TAIL = "The vertical scale is stretched towards the slowest requests."
THINNED = "The line joins at most 400 points of the distribution, denser towards the slowest; nothing is smoothed."


def stretched(share: Floats, number: int) -> Floats:
    """Return positions on an axis on which P90, P99, P99.9 and so on are equally spaced, for ``number`` requests."""
    return -np.log10(np.maximum(1 - share, 0.5 / max(1, number)))


def latencies(runs: Sequence[Run], log: bool | None = None) -> Block:
    """Return a tab with the distribution of each latency but TBT, of which a result keeps only figures.

    ``log``: as for ``distribution``.
    """
    tabs: list[tuple[str, Sequence[Block]]] = []
    for key in runs[0].curves:
        drawn = [run for run in runs if len(run.curves[key].value)]
        if drawn:
            caption = f"{meaning(f'latency.{key}')}. {TAIL} {THINNED}"
            tabs.append((title(key), [Figure(distribution(key, drawn, drawn[0], log), caption)]))
    return Tabs(tabs) if tabs else Text("No request finished, so there is no latency to show.")


def distribution(key: str, runs: Sequence[Run], limits_of: Run | None = None, log: bool | None = None) -> Picture:
    """Return a picture of the share of requests by latency.

    ``limits_of``: the run whose objectives are drawn as limits; None: of none. ``log``: whether the axis of the
    latencies is logarithmic; None: where they span an order of magnitude.
    """
    curves = [_whole(run.curves[key]) for run in runs]
    scales = _scales(key, curves, max(run.num_finished for run in runs), limits_of, log)
    return Picture(
        title(key),
        "share of requests at or below",
        [
            Line(
                np.maximum(curve.value, scales.least),
                stretched(curve.share, scales.depth),
                run.name if len(runs) > 1 else "",
                run.number,
                tips={
                    "share": [f"{share:.4%}" for share in curve.share.tolist()],
                    "latency": [seconds(value) for value in curve.value.tolist()],
                },
            )
            for run, curve in zip(runs, curves, strict=True)
        ],
        scales.limits,
        x="log" if scales.log else "linear",
        x_range=scales.x_range,
        y_range=scales.y_range,
        x_ticks=scales.x_ticks,
        y_ticks=scales.y_ticks,
    )


def choosable(key: str, runs: Sequence[Run], limits_of: Run) -> object:
    """Return a figure as ``distribution`` does, which shows the runs that are ticked in a table."""
    curves = [_whole(run.curves[key]) for run in runs]
    scales = _scales(key, curves, max(run.num_finished for run in runs), limits_of)
    plot = figures.plot(
        title(key),
        "share of requests at or below",
        x="log" if scales.log else "linear",
        x_range=scales.x_range,
        y_range=scales.y_range,
    )
    figures.ticks(plot.yaxis[0], scales.y_ticks)
    figures.ticks(plot.xaxis[0], scales.x_ticks)
    xs = [np.maximum(curve.value, scales.least) for curve in curves]
    figures.choosable(plot, [run.name for run in runs], xs, [stretched(each.share, scales.depth) for each in curves])
    return plot


class Scales(NamedTuple):
    """The axes of a figure of distributions: ends, ticks, limits, and the requests that 100 % stands for."""

    log: bool
    least: float
    depth: int
    x_range: tuple[float, float]
    y_range: tuple[float, float]
    x_ticks: dict[float, str]
    y_ticks: dict[float, str]
    limits: list[Limit]


def _whole(curve: Curve) -> Curve:
    """The curve with a share of 0 at its least value, so that a single request is a line too."""
    return Curve(np.append(curve.value[:1], curve.value), np.append(0.0, curve.share))


def _scales(key: str, curves: Sequence[Curve], depth: int, limits_of: Run | None, log: bool | None = None) -> Scales:
    largest = max(float(curve.value[-1]) for curve in curves)
    least = max(1e-6, min(_least(curve) for curve in curves))
    # Values that span an order of magnitude need a logarithmic axis; on a linear one most would lie in a corner.
    log = largest > 8 * least if log is None else log
    wanted = [
        outcome
        for outcome in (() if limits_of is None else judged(limits_of))
        if outcome.key.startswith(f"latency.{key}.") and outcome.limit < 4 * largest
    ]
    right = max([largest, *(outcome.limit for outcome in wanted)]) * 1.05
    top = float(stretched(np.ones(1), depth)[0])
    words = {-math.log10(1 - share): f"{share * 100:.6g}%" for share in SHARES}
    return Scales(
        log,
        least,
        depth,
        (least * 0.95 if log else -0.01 * largest, right),
        (-0.06, top + 0.1),
        time_ticks(least, largest, log),
        {0.0: "0", **{at: text for at, text in words.items() if at < top - 0.15}, top: "100%"},
        [Limit(one.limit, f"limit {seconds(one.limit)} for {statistic(one.key.rpartition('.')[2])}") for one in wanted],
    )


def time_ticks(low: float, high: float, log: bool) -> dict[float, str]:
    """Return the positions and labels of ticks for an axis in seconds."""
    if not log:
        step = 10 ** math.floor(math.log10(max(high, 1e-9)))
        step = step / 2 if high / step < 4 else step
        return {n * step: seconds(n * step) for n in range(int(high / step) + 2)}
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    steps = (1,) if last - first > 4 else (1, 3)
    return {
        float(f"{step}e{power}"): seconds(float(f"{step}e{power}"))
        for power in range(first, last + 1)
        for step in steps
    }


def _least(curve: Curve) -> float:
    """The least value above 0, s."""
    positive = curve.value[curve.value > 0]
    return float(positive[0]) if len(positive) else 1e-6

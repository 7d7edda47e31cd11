"""Distributions of latencies, whose axis is stretched towards the slowest requests."""

import math
from collections.abc import Sequence

import numpy as np

from fastsim.report.headline import judged
from fastsim.report.page import figures
from fastsim.report.page.page import Block, Figure, Tabs, Text
from fastsim.report.runs import Run
from fastsim.report.thin import Curve, Floats
from fastsim.report.words import meaning, seconds, statistic, title

SHARES = (0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999999)
TAIL = "The vertical scale is stretched towards the slowest requests."
THINNED = "The line joins at most 400 points of the distribution, denser towards the slowest; nothing is smoothed."


def stretched(share: Floats, number: int) -> Floats:
    """Return positions on an axis on which P90, P99, P99.9 and so on are equally spaced, for ``number`` requests."""
    return -np.log10(np.maximum(1 - share, 0.5 / max(1, number)))


def latencies(runs: Sequence[Run]) -> Block:
    """Return a tab with the distribution of each latency but TBT, of which a result keeps only figures."""
    tabs: list[tuple[str, Sequence[Block]]] = []
    for key in runs[0].curves:
        drawn = [run for run in runs if len(run.curves[key].value)]
        if drawn:
            caption = f"{meaning(f'latency.{key}')}. {TAIL} {THINNED}"
            tabs.append((title(key), [Figure(distribution(key, drawn, limits_of=drawn[0]), caption)]))
    return Tabs(tabs) if tabs else Text("No request finished, so there is no latency to show.")


def distribution(key: str, runs: Sequence[Run], choose: bool = False, limits_of: Run | None = None) -> object:
    """Return a figure of the share of requests by latency; with ``choose``, of the runs that are ticked in a table.

    ``limits_of``: the run whose objectives are drawn as limits; None: of none.
    """
    # Each curve starts with a share of 0 at its least value, so that a single request is a line too.
    curves = [
        Curve(np.append(value[:1], value), np.append(0.0, share)) for value, share in (run.curves[key] for run in runs)
    ]
    largest = max(float(curve.value[-1]) for curve in curves)
    least = max(1e-6, min(_least(curve) for curve in curves))
    depth = max(run.num_finished for run in runs)
    # Values that span an order of magnitude need a logarithmic axis; on a linear one most would lie in a corner.
    log = largest > 8 * least
    limits = [
        outcome
        for outcome in (() if limits_of is None else judged(limits_of))
        if outcome.key.startswith(f"latency.{key}.") and outcome.limit < 4 * largest
    ]
    right = max([largest, *(outcome.limit for outcome in limits)]) * 1.05
    low = least * 0.95 if log else -0.01 * largest
    top = float(stretched(np.ones(1), depth)[0])
    plot = figures.plot(
        f"{title(key)}",
        "share of requests at or below",
        x="log" if log else "linear",
        x_range=(low, right),
        y_range=(-0.06, top + 0.1),
    )
    words = {-math.log10(1 - share): f"{share * 100:.6g}%" for share in SHARES}
    figures.ticks(plot.yaxis[0], {0.0: "0", **{at: text for at, text in words.items() if at < top - 0.15}, top: "100%"})
    figures.ticks(plot.xaxis[0], time_ticks(least, largest, log))
    lines = [(np.maximum(curve.value, least), stretched(curve.share, depth)) for curve in curves]
    if choose:
        figures.choosable(plot, [run.name for run in runs], *map(list, zip(*lines, strict=True)))
        return plot
    for run, curve, (x, y) in zip(runs, curves, lines, strict=True):
        tips = {
            "share": [f"{share:.4%}" for share in curve.share],
            "latency": [seconds(value) for value in curve.value.tolist()],
        }
        figures.line(plot, x, y, run.name if len(runs) > 1 else "", run.number, tips=tips)
    for one in limits:
        figures.limit(plot, one.limit, f"limit {seconds(one.limit)} for {statistic(one.key.rpartition('.')[2])}")
    return plot


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

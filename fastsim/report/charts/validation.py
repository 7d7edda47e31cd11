"""The charts of a measured run beside its prediction: request by request, by quantile and over time."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastsim.report.charts.distribution import TAIL, THINNED, distribution, time_ticks
from fastsim.report.page import figures, markers
from fastsim.report.page.page import Block, Figure, Tabs, Text
from fastsim.report.runs import Run
from fastsim.report.thin import Floats, curve, edges, level, spread
from fastsim.report.words import seconds, title

MOST_POINTS = 2000  # of a scatter plot
NAMES = ("measured", "predicted")
COUNTED = {"running": "Running", "waiting": "Waiting", "in_flight": "In flight"}
MEANING = {
    "running": "Requests that have entered a batch and are not finished",
    "waiting": "Requests that were sent and are not yet in a batch",
    "in_flight": "Requests that were sent and are not finished",
}


class Side(NamedTuple):
    """The requests of one of both runs, float64[num_requests] each, s; None: it is not known."""

    arrived_at: Floats | None
    scheduled_at: Floats | None
    finished_at: Floats | None
    latency: dict[str, Floats]


def scatters(sides: Sequence[Side], known: Sequence[str]) -> Block:
    """Return tabs of predicted against measured latencies, a point for each request."""
    tabs: list[tuple[str, Sequence[Block]]] = []
    for name in known:
        x, y = (side.latency[name] for side in sides)
        rows = np.flatnonzero(~(np.isnan(x) | np.isnan(y)))
        every = -(-len(rows) // MOST_POINTS) if len(rows) else 1
        chosen = rows[::every]
        caption = f"{title(name)} of {'each request' if every == 1 else f'one request in {every:,}'}, in seconds. "
        tabs.append(
            (title(name), [Figure(_scatter(x, y, chosen, title(name)), caption + "On the line both are equal.")])
        )
    return Tabs(tabs)


def _scatter(x: Floats, y: Floats, chosen: NDArray[np.intp], word: str) -> object:
    both = np.concatenate([x[chosen], y[chosen]])
    positive = both[both > 0]
    low, high = (float(positive.min()), float(positive.max())) if len(positive) else (1e-3, 1.0)
    log = high > 8 * low
    ends = (low / 1.15, high * 1.15) if log else (0.0, high * 1.05)
    scale: figures.Scale = "log" if log else "linear"
    plot = figures.plot(
        f"measured {word}", f"predicted {word}", x=scale, y=scale, height=420, x_range=ends, y_range=ends
    )
    for axis in (plot.xaxis[0], plot.yaxis[0]):
        figures.ticks(axis, time_ticks(low, high, log))
    tips = {
        "request": [f"{row:,}" for row in chosen],
        "measured": [seconds(value) for value in x[chosen].tolist()],
        "predicted": [seconds(value) for value in y[chosen].tolist()],
    }
    markers.points(plot, np.maximum(x[chosen], ends[0]), np.maximum(y[chosen], ends[0]), 0, tips)
    figures.line(plot, ends, ends, "", 1)
    return plot


def distributions(sides: Sequence[Side], known: Sequence[str]) -> Block:
    """Return tabs with the distributions of measured and predicted latencies."""
    tabs: list[tuple[str, Sequence[Block]]] = []
    for name in known:
        runs = [
            Run(
                word,
                place,
                {},
                {},
                {},
                int(np.isfinite(side.latency[name]).sum()),
                {name: curve(side.latency[name])},
                None,
            )
            for place, (word, side) in enumerate(zip(NAMES, sides, strict=True))
        ]
        tabs.append((title(name), [Figure(distribution(name, runs), f"{TAIL} {THINNED}")]))
    return Tabs(tabs)


def over_time(sides: Sequence[Side], counted: Iterable[str], known: Sequence[str]) -> Block:
    """Return tabs with the numbers of requests that are ``counted`` and the ``known`` latencies over time."""
    begins = [side.arrived_at for side in sides if side.arrived_at is not None]
    ends = [side.finished_at for side in sides if side.finished_at is not None]
    if len(begins) < 2 or len(ends) < 2:
        return Text("The file does not say when requests were sent, so there is nothing to show over time.")
    last = max(float(np.nanmax(each)) if np.isfinite(each).any() else float(begins[0].max()) for each in ends)
    at = edges(min(float(each.min()) for each in begins), last)
    tabs: list[tuple[str, Sequence[Block]]] = []
    for name in counted:
        plot = figures.plot("time in s", f"requests {COUNTED[name].lower()}", y_range=figures.from_zero())
        for place, (word, side) in enumerate(zip(NAMES, sides, strict=True)):
            between = {
                "running": (side.scheduled_at, side.finished_at),
                "waiting": (side.arrived_at, side.scheduled_at),
                "in_flight": (side.arrived_at, side.finished_at),
            }[name]
            first, then = between
            assert first is not None and then is not None
            figures.line(plot, (at[1:] + at[:-1]) / 2, level(first, then, at).mean, word, place)
        tabs.append((COUNTED[name], [Figure(plot, f"{MEANING[name]}: means of {len(at) - 1} equal parts of the run.")]))
    for name in known:
        plot = figures.plot("time of sending in s", f"{title(name)} in s", y_range=figures.from_zero())
        for place, (word, side) in enumerate(zip(NAMES, sides, strict=True)):
            assert side.arrived_at is not None
            found = spread(side.arrived_at, side.latency[name], at)
            middle = (at[1:] + at[:-1]) / 2
            seen = np.isfinite(found.median)
            figures.line(plot, middle[seen], found.median[seen], word, place)
        caption = f"Median {title(name)} of the requests that are sent in each of {len(at) - 1} equal parts of the run."
        tabs.append((title(name), [Figure(plot, caption)]))
    return Tabs(tabs)

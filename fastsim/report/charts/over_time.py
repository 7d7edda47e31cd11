"""The queue, running requests, latencies and rates over the time of a run."""

from collections.abc import Callable, Sequence

import numpy as np

from fastsim.report.page.page import Block, Figure, Tabs, Text
from fastsim.report.page.palette import LINES
from fastsim.report.page.picture import Band, Layer, Line, Picture
from fastsim.report.runs import Detail, Run
from fastsim.report.thin import Level
from fastsim.report.words import meaning, seconds, title

LIKE = {"busy": "utilisation.busy", "kv": "utilisation.mean_kv"}  # series with the definition of these figures


def over_time(runs: Sequence[Run]) -> Block:
    """Return tabs with the queue, the running requests, latencies and rates over time."""
    known = [(run, run.detail) for run in runs if run.detail is not None]
    if not known:
        return Text("No requests arrived, so there is nothing to show over time.")
    bins = len(known[0][1].queue.mean)
    line = f"The line shows the mean of each of {bins} equal parts of the run, the band its minimum and maximum."
    tabs: list[tuple[str, Sequence[Block]]] = [
        (
            "Queue",
            [
                Figure(
                    _levels(known, lambda d: d.queue, "waiting requests"),
                    f"Requests that have arrived and are not yet in a batch. {line}",
                )
            ],
        ),
        (
            "Running",
            [
                Figure(
                    _levels(known, lambda d: d.running, "running requests"),
                    f"Requests that have entered a batch and are not finished. {line}",
                )
            ],
        ),
    ]
    for key in ("ttft", "e2e"):
        what = "median, P90 and maximum" if len(known) == 1 else "the median, and a band up to P90"
        caption = f"{title(key)} of the requests that arrive in each of {bins} equal parts of the run: {what}."
        tabs.append((title(key), [Figure(_spreads(known, key), caption)]))
    tabs.append(
        (
            "Arrivals and completions",
            [Figure(_rates(known), f"Requests per second, as means over {bins} equal parts of the run.")],
        )
    )
    return Tabs([*tabs, *_series(runs)])


def _series(runs: Sequence[Run]) -> list[tuple[str, Sequence[Block]]]:
    """Tabs with the series of the summary: tokens per second, busy stages and KV memory."""
    known = [run for run in runs if run.summary.get("series", {}).get("time")]
    tabs: list[tuple[str, Sequence[Block]]] = []
    for name, keys in (("Tokens", ("prefill_tokens", "decode_tokens")), ("Busy", ("busy",)), ("KV memory", ("kv",))):
        drawn = [(run, key) for key in keys for run in known if run.summary["series"].get(key)]
        if not drawn:
            continue
        layers: list[Layer] = []
        for run, key in drawn:
            label = [run.name] if len(runs) > 1 else []
            label += [title(key)] if len(keys) > 1 else []
            series = run.summary["series"]
            width = float(series.get("interval_s") or 0.0)
            at = np.array(series["time"], np.float64) + width / 2
            # Each of several runs has its own colour, and its second line is dashed.
            number = run.number + len(LINES) * keys.index(key) if len(runs) > 1 else keys.index(key)
            layers.append(Line(at, series[key], ": ".join(label), number))
        caption = "; ".join(meaning(LIKE.get(key, f"series.{key}")) for key in keys)
        width = float(drawn[0][0].summary["series"].get("interval_s") or 0.0)
        unit = "tokens per second" if name == "Tokens" else "share"
        plot = Picture("time in s", unit, layers, y_range="from zero")
        tabs.append((name, [Figure(plot, f"{caption}. Means over {seconds(width)}.")]))
    return tabs


def _levels(known: Sequence[tuple[Run, Detail]], which: Callable[[Detail], Level], label: str) -> Picture:
    """Lines and bands of a count over time; ``which`` picks the count from the detail of a run."""
    layers: list[Layer] = []
    for run, detail in known:
        level = which(detail)
        middle = (level.edges[1:] + level.edges[:-1]) / 2
        layers.append(Band(middle, level.low, level.high, run.number))
        layers.append(Line(middle, level.mean, run.name if len(known) > 1 else "", run.number))
    return Picture("time in s", label, layers, y_range="from zero")


def _spreads(known: Sequence[tuple[Run, Detail]], key: str) -> Picture:
    """A latency by time of arrival, s."""
    layers: list[Layer] = []
    for run, detail in known:
        spread = detail.latency[key]
        middle = (spread.edges[1:] + spread.edges[:-1]) / 2
        if len(known) == 1:
            for number, (name, values) in enumerate(
                (("median", spread.median), ("P90", spread.p90), ("maximum", spread.high))
            ):
                layers.append(Line(middle, values, name, number))
        else:
            layers.append(Band(middle, spread.median, spread.p90, run.number))
            layers.append(Line(middle, spread.median, run.name, run.number))
    return Picture("time of arrival in s", f"{title(key)} in s", layers, y_range="from zero")


def _rates(known: Sequence[tuple[Run, Detail]]) -> Picture:
    """Arrivals of a single run and completions of all runs, requests/s."""
    layers: list[Layer] = []
    for run, detail in known:
        middle = (detail.queue.edges[1:] + detail.queue.edges[:-1]) / 2
        if len(known) == 1:
            layers.append(Line(middle, detail.arrivals, "arrivals", 0))
        name = run.name if len(known) > 1 else "completions"
        layers.append(Line(middle, detail.completions, name, max(run.number, int(len(known) == 1))))
    return Picture("time in s", "requests per second", layers, y_range="from zero")

"""The figures of a report, of one run or overlaid for a few."""

import math
from collections.abc import Callable, Sequence

import numpy as np

from fastsim.report.headline import judged
from fastsim.report.page import figures
from fastsim.report.page.page import Block, Figure, Tabs, Text
from fastsim.report.page.palette import LINES
from fastsim.report.runs import Detail, Group, Run
from fastsim.report.thin import Curve, Floats, Level
from fastsim.report.words import meaning, seconds, statistic, title

SHARES = (0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999999)
OPERATORS = 8  # shown by name, and the others together
LIKE = {"busy": "utilisation.busy", "kv": "utilisation.mean_kv"}  # series of these figures
TAIL = "The scale is stretched towards the slowest requests, so that they can be seen."
THINNED = "Points of the distribution itself, at most 400, closer together towards the slowest; nothing is smoothed."


def stretched(share: Floats, number: int) -> Floats:
    """Places on an axis where P90, P99, P99.9 .. are equally far apart; all of ``number`` requests are at its end."""
    return -np.log10(np.maximum(1 - share, 0.5 / max(1, number)))


def latencies(runs: Sequence[Run]) -> Block:
    """Distributions of every latency, by tab; TBT is only known by its figures."""
    tabs: list[tuple[str, Sequence[Block]]] = []
    for key in runs[0].curves:
        drawn = [run for run in runs if len(run.curves[key].value)]
        if drawn:
            tabs.append(
                (title(key), [Figure(distribution(key, drawn), f"{meaning(f'latency.{key}')}. {TAIL} {THINNED}")])
            )
    return Tabs(tabs) if tabs else Text("No request finished, so there is no latency to show.")


def distribution(key: str, runs: Sequence[Run], choose: bool = False) -> object:
    """Shares of requests by latency; ``choose``: of the runs that are ticked in a table."""
    # Up from no request at the least value: a single request is a line too.
    curves = [
        Curve(np.append(value[:1], value), np.append(0.0, share)) for value, share in (run.curves[key] for run in runs)
    ]
    largest = max(float(curve.value[-1]) for curve in curves)
    least = max(1e-6, min(_least(curve) for curve in curves))
    depth = max(run.num_finished for run in runs)
    # A logarithmic axis for values that have an order of magnitude between them; else they would sit in a corner.
    log = largest > 8 * least
    limits = [one for one in judged(runs[0]) if one.key.startswith(f"latency.{key}.") and one.limit < 4 * largest]
    right = max([largest, *(one.limit for one in limits)]) * 1.05
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
    figures.ticks(plot.yaxis[0], {0.0: "0", **{at: said for at, said in words.items() if at < top - 0.15}, top: "100%"})
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
        figures.line(plot, x, y, run.name if len(runs) > 1 else "", run.place, tips=tips)
    for one in limits:
        figures.limit(plot, one.limit, f"limit {seconds(one.limit)} for {statistic(one.key.rpartition('.')[2])}")
    return plot


def time_ticks(low: float, high: float, log: bool) -> dict[float, str]:
    """Places and words for an axis of seconds."""
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
    positive = curve.value[curve.value > 0]
    return float(positive[0]) if len(positive) else 1e-6


def over_time(runs: Sequence[Run]) -> Block:
    """Queue, running requests, latencies and rates over time."""
    known = [(run, run.detail) for run in runs if run.detail is not None]
    if not known:
        return Text("No request arrived, so there is nothing to show over time.")
    bins = len(known[0][1].queue.mean)
    line = f"The run in {bins} equal parts: the line is the mean of each, the band reaches from its least to its most."
    tabs: list[tuple[str, Sequence[Block]]] = [
        (
            "Queue",
            [
                Figure(
                    _levels(known, lambda d: d.queue, "requests that wait"),
                    f"Requests that have arrived and not begun. {line}",
                )
            ],
        ),
        (
            "Running",
            [
                Figure(
                    _levels(known, lambda d: d.running, "requests under way"),
                    f"Requests that have begun and not finished. {line}",
                )
            ],
        ),
    ]
    for key in ("ttft", "e2e"):
        what = "median, P90 and slowest" if len(known) == 1 else "median, and a band up to P90"
        caption = f"{title(key)} of the requests that arrive in each of {bins} equal parts of the run: {what}."
        tabs.append((title(key), [Figure(_spreads(known, key), caption)]))
    tabs.append(
        (
            "Arrivals and completions",
            [Figure(_rates(known), f"Requests per second, mean of each of {bins} equal parts of the run.")],
        )
    )
    return Tabs([*tabs, *_series(runs)])


def _series(runs: Sequence[Run]) -> list[tuple[str, Sequence[Block]]]:
    """What the kernel summed up by intervals: tokens, use of stages and of memory."""
    known = [run for run in runs if run.summary.get("series", {}).get("time")]
    tabs: list[tuple[str, Sequence[Block]]] = []
    for name, keys in (("Tokens", ("prefill_tokens", "decode_tokens")), ("Busy", ("busy",)), ("KV memory", ("kv",))):
        drawn = [(run, key) for key in keys for run in known if run.summary["series"].get(key)]
        if not drawn:
            continue
        plot = figures.plot(
            "time in s", "tokens per second" if name == "Tokens" else "share", y_range=figures.from_zero()
        )
        for run, key in drawn:
            label = [run.name] if len(runs) > 1 else []
            label += [title(key)] if len(keys) > 1 else []
            series = run.summary["series"]
            width = float(series.get("interval_s") or 0.0)
            at = np.array(series["time"], np.float64) + width / 2
            # Of several runs each has its colour, and the second figure is dashed.
            number = run.place + len(LINES) * keys.index(key) if len(runs) > 1 else keys.index(key)
            figures.line(plot, at, series[key], ": ".join(label), number)
        caption = "; ".join(meaning(LIKE.get(key, f"series.{key}")) for key in keys)
        width = float(drawn[0][0].summary["series"].get("interval_s") or 0.0)
        tabs.append((name, [Figure(plot, f"{caption}. Mean of each {seconds(width)}.")]))
    return tabs


def operators(runs: Sequence[Run]) -> list[Block]:
    """GPU time by operator, where the summary holds it."""
    known = [(run, found) for run in runs if (found := run.summary.get("operators"))]
    if not known:
        return []
    rows = [run.name if len(runs) > 1 else "all stages" for run, _ in known]
    totals = {name: math.fsum(found.get(name, 0.0) for _, found in known) for name in dict(known[0][1])}
    shown = sorted(totals, key=lambda name: -totals[name])[: OPERATORS - 1]
    parts: dict[str, list[float]] = {name: [] for name in [*shown, "others"]}
    for _, found in known:
        whole = math.fsum(found.values()) or 1.0
        for name in shown:
            parts[name].append(100 * found.get(name, 0.0) / whole)
        parts["others"].append(100 * math.fsum(value for name, value in found.items() if name not in shown) / whole)
    plot = figures.plot("per cent of the GPU time", "", y_range=rows[::-1], height=90 + 34 * len(rows))
    plot.yaxis.axis_label = None
    legend = figures.stacked(plot, rows, parts, "%")
    return [Figure(plot, "GPU time by operator over the run; attention is what remains.", legend)]


def _levels(known: Sequence[tuple[Run, Detail]], which: Callable[[Detail], Level], label: str) -> object:
    plot = figures.plot("time in s", label, y_range=figures.from_zero())
    for run, detail in known:
        level = which(detail)
        middle = (level.edges[1:] + level.edges[:-1]) / 2
        figures.band(plot, middle, level.low, level.high, run.place)
        figures.line(plot, middle, level.mean, run.name if len(known) > 1 else "", run.place)
    return plot


def _spreads(known: Sequence[tuple[Run, Detail]], key: str) -> object:
    plot = figures.plot("time of arrival in s", f"{title(key)} in s", y_range=figures.from_zero())
    for run, detail in known:
        found = detail.latency[key]
        middle = (found.edges[1:] + found.edges[:-1]) / 2
        if len(known) == 1:
            for number, (name, values) in enumerate(
                (("median", found.median), ("P90", found.p90), ("slowest", found.high))
            ):
                figures.line(plot, middle, values, name, number)
        else:
            figures.band(plot, middle, found.median, found.p90, run.place)
            figures.line(plot, middle, found.median, run.name, run.place)
    return plot


def _rates(known: Sequence[tuple[Run, Detail]]) -> object:
    plot = figures.plot("time in s", "requests per second", y_range=figures.from_zero())
    for run, detail in known:
        middle = (detail.queue.edges[1:] + detail.queue.edges[:-1]) / 2
        if len(known) == 1:
            figures.line(plot, middle, detail.arrivals, "arrivals", 0)
        figures.line(
            plot,
            middle,
            detail.completions,
            run.name if len(known) > 1 else "completions",
            max(run.place, int(len(known) == 1)),
        )
    return plot


def tail(runs: Sequence[Run]) -> Block:
    """Where slow requests lost their time."""
    tabs: list[tuple[str, Sequence[Block]]] = []
    sorts: tuple[tuple[str, str, Callable[[Detail], list[Group]]], ...] = (
        ("End to end", "What the time from arrival to the last token is made of", lambda detail: detail.by_e2e),
        ("First token", "What the time to the first token is made of", lambda detail: detail.by_ttft),
    )
    for name, caption, which in sorts:
        bars = [(run, group) for run in runs if run.detail for group in which(run.detail)]
        if bars:
            text = f"{caption}: the mean over all requests, over the slowest tenth and over the slowest hundredth. "
            tabs.append((name, [_parts(bars, len(runs) > 1, text + "The parts add up to the whole.")]))
    return Tabs(tabs) if tabs else Text("No request finished, so there is no time to break down.")


def _parts(bars: Sequence[tuple[Run, Group]], several: bool, caption: str) -> Figure:
    rows = [f"{run.name}: {group.name}" if several else f"{group.name} ({group.number:,})" for run, group in bars]
    names = [part for part in bars[0][1].parts if any(group.parts.get(part, 0.0) > 0 for _, group in bars)]
    parts = {title(name).replace("_", " "): [group.parts.get(name, 0.0) for _, group in bars] for name in names}
    plot = figures.plot("seconds", "", y_range=rows[::-1], height=90 + 34 * len(rows))
    plot.yaxis.axis_label = None
    return Figure(plot, caption, figures.stacked(plot, rows, parts, "s"))


def composition(runs: Sequence[Run]) -> Block:
    """What batches hold, and the memory and time that they take."""
    known = [(run, run.detail.batches) for run in runs if run.detail and run.detail.batches]
    if not known:
        return Text("Batches were not kept; simulate with `--iterations` to see them.")
    several = len(runs) > 1
    others = [run.name for run in runs if all(run is not other for other, _ in known)]
    missing = f" Not kept by {', '.join(others)}." if others else ""
    tabs: list[tuple[str, Sequence[Block]]] = []
    for name, label, which in (
        ("Requests", "requests in a batch", "sizes"),
        ("Decode tokens", "tokens of decodes in a batch", "decode"),
        ("Prompt tokens", "tokens of prompts in a batch that has any", "prefill"),
    ):
        plot = figures.plot(label, "share of batches" if several else "batches", y_range=figures.from_zero())
        for run, kept in known:
            at, counts = getattr(kept, which)
            if several:
                figures.line(plot, at[:-1], counts / max(1.0, counts.sum()), run.name, run.place, step=True)
            else:
                figures.bars(plot, at[:-1], at[1:], counts, 0, "batches")
        tabs.append((name, [Figure(plot, f"How many batches had how many {label.partition(' in a')[0]}.{missing}")]))
    # The summary's series say it of every run; what follows is for results that have none.
    ours = (
        ("KV memory", "KV blocks held", "Most KV blocks held when a batch of a replica starts"),
        ("Busy", "share of stages at work", "Share of pipeline stages that work"),
    )
    for name, label, what in () if any(run.summary.get("series") for run in runs) else ours:
        plot = figures.plot("time in s", label, y_range=figures.from_zero())
        for run, kept in known:
            at, values = kept.kv.edges, kept.kv.high if name == "KV memory" else kept.busy
            figures.line(plot, (at[1:] + at[:-1]) / 2, values, run.name if several else "", run.place)
        tabs.append((name, [Figure(plot, f"{what}, by equal parts of the run.{missing}")]))
    return Tabs(tabs)

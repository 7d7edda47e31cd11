"""The charts of a page, of one run or overlaid for a few."""

import math
from collections.abc import Callable, Sequence

import numpy as np

from fastsim.report.headline import judged
from fastsim.report.page import figures
from fastsim.report.page.page import Block, Figure, Tabs, Text
from fastsim.report.page.palette import LINES
from fastsim.report.runs import Batches, Detail, Group, Run
from fastsim.report.thin import Curve, Floats, Level
from fastsim.report.words import meaning, seconds, statistic, title
from fastsim.result import wording

SHARES = (0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999999)
OPERATORS = 8  # bars of operators, the last of which sums up all others
LIKE = {"busy": "utilisation.busy", "kv": "utilisation.mean_kv"}  # series with the definition of these figures
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
            tabs.append(
                (
                    title(key),
                    [
                        Figure(
                            distribution(key, drawn, limits_of=drawn[0]),
                            f"{meaning(f'latency.{key}')}. {TAIL} {THINNED}",
                        )
                    ],
                )
            )
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
        plot = figures.plot(
            "time in s", "tokens per second" if name == "Tokens" else "share", y_range=figures.from_zero()
        )
        for run, key in drawn:
            label = [run.name] if len(runs) > 1 else []
            label += [title(key)] if len(keys) > 1 else []
            series = run.summary["series"]
            width = float(series.get("interval_s") or 0.0)
            at = np.array(series["time"], np.float64) + width / 2
            # Each of several runs has its own colour, and its second line is dashed.
            number = run.number + len(LINES) * keys.index(key) if len(runs) > 1 else keys.index(key)
            figures.line(plot, at, series[key], ": ".join(label), number)
        caption = "; ".join(meaning(LIKE.get(key, f"series.{key}")) for key in keys)
        width = float(drawn[0][0].summary["series"].get("interval_s") or 0.0)
        tabs.append((name, [Figure(plot, f"{caption}. Means over {seconds(width)}.")]))
    return tabs


def operators(runs: Sequence[Run]) -> list[Block]:
    """Return a chart of the GPU time by operator, if the summary holds it."""
    known = [(run, times) for run in runs if (times := run.summary.get("operators"))]
    if not known:
        return []
    rows = [run.name if len(runs) > 1 else "all stages" for run, _ in known]
    totals = {name: math.fsum(times.get(name, 0.0) for _, times in known) for name in dict(known[0][1])}
    shown = sorted(totals, key=lambda name: -totals[name])[: OPERATORS - 1]
    parts: dict[str, list[float]] = {name: [] for name in [*shown, "others"]}
    for _, times in known:
        whole = math.fsum(times.values()) or 1.0
        for name in shown:
            parts[name].append(100 * times.get(name, 0.0) / whole)
        parts["others"].append(100 * math.fsum(value for name, value in times.items() if name not in shown) / whole)
    plot = figures.plot("per cent of the GPU time", "", y_range=rows[::-1], height=90 + 34 * len(rows))
    plot.yaxis.axis_label = None
    legend = figures.stacked(plot, rows, parts, "%")
    return [Figure(plot, "GPU time by operator over the run; attention takes what the others leave.", legend)]


def _levels(known: Sequence[tuple[Run, Detail]], which: Callable[[Detail], Level], label: str) -> object:
    """Lines and bands of a count over time; ``which`` picks the count from the detail of a run."""
    plot = figures.plot("time in s", label, y_range=figures.from_zero())
    for run, detail in known:
        level = which(detail)
        middle = (level.edges[1:] + level.edges[:-1]) / 2
        figures.band(plot, middle, level.low, level.high, run.number)
        figures.line(plot, middle, level.mean, run.name if len(known) > 1 else "", run.number)
    return plot


def _spreads(known: Sequence[tuple[Run, Detail]], key: str) -> object:
    """A latency by time of arrival, s."""
    plot = figures.plot("time of arrival in s", f"{title(key)} in s", y_range=figures.from_zero())
    for run, detail in known:
        spread = detail.latency[key]
        middle = (spread.edges[1:] + spread.edges[:-1]) / 2
        if len(known) == 1:
            for number, (name, values) in enumerate(
                (("median", spread.median), ("P90", spread.p90), ("maximum", spread.high))
            ):
                figures.line(plot, middle, values, name, number)
        else:
            figures.band(plot, middle, spread.median, spread.p90, run.number)
            figures.line(plot, middle, spread.median, run.name, run.number)
    return plot


def _rates(known: Sequence[tuple[Run, Detail]]) -> object:
    """Arrivals of a single run and completions of all runs, requests/s."""
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
            max(run.number, int(len(known) == 1)),
        )
    return plot


def tail(runs: Sequence[Run]) -> Block:
    """Return tabs that show where slow requests spend their time."""
    tabs: list[tuple[str, Sequence[Block]]] = []
    sorts: tuple[tuple[str, str, Callable[[Detail], list[Group]]], ...] = (
        ("E2E", "Parts of the time from arrival to the last token", lambda detail: detail.by_e2e),
        ("TTFT", "Parts of the time from arrival to the first token", lambda detail: detail.by_ttft),
    )
    for name, caption, which in sorts:
        bars = [(run, group) for run in runs if run.detail for group in which(run.detail)]
        if bars:
            text = f"{caption}, as means over all requests, the slowest 10 % and the slowest 1 %. "
            tabs.append((name, [_parts(bars, len(runs) > 1, text + "The parts add up to the total.")]))
    return Tabs(tabs) if tabs else Text("No request finished, so there is no time to break down.")


def _parts(bars: Sequence[tuple[Run, Group]], several: bool, caption: str) -> Figure:
    """Stacked bars of the parts of the time of groups of requests, s."""
    rows = [f"{run.name}: {group.name}" if several else f"{group.name} ({group.number:,})" for run, group in bars]
    names = [part for part in bars[0][1].parts if any(group.parts.get(part, 0.0) > 0 for _, group in bars)]
    words = wording.of(*(run.config for run, _ in bars))
    parts = {
        title(wording.section(name, words)).replace("_", " "): [group.parts.get(name, 0.0) for _, group in bars]
        for name in names
    }
    plot = figures.plot("seconds", "", y_range=rows[::-1], height=90 + 34 * len(rows))
    plot.yaxis.axis_label = None
    return Figure(plot, caption, figures.stacked(plot, rows, parts, "s"))


def composition(runs: Sequence[Run]) -> Block:
    """Return tabs with the sizes of batches, and for older results with KV memory and busy stages over time."""
    known = [(run, run.detail.batches) for run in runs if run.detail and run.detail.batches]
    if not known:
        return Text("The result holds no batches; simulate with `--iterations` to see them.")
    several = len(runs) > 1
    others = [run.name for run in runs if all(run is not other for other, _ in known)]
    missing = f" Not in the results {', '.join(others)}." if others else ""
    tabs: list[tuple[str, Sequence[Block]]] = []
    for name, label, which in (
        ("Requests", "requests in a batch", "sizes"),
        ("Decode tokens", "decode tokens in a batch", "decode"),
        ("Prompt tokens", "prompt tokens in a batch that has any", "prefill"),
    ):
        plot = figures.plot(label, "share of batches" if several else "batches", y_range=figures.from_zero())
        for run, kept in known:
            at, counts = getattr(kept, which)
            if several:
                figures.line(plot, at[:-1], counts / max(1.0, counts.sum()), run.name, run.number, step=True)
            else:
                figures.bars(plot, at[:-1], at[1:], counts, 0, "batches")
        tabs.append((name, [Figure(plot, f"Batches by number of {label.partition(' in a')[0]}.{missing}")]))
    # The series of the summary show this for every run; these tabs are for results that have none.
    ours = (
        ("KV memory", "KV blocks held", "Most KV blocks held by a replica when a batch starts"),
        ("Busy", "share of busy stages", "Share of busy pipeline stages"),
    )
    for name, label, what in () if any(run.summary.get("series") for run in runs) else ours:
        plot = figures.plot("time in s", label, y_range=figures.from_zero())
        for run, kept in known:
            at, values = kept.kv.edges, kept.kv.high if name == "KV memory" else kept.busy
            figures.line(plot, (at[1:] + at[:-1]) / 2, values, run.name if several else "", run.number)
        tabs.append((name, [Figure(plot, f"{what}, in equal parts of the run.{missing}")]))
    return Tabs([*tabs, *_engine(known)])


def _engine(known: Sequence[tuple[Run, Batches]]) -> list[tuple[str, Sequence[Block]]]:
    """Tabs with preemptions and cached tokens over time, where a run of an engine has any."""
    tabs: list[tuple[str, Sequence[Block]]] = []
    words = wording.of(*(run.config for run, _ in known))
    for name, label, what, which in (
        (
            words.losses.capitalize(),
            f"requests {words.lost}",
            "Requests that lost their KV blocks to others",
            "preempted",
        ),
        ("Cached tokens", "cached tokens", f"Tokens that admitted requests found in the {words.cache}", "cached"),
    ):
        drawn = [(run, kept, values) for run, kept in known if (values := getattr(kept, which)) is not None]
        drawn = [each for each in drawn if each[2].any()]
        if not drawn:
            continue
        plot = figures.plot("time in s", label, y_range=figures.from_zero())
        for run, kept, values in drawn:
            at = kept.kv.edges
            figures.line(plot, (at[1:] + at[:-1]) / 2, values, run.name if len(known) > 1 else "", run.number)
        tabs.append((name, [Figure(plot, f"{what}, in equal parts of the run.")]))
    return tabs

"""Where the time of requests and of GPUs is spent, as stacked bars."""

import math
from collections.abc import Callable, Sequence

from fastsim.report.page.page import Block, Figure, Tabs, Text
from fastsim.report.page.picture import Picture, Stack
from fastsim.report.runs import Detail, Group, Run
from fastsim.report.words import title
from fastsim.result import wording

OPERATORS = 8  # bars of operators, the last of which sums up all others


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
    # All parts, so that figures of several runs are of one shape; but none of the router, which takes no time.
    routed = any(group.parts.get("routing_wait", 0.0) > 0 for _, group in bars)
    names = [
        part
        for part in dict.fromkeys(part for _, group in bars for part in group.parts)
        if routed or part != "routing_wait"
    ]
    words = wording.of(*(run.config for run, _ in bars))
    parts = {
        title(wording.section(name, words)).replace("_", " "): [group.parts.get(name, 0.0) for _, group in bars]
        for name in names
    }
    height = 90 + 34 * len(rows)
    return Figure(Picture("seconds", "", [Stack(rows, parts, "s")], y_range=rows[::-1], height=height), caption)


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
    height = 90 + 34 * len(rows)
    plot = Picture("per cent of the GPU time", "", [Stack(rows, parts, "%")], y_range=rows[::-1], height=height)
    return [Figure(plot, "GPU time by operator over the run; attention takes what the others leave.")]

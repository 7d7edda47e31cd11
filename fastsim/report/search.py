"""The page of a search: the winner, the Pareto front, the effect of each setting and objective, and the table."""

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from bokeh.models import ColorBar, ColumnDataSource, HoverTool, LinearColorMapper
from bokeh.palettes import Viridis256

from fastsim.planning.load_curve import Curve
from fastsim.planning.ranking import RANKINGS, lower_is_better, pareto
from fastsim.planning.search import SearchResult
from fastsim.planning.sensitivity import Variation, name_of
from fastsim.report.curve import section
from fastsim.report.page.figures import legend, line, plot, ticks
from fastsim.report.page.page import Block, Card, Cards, Cell, Figure, Section, Table, Tabs, Text, page
from fastsim.report.page.palette import INK, LINES, MUTED
from fastsim.result.metrics.definitions import headline
from fastsim.sweeps.configuration import Row

SETTINGS = (
    "device",
    "tensor_parallel_size",
    "pipeline_parallel_size",
    "data_parallel_size",
    "enable_expert_parallel",
    "num_replicas",
    "scheduler.policy",
    "scheduler.chunk_size",
    "scheduler.max_num_batched_tokens",
    "scheduler.max_num_seqs",
)
FIGURES = ("capacity", "qps_per_dollar", "latency.ttft.p90", "latency.tbt.p99", "latency.e2e.mean")
MOST_LINES = 300  # lines of the parallel coordinates; more would merge into an area
MOST_ROWS = 500  # rows of the table


def search_page(
    found: SearchResult, varied: Sequence[Variation], metrics: Sequence[str], curves: Sequence[Curve] = ()
) -> str:
    """Return the page about a search as HTML.

    Parameters
    ----------
    found : SearchResult
        What ``planning.search.search`` returned.
    varied : sequence of Variation
        The effects of tighter and looser objectives; empty if they were not computed.
    metrics : sequence of str
        The two or three figures of the Pareto front, as columns of the search.
    curves : sequence of Curve
        Latency against load of the winner and the runner-up, as ``planning.curves.of_search`` draws it.
    """
    able = [row for row in found.rows if row["score"]]
    lead = f"{len(able):,} of {len(found.rows):,} configurations meet {', '.join(found.objectives)}."
    if not able:
        return page("Search", [Section("No winner", [Text(note) for note in found.notes])], lead)
    sections = [
        Section("Winner", list(_winner(found, able[0])), f"By {RANKINGS[found.rank].meaning}."),
        *([section(curves)] if curves else []),
        Section("Pareto front", [_pareto(able, metrics)]),
        Section("Settings", [_parallel(able), *_heat_maps(able)]),
        Section("Cost against objectives", list(_objectives(able, varied))),
        Section("Configurations", [_table(able)]),
    ]
    return page(f"Search: {able[0]['model'].rpartition('/')[2]}", sections, lead)


def _winner(found: SearchResult, best: Row) -> Iterator[Block]:
    """The figures of the winner, what limits it and the runner-up, and notes."""
    within = "within the objectives" + (f", of {best['users']:,} users" if best.get("users") else "")
    yield Cards(
        [
            Card("Winner", name_of(best), f"{best['num_replicas']} replicas, {best['gpus']} GPUs"),
            Card("Capacity", f"{best['capacity']:.4g} requests/s", within),
            Card("Per dollar", f"{best['qps_per_dollar']:.4g} requests/s", "for $1 an hour"),
            Card("Cost", f"${best['dollars_per_hour']:.2f}/h"),
            Card("Simulations", f"{found.num_runs:,}", f"{found.num_simulated:,} requests in {found.seconds:.1f} s"),
        ]
    )
    for rank, limit in zip(("Winner", "Runner-up"), found.limits, strict=False):
        yield Text(f"{rank}: limited by {limit}")
    for note in found.notes:
        yield Text(note, "note")


def _pareto(able: Sequence[Row], metrics: Sequence[str]) -> Figure:
    """All configurations by the first two figures, with the Pareto front marked."""
    y, x = metrics[:2]
    plotted = plot(headline(x).heading, headline(y).heading, height=420)
    shown = [row for row in able if row.get(x) is not None and row.get(y) is not None]
    for number, device in enumerate(dict.fromkeys(row["device"] for row in shown)):
        rows = [row for row in shown if row["device"] == device]
        _points(plotted, rows, x, y, LINES[number % len(LINES)], device, 7)
    front = sorted((able[number] for number in pareto(able, metrics)), key=lambda row: float(row[x]))
    _points(plotted, front, x, y, INK, "Pareto front", 12, hollow=True)
    legend(plotted, location="bottom_right")
    better = (f"{'lower' if lower_is_better(name) else 'higher'} {headline(name).heading}" for name in metrics)
    return Figure(plotted, f"{len(front)} configurations form the Pareto front for {' and '.join(better)}.")


def _points(
    plotted: Any, rows: Sequence[Row], x: str, y: str, colour: str, name: str, size: int, hollow: bool = False
) -> None:
    """Draw a point for each configuration."""
    source = ColumnDataSource(
        {
            "x": [row[x] for row in rows],
            "y": [row[y] for row in rows],
            "name": [name_of(row) for row in rows],
            "rate": [row["capacity"] for row in rows],
            "limit": [row["limited_by"] for row in rows],
        }
    )
    fill = {"fill_alpha": 0.0} if hollow else {"fill_color": colour, "fill_alpha": 0.6}
    look = {"line_color": colour, "legend_label": name, "size": size, **fill}
    drawn = plotted.scatter("x", "y", source=source, **look)
    tips = [("", "@name"), (plotted.yaxis[0].axis_label, "@y{0.[000]}"), (plotted.xaxis[0].axis_label, "@x{0.[0000]}")]
    plotted.add_tools(
        HoverTool(
            renderers=[drawn], tooltips=[*tips, ("requests/s", "@rate{0.[00]}"), ("limit", "@limit")], visible=False
        )
    )


def _settings(rows: Sequence[Row]) -> list[str]:
    """The settings of a configuration, those of its pools among them."""
    return [*SETTINGS, *(name for name in rows[0] if name.startswith("pools."))]


def _varying(rows: Sequence[Row]) -> list[str]:
    """The settings that differ between configurations."""
    return [name for name in _settings(rows) if len({row.get(name) for row in rows}) > 1]


def _levels(rows: Sequence[Row], setting: str) -> list[Any]:
    """The values of a setting, in order."""
    return sorted(
        {row.get(setting) for row in rows}, key=lambda value: (isinstance(value, str), value is not None, value)
    )


def _parallel(able: Sequence[Row]) -> Figure:
    """A line for each configuration, through its settings to its capacity per dollar."""
    rows = list(able[:MOST_LINES])[::-1]  # the best on top
    settings = _varying(rows)
    plotted = plot("", "", height=420, x_range=(-0.3, len(settings) + 0.3), y_range=(-0.08, 1.08))
    best = max(row["qps_per_dollar"] for row in rows)
    heights = []
    for setting in settings:
        levels = _levels(rows, setting)
        height = {level: n / max(1, len(levels) - 1) for n, level in enumerate(levels)}
        heights.append([height[row.get(setting)] for row in rows])
        for level in levels:
            words = "-" if level is None else str(level)
            plotted.text(
                [settings.index(setting)],
                [height[level]],
                [words],
                text_color=INK,
                text_font_size="12px",
                x_offset=5,
                y_offset=-3,
            )
    heights.append([row["qps_per_dollar"] / best for row in rows])
    source = ColumnDataSource(
        {
            "xs": [list(range(len(settings) + 1))] * len(rows),
            "ys": [list(ys) for ys in zip(*heights, strict=True)],
            "name": [name_of(row) for row in rows],
            "score": [row["qps_per_dollar"] for row in rows],
            "width": [1] * (len(rows) - 1) + [4],
        }
    )
    colours = {"field": "score", "transform": LinearColorMapper(Viridis256, low=0, high=best)}
    drawn = plotted.multi_line("xs", "ys", source=source, line_color=colours, line_alpha=0.6, line_width="width")
    tips = [("", "@name"), (headline("qps_per_dollar").heading, "@score{0.[000]}")]
    plotted.add_tools(HoverTool(renderers=[drawn], tooltips=tips, visible=False))
    for upright in range(len(settings) + 1):
        plotted.line([upright, upright], [0, 1], line_color=MUTED)
    words_at = {float(n): headline(setting).label for n, setting in enumerate(settings)}
    ticks(plotted.xaxis[0], words_at | {float(len(settings)): "per dollar"})
    plotted.yaxis.visible = plotted.grid.visible = False
    return Figure(
        plotted, f"Settings and requests/s per $/h of the best {len(rows)} configurations, the winner in bold."
    )


def _heat_maps(able: Sequence[Row]) -> Iterator[Block]:
    """A heat map for each pair of settings, with the others at their best values."""
    tabs = []
    for first, second in combinations(_varying(able), 2):
        tabs.append((f"{headline(first).label}, {headline(second).label}", [_heat_map(able, first, second)]))
    if tabs:
        yield Tabs(tabs)


def _heat_map(able: Sequence[Row], first: str, second: str) -> Figure:
    """The best capacity per dollar for each pair of values of two settings."""
    xs, ys = ([str(level) for level in _levels(able, setting)] for setting in (first, second))
    best: dict[tuple[str, str], float] = {}
    for row in able:
        cell = str(row.get(first)), str(row.get(second))
        best[cell] = max(best.get(cell, 0.0), row["qps_per_dollar"])
    across, up, figure = headline(first).label, headline(second).label, headline("qps_per_dollar").heading
    plotted = plot(across, up, height=300, x_range=xs, y_range=ys)
    source = ColumnDataSource({"x": [x for x, _ in best], "y": [y for _, y in best], "value": list(best.values())})
    mapper = LinearColorMapper(Viridis256, low=0, high=max(best.values()))
    drawn = plotted.rect(
        "x", "y", 1, 1, source=source, fill_color={"field": "value", "transform": mapper}, line_color=None
    )
    plotted.add_layout(
        ColorBar(color_mapper=mapper, width=8, background_fill_alpha=0.0, major_label_text_color=MUTED), "right"
    )
    tips = [(across, "@x"), (up, "@y"), (figure, "@value{0.[000]}")]
    plotted.add_tools(HoverTool(renderers=[drawn], tooltips=tips, visible=False))
    plotted.grid.visible = False
    return Figure(plotted, f"Highest {figure} by {across} and {up}, with the second settings at their best values.")


def _objectives(able: Sequence[Row], varied: Sequence[Variation]) -> Iterator[Block]:
    """What a latency costs: the cheapest configuration that stays below it at its capacity."""
    for metric in ("latency.tbt.p99", "latency.ttft.p90"):
        rows = sorted((row for row in able if row.get(metric)), key=lambda row: float(row[metric]))
        if not rows:
            continue
        cost = 1e6 / 3600 / np.maximum.accumulate([row["qps_per_dollar"] for row in rows])
        plotted = plot(headline(metric).heading, "$ per million requests", height=300)
        line(plotted, [row[metric] for row in rows], cost, "cheapest", step=True)
        yield Figure(
            plotted,
            f"Cost of the cheapest configuration whose {headline(metric).label} at capacity is at most the given time.",
        )
    if varied:
        yield Table(
            ("objective", "changed to", "change of requests per dollar", "winner"),
            [
                (
                    variation.objective,
                    variation.changed,
                    Cell(f"× {variation.after / variation.before:.2f}", variation.after / variation.before),
                    "the same" if variation.same_winner else name_of(variation.winner) if variation.winner else "none",
                )
                for variation in varied
                if variation.before
            ],
            "Effect of a tighter or looser objective.",
        )


def _table(able: Sequence[Row]) -> Table:
    """The settings and figures of the best configurations."""
    settings = [name for name in _settings(able) if any(row.get(name) is not None for row in able)]
    figures = [name for name in FIGURES if any(row.get(name) is not None for row in able)]
    rows = [
        [
            *("-" if row.get(name) is None else str(row[name]) for name in settings),
            *(Cell("-" if row.get(name) is None else f"{row[name]:.4g}", row.get(name)) for name in figures),
            row["limited_by"],
        ]
        for row in able[:MOST_ROWS]
    ]
    head = [*(headline(name).label for name in settings), *(headline(name).heading for name in figures), "limit"]
    return Table(head, rows, f"The best {len(rows):,} of {len(able):,} configurations.", filtered=True)

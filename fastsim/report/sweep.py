"""The page of a sweep: the ranking, the Pareto front, all settings against a figure, and latency against load."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from bokeh.models import ColumnDataSource, HoverTool, LinearColorMapper
from bokeh.palettes import Viridis256

from fastsim.errors import InputError
from fastsim.planning.ranking import lower_is_better, pareto
from fastsim.report.page import figures, markers
from fastsim.report.page.page import Block, Card, Cards, Cell, Figure, Section, Table, Tabs, Text, page
from fastsim.report.page.palette import INK, LINES, MUTED
from fastsim.report.words import figure
from fastsim.result.metrics.definitions import headline
from fastsim.sweeps.configuration import Row
from fastsim.sweeps.store import SWEEP

RANKED = (  # the first of these that all rows have ranks them
    "cost.dollars_per_million_output_tokens",
    "latency.e2e.mean",
)
FRONT = ("cost.dollars_per_million_output_tokens", "latency.ttft.p90")
SHOWN = (
    "throughput.requests_per_s",
    "throughput.output_tokens_per_s",
    "latency.ttft.p90",
    "latency.tbt.p99",
    "latency.e2e.mean",
    "utilisation.busy",
    "cost.gpus",
    "cost.dollars_per_million_output_tokens",
)
AGAINST = ("latency.ttft.p90", "latency.tbt.p99", "latency.e2e.mean", "cost.dollars_per_million_output_tokens")
LOADS = ("workload.rate", "workload.users")
MOST_LINES = 300  # of the parallel coordinates
MOST_ROWS = 1000  # of the table
MOST_CURVES = 8


def is_sweep(folder: Path) -> bool:
    """Whether a folder holds the table of a sweep."""
    return (folder / SWEEP).is_file()


def sweep_page(folder: Path) -> str:
    """Return the page about the sweep in a folder as HTML. Raises InputError for a table that cannot be read."""
    rows, varied = _read(folder)
    able = [row for row in rows if row.get("error") is None and row.get("latency.e2e.mean") is not None]
    lead = f"{len(able):,} of {len(rows):,} configurations of {folder.resolve().name} have figures."
    if not able:
        errors = dict.fromkeys(str(row.get("error")) for row in rows)
        return page("Sweep", [Section("No figures", [Text(text) for text in list(errors)[:20]])], lead)
    by = next(key for key in RANKED if all(row.get(key) is not None for row in able))
    able.sort(key=lambda row: (not _steady(row), row[by]))
    name = _namer(varied)
    settings = [key for key in varied if len({str(row.get(key)) for row in able}) > 1]
    sections = [
        Section("Ranking", [_best(able, by, name), _table(able, settings, by)], _how(by)),
        Section("Pareto front", [_front(able, by, name)]),
        Section("Settings", [_parallel(able, settings, by, name)]),
    ]
    if curves := _curves(able, settings, name):
        sections.insert(1, Section("Latency against load", [curves], "A line for each of the other settings."))
    return page(f"Sweep: {folder.resolve().name}", sections, lead)


def _read(folder: Path) -> tuple[list[Row], list[str]]:
    """The rows of the table, and the names of the fields that vary."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        tables = [pq.read_table(part) for part in sorted(folder.glob("part-*.parquet"))]
        if not tables:
            raise InputError(f"{folder}: holds a sweep without a row; run the same sweep again to go on with it")
        table = pa.concat_tables(tables, promote_options="permissive")
    except (pa.ArrowInvalid, OSError) as problem:
        said = str(problem).partition("\n")[0]
        raise InputError(f"{folder}: the table of this sweep cannot be read ({said}); run the sweep again") from None
    fields = [field for field in tables[0].schema if (field.metadata or {}).get(b"meaning") == b"varied"]
    return table.to_pylist(), [field.name for field in fields]


def _steady(row: Row) -> bool:
    """Whether the run keeps up: its verdict has a margin that is not negative, where it has one."""
    margin = row.get("verdict.margin")
    return margin is None or margin >= 0


def _how(by: str) -> str:
    order = "lowest" if lower_is_better(by) else "highest"
    return f"By {headline(by).heading}, the {order} first. Click a heading for another order; type to filter."


def _namer(varied: Sequence[str]) -> Callable[[Row], str]:
    """A function that names a row by its settings: ``device h100, TP 2``."""

    def name(row: Row) -> str:
        return ", ".join(f"{headline(key).label} {row.get(key)}" for key in varied)

    return name


def _best(able: Sequence[Row], by: str, name: Callable[[Row], str]) -> Cards:
    """The best row of each figure."""
    cards = [Card("Best", name(able[0]), f"{figure(by, able[0][by])}, {headline(by).label}")]
    for key in ("latency.ttft.p90", "throughput.output_tokens_per_s"):
        known = [row for row in able if row.get(key) is not None]
        if known:
            best = min(known, key=lambda row: row[key] if lower_is_better(key) else -row[key])
            cards.append(Card(f"Best {headline(key).label}", name(best), figure(key, best[key])))
    return Cards(cards, wide=True)


def _table(able: Sequence[Row], settings: Sequence[str], by: str) -> Table:
    shown = [key for key in dict.fromkeys((by, *SHOWN)) if any(row.get(key) is not None for row in able)]
    rows: list[list[Cell | str]] = [
        [
            *(_setting(row.get(key)) for key in settings),
            *(Cell(figure(key, row.get(key)), row.get(key), key) for key in shown),
        ]
        for row in able[:MOST_ROWS]
    ]
    head = [*(headline(key).label for key in settings), *(headline(key).label for key in shown)]
    return Table(head, rows, f"The best {len(rows):,} of {len(able):,} configurations.", filtered=True)


def _setting(value: Any) -> Cell:
    return Cell("–" if value is None else str(value), float(value) if isinstance(value, int | float) else None)


def _front(able: Sequence[Row], by: str, name: Callable[[Row], str]) -> Block:
    """All configurations by cost and latency, with those that none beats in both marked."""
    y, x = by if by != FRONT[1] else "latency.e2e.mean", FRONT[1]
    shown = [row for row in able if row.get(x) is not None and row.get(y) is not None]
    if not shown:
        return Text("No configuration has both figures.")
    plotted = figures.plot(headline(x).heading, headline(y).heading, x="log", y="log", height=420)
    front = sorted((shown[index] for index in pareto(shown, (x, y))), key=lambda row: float(row[x]))
    for place, (rows, colour, size) in enumerate(((shown, LINES[0], 7), (front, INK, 12))):
        source = ColumnDataSource(
            {"x": [row[x] for row in rows], "y": [row[y] for row in rows], "name": [name(row) for row in rows]}
        )
        look: dict[str, Any] = {"line_color": colour, "size": size}
        look |= {"fill_alpha": 0.0, "legend_label": "Pareto front"} if place else {"fill_color": colour}
        drawn = plotted.scatter("x", "y", source=source, **look)
        tips = [("", "@name"), (headline(y).label, "@y{0.[0000]}"), (headline(x).label, "@x{0.[0000]}")]
        plotted.add_tools(HoverTool(renderers=[drawn], tooltips=tips, visible=False))
    plotted.line([row[x] for row in front], [row[y] for row in front], line_color=MUTED, line_dash=[4, 4])
    figures.legend(plotted, "top_right")
    better = " and ".join(f"lower {headline(key).heading}" for key in (x, y))
    return Figure(plotted, f"{len(front):,} of {len(shown):,} configurations form the Pareto front for {better}.")


def _parallel(able: Sequence[Row], settings: Sequence[str], by: str, name: Callable[[Row], str]) -> Block:
    """A line for each configuration, through its settings to the figure that ranks."""
    rows = list(able[:MOST_LINES])[::-1]  # the best on top
    if not settings:
        return Text("No setting differs between the configurations.")
    plotted = figures.plot("", "", height=420, x_range=(-0.3, len(settings) + 0.4), y_range=(-0.08, 1.08))
    heights = []
    for place, key in enumerate(settings):
        values = sorted(
            {row.get(key) for row in rows}, key=lambda value: (isinstance(value, str), str(type(value)), value)
        )
        height = {value: index / max(1, len(values) - 1) for index, value in enumerate(values)}
        heights.append([height[row.get(key)] for row in rows])
        few = values if len(values) <= 12 else [values[0], values[-1]]
        plotted.text(
            [place] * len(few), [height[value] for value in few], [str(value) for value in few],
            text_color=INK, text_font_size="12px", x_offset=5, y_offset=-3,
        )  # fmt: skip
    scores = np.array([float(row[by]) for row in rows])
    low, high = scores.min(), scores.max()
    level = (scores - low) / (high - low) if high > low else np.ones(len(scores))
    level = 1 - level if lower_is_better(by) and high > low else level
    heights.append(level.tolist())
    source = ColumnDataSource(
        {
            "xs": [list(range(len(settings) + 1))] * len(rows),
            "ys": [list(ys) for ys in zip(*heights, strict=True)],
            "name": [name(row) for row in rows],
            "level": level.tolist(),
            "score": scores.tolist(),
            "width": [1] * (len(rows) - 1) + [4],
        }
    )
    colours = {"field": "level", "transform": LinearColorMapper(Viridis256, low=0, high=1)}
    drawn = plotted.multi_line("xs", "ys", source=source, line_color=colours, line_alpha=0.6, line_width="width")
    tips = [("", "@name"), (headline(by).label, "@score{0.[0000]}")]
    plotted.add_tools(HoverTool(renderers=[drawn], tooltips=tips, visible=False))
    for upright in range(len(settings) + 1):
        plotted.line([upright, upright], [0, 1], line_color=MUTED)
    labels = {float(place): headline(key).label for place, key in enumerate(settings)}
    figures.ticks(plotted.xaxis[0], labels | {float(len(settings)): headline(by).label})
    plotted.yaxis.visible = plotted.grid.visible = False
    which = "lowest" if lower_is_better(by) else "highest"
    return Figure(
        plotted, f"The best {len(rows):,} configurations, the winner in bold; {which} {headline(by).label} on top."
    )


def _curves(able: Sequence[Row], settings: Sequence[str], name: Callable[[Row], str]) -> Tabs | None:
    """Latency and cost by the rate or the users, a line for each of the other settings; None where neither varies."""
    load = next((key for key in LOADS if key in settings), None)
    if load is None:
        return None
    others = [key for key in settings if key != load]
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in able:
        if row.get(load) is not None:
            groups.setdefault(tuple(str(row.get(key)) for key in others), []).append(row)
    chosen = [rows for rows in groups.values() if len(rows) > 1]
    tabs: list[tuple[str, Sequence[Block]]] = []
    for key in AGAINST:
        plotted = figures.plot(headline(load).heading, headline(key).heading, y="log", height=380)
        drawn = 0
        for rows in chosen[:MOST_CURVES]:
            points = sorted((row for row in rows if row.get(key)), key=lambda row: float(row[load]))
            if len(points) < 2:
                continue
            label = ", ".join(f"{headline(one).label} {rows[0].get(one)}" for one in others)
            values = [float(row[key]) for row in points]
            tips = {headline(load).label: [str(row[load]) for row in points]}
            tips |= {headline(key).label: [figure(key, value) for value in values]}
            at = [float(row[load]) for row in points]
            figures.line(plotted, at, values, label, drawn, tips=tips)
            markers.marks(plotted, at, values, drawn, tips)
            drawn += 1
        if drawn:
            more = f" The best {MOST_CURVES} of {len(chosen)} are shown." if len(chosen) > MOST_CURVES else ""
            tabs.append((headline(key).label, [Figure(plotted, f"{headline(key).heading} by load.{more}")]))
    return Tabs(tabs) if tabs else None

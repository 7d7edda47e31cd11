"""The page of `fastsim validate`: what was measured, and what is predicted for the same requests."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fastsim.files.writing import replacing
from fastsim.measured.statistics import STATISTICS, Pair
from fastsim.measured.validation import RATES, Validation
from fastsim.report import charts, provenance
from fastsim.report.page import figures
from fastsim.report.page.page import Block, Card, Cards, Cell, Figure, Section, Table, Tabs, Text, Tone, page
from fastsim.report.runs import Run
from fastsim.report.thin import Floats, curve, edges, level, spread
from fastsim.report.words import number, seconds, signed, statistic, title
from fastsim.result.metrics.definitions import flatten
from fastsim.result.store import as_json

FILES = ("validation.json", "by_request.parquet", "report.html")
MOST_POINTS = 2000  # of a scatter plot
NAMES = ("measured", "predicted")
COUNTED = {"running": "Running", "waiting": "Waiting", "in_flight": "In flight"}
MEANING = {
    "running": "Requests that have entered a batch and are not finished",
    "waiting": "Requests that were sent and are not yet in a batch",
    "in_flight": "Requests that were sent and are not finished",
}


class _Side(NamedTuple):
    """The requests of one of both runs, float64[num_requests] each, s; None: it is not known."""

    arrived_at: Floats | None
    scheduled_at: Floats | None
    finished_at: Floats | None
    latency: dict[str, Floats]


def render(validation: Validation, limit: float | None = None) -> str:
    """Return the page as HTML. ``limit``: how large an error of a mean figure may be, as a share."""
    measured, result = validation.measured, validation.result
    columns = {name: result.column(name) for name in ("ttft", "tpot", "e2e")}
    theirs = {"ttft": measured.ttft, "tpot": measured.tpot, "e2e": measured.e2e}
    sides = (
        _Side(measured.arrived_at, measured.scheduled_at, measured.finished_at, theirs),
        _Side(result.column("arrived_at"), result.column("scheduled_at"), result.column("finished_at"), columns),
    )
    known = [name for name in theirs if not np.isnan(theirs[name]).all()]
    replayed = Run("replay", 0, result.summary, result.config, flatten(result.summary), len(columns["e2e"]), {}, None)
    number_of = f"{measured.workload.num_requests:,} requests"
    return page(
        f"{measured.place}: measured and predicted",
        [
            _answers(validation, limit),
            Section("All figures", [_table(validation)], "An error is predicted over measured, less 1."),
            Section("Request by request", [_scatters(sides, known), _by_request(validation)], "A point per request."),
            Section("Latency", [_distributions(sides, known)], "The share of requests at or below each latency."),
            Section("Over time", [_over_time(validation, sides, known)]),
            Section("Configuration and provenance", [provenance.configuration([replayed])], "What was replayed."),
        ],
        f"{number_of} of {measured.layout}, replayed.",
    )


def _answers(validation: Validation, limit: float | None) -> Section:
    cards = []
    for name, pair in validation.means().items():
        tone: Tone = "plain"
        if limit is not None:
            tone = "good" if pair.error is not None and abs(pair.error) <= limit else "bad"
        shown = [_rate(value) if name in RATES.values() else seconds(value) for value in pair]
        note = f"measured {shown[0]}, predicted {shown[1]}"
        cards.append(Card(name[:1].upper() + name[1:], signed(pair.error), note, tone, raw=pair.error))
    lead = "" if limit is None else f"Green: at most {100 * limit:.4g} % from what was measured."
    return Section("Errors", [Cards(cards), *(Text(note, "note") for note in validation.notes)], lead)


def _rate(value: float) -> str:
    return f"{number(value)} /s"


def _table(validation: Validation) -> Table:
    rows: list[list[Cell | str]] = []
    for name, pairs in validation.latency.items():
        word = "ITL" if name == "itl" else title(name)
        rows += [_row(f"{word} {statistic(key)}", pairs[key], seconds) for key in STATISTICS if key in pairs]
    rows += [_row(f"{RATES[name].capitalize()}", pair, _rate) for name, pair in validation.throughput.items()]
    for name, counts in validation.over_time.items():
        means = float(counts.measured.mean()), float(counts.predicted.mean())
        rows.append(
            [
                f"Requests {COUNTED[name].lower()}, mean",
                *(Cell(number(value), value) for value in means),
                Cell(signed(Pair(*means).error), Pair(*means).error),
                Cell(number(apart := counts.mean_absolute_difference), apart),
            ]
        )
    caption = "Of requests over time, the absolute error is the mean over time."
    return Table(["", *NAMES, "error", "absolute error"], rows, caption if validation.over_time else "")


def _row(name: str, pair: Pair, words: Callable[[float], str]) -> list[Cell | str]:
    apart = abs(pair.predicted - pair.measured)
    return [
        name,
        *(Cell(words(value), value) for value in pair),
        Cell(signed(pair.error), pair.error),
        Cell(words(apart), apart),
    ]


def _by_request(validation: Validation) -> Table:
    rows: list[list[Cell | str]] = []
    for name, one in validation.by_request.items():
        share = one.mean_absolute_share
        rows.append(
            [
                title(name),
                Cell("–" if one.correlation is None else f"{one.correlation:.3f}", one.correlation),
                Cell(seconds(one.mean_absolute_error), one.mean_absolute_error),
                Cell("–" if share is None else f"{share:.1%}", share),
            ]
        )
    return Table(["", "correlation", "mean absolute error", "the same, of measured"], rows)


def _scatters(sides: Sequence[_Side], known: Sequence[str]) -> Block:
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
        figures.ticks(axis, charts.time_ticks(low, high, log))
    tips = {
        "request": [f"{row:,}" for row in chosen],
        "measured": [seconds(value) for value in x[chosen].tolist()],
        "predicted": [seconds(value) for value in y[chosen].tolist()],
    }
    figures.points(plot, np.maximum(x[chosen], ends[0]), np.maximum(y[chosen], ends[0]), 0, tips)
    figures.line(plot, ends, ends, "", 1)
    return plot


def _distributions(sides: Sequence[_Side], known: Sequence[str]) -> Block:
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
        tabs.append((title(name), [Figure(charts.distribution(name, runs), f"{charts.TAIL} {charts.THINNED}")]))
    return Tabs(tabs)


def _over_time(validation: Validation, sides: Sequence[_Side], known: Sequence[str]) -> Block:
    begins = [side.arrived_at for side in sides if side.arrived_at is not None]
    ends = [side.finished_at for side in sides if side.finished_at is not None]
    if len(begins) < 2 or len(ends) < 2:
        return Text("The file does not say when requests were sent, so there is nothing to show over time.")
    last = max(float(np.nanmax(each)) if np.isfinite(each).any() else float(begins[0].max()) for each in ends)
    at = edges(min(float(each.min()) for each in begins), last)
    tabs: list[tuple[str, Sequence[Block]]] = []
    for name in validation.over_time:
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


def save(validation: Validation, folder: Path, limit: float | None = None) -> None:
    """Write all figures, a row per request, and the page: all of them, or none.

    Raises OutputError where they cannot be written.
    """
    html = render(validation, limit)
    with replacing(folder, FILES) as written:
        (written / FILES[0]).write_text(as_json(validation.as_dict()), encoding="utf-8")
        pq.write_table(validation.table(), written / FILES[1])
        (written / FILES[2]).write_text(html, encoding="utf-8")

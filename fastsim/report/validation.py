"""The page of `fastsim validate`: what was measured, and what is predicted for the same requests."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from fastsim.files.writing import replacing
from fastsim.measured.statistics import STATISTICS, Pair
from fastsim.measured.validation import RATES, UNITS, Validation
from fastsim.report import provenance
from fastsim.report.charts.validation import COUNTED, NAMES, Side, distributions, over_time, scatters
from fastsim.report.page.page import Card, Cards, Cell, Section, Table, Text, Tone, page
from fastsim.report.runs import Run
from fastsim.report.words import number, seconds, signed, statistic, title
from fastsim.result.metrics.definitions import flatten
from fastsim.result.store import as_json

FILES = ("validation.json", "by_request.parquet", "report.html")


def render(validation: Validation, limit: float | None = None) -> str:
    """Return the page as HTML. ``limit``: how large an error of a mean figure may be, as a share."""
    measured, result = validation.measured, validation.result
    columns = {name: result.column(name) for name in ("ttft", "tpot", "e2e")}
    theirs = {"ttft": measured.ttft, "tpot": measured.tpot, "e2e": measured.e2e}
    sides = (
        Side(measured.arrived_at, measured.scheduled_at, measured.finished_at, theirs),
        Side(result.column("arrived_at"), result.column("scheduled_at"), result.column("finished_at"), columns),
    )
    known = [name for name in theirs if not np.isnan(theirs[name]).all()]
    replayed = Run("replay", 0, result.summary, result.config, flatten(result.summary), len(columns["e2e"]), {}, None)
    number_of = f"{measured.workload.num_requests:,} requests"
    return page(
        f"{'/'.join(Path(measured.place).parts[-2:])}: measured and predicted",
        [
            _answers(validation, limit),
            Section(
                "All figures",
                [_latencies(validation), *_rates(validation)],
                "An error is the predicted figure divided by the measured one, minus 1.",
            ),
            Section("Request by request", [scatters(sides, known), _by_request(validation)], "A point per request."),
            Section("Latency", [distributions(sides, known)], "The share of requests at or below each latency."),
            Section("Over time", [over_time(sides, validation.over_time, known)]),
            Section("Configuration and provenance", [provenance.configuration([replayed])], "What was replayed."),
        ],
        f"{number_of} of {measured.layout}, replayed.",
    )


def _answers(validation: Validation, limit: float | None) -> Section:
    words = {RATES[name]: _in(unit) for name, unit in UNITS.items()}
    cards = []
    for name, pair in validation.means().items():
        tone: Tone = "plain"
        if limit is not None:
            tone = "good" if pair.error is not None and abs(pair.error) <= limit else "bad"
        shown = words.get(name, seconds)
        note = f"measured {shown(pair.measured)}, predicted {shown(pair.predicted)}"
        cards.append(Card(name[:1].upper() + name[1:], signed(pair.error), note, tone, raw=pair.error))
    lead = "" if limit is None else f"Green figures are at most {100 * limit:.4g} % from what was measured."
    return Section("Errors", [Cards(cards), *(Text(note, "note") for note in validation.notes)], lead)


def _in(unit: str) -> Callable[[float], str]:
    return lambda value: f"{number(value)} {unit}"


def _latencies(validation: Validation) -> Table:
    rows: list[list[Cell | str]] = []
    for name, pairs in validation.latency.items():
        word = "ITL" if name == "itl" else title(name)
        rows += [_row(f"{word} {statistic(key)}", pairs[key], seconds) for key in STATISTICS if key in pairs]
    return Table(["", *NAMES, "error", "absolute error"], rows)


def _rates(validation: Validation) -> list[Table]:
    """Throughput, and the requests over time; nothing where arrivals are not known."""
    rows = [_row(RATES[name].capitalize(), pair, _in(UNITS[name])) for name, pair in validation.throughput.items()]
    for name, counts in validation.over_time.items():
        means = Pair(float(counts.measured.mean()), float(counts.predicted.mean()))
        apart = counts.mean_absolute_difference
        rows.append([*_row(f"Requests {COUNTED[name].lower()}", means, number)[:-1], Cell(number(apart), apart)])
    caption = (
        "Numbers of requests are means over the run, and so are their absolute errors." if validation.over_time else ""
    )
    return [Table(["", *NAMES, "error", "absolute error"], rows, caption)] if rows else []


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


def save(validation: Validation, folder: Path, limit: float | None = None) -> None:
    """Write all figures, a row per request, and the page: all of them, or none.

    Raises OutputError where they cannot be written.
    """
    html = render(validation, limit)
    with replacing(folder, FILES) as written:
        (written / FILES[0]).write_text(as_json(validation.as_dict()), encoding="utf-8")
        pq.write_table(validation.table(), written / FILES[1])
        (written / FILES[2]).write_text(html, encoding="utf-8")

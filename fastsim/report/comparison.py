"""The sections of a page about several runs: which one to take, figure by figure, and what differs between them."""

from collections.abc import Sequence

import numpy as np

from fastsim.report import provenance
from fastsim.report.charts.distribution import TAIL, choosable
from fastsim.report.headline import Judged, judged, verdict, words
from fastsim.report.page import bars, figures
from fastsim.report.page.page import Block, Card, Cards, Cell, Figure, Section, Table, Tabs, Text, Tone
from fastsim.report.page.palette import LINES
from fastsim.report.runs import Run
from fastsim.report.words import figure, meaning, title
from fastsim.result.metrics.definitions import headline

ROWS = (
    "throughput.requests_per_s",
    "throughput.output_tokens_per_s",
    "goodput.share",
    "latency.ttft.p50",
    "latency.ttft.p99",
    "latency.tbt.p99",
    "latency.e2e.p50",
    "latency.e2e.p99",
    "latency.scheduling_delay.p99",
    "utilisation.busy",
    "utilisation.peak_kv",
    "cache.token_hit_rate",
    "totals.restarts",
    "cost.gpus",
    "cost.gpu_hours",
    "cost.dollars_per_million_output_tokens",
)
DIGEST = "workload.sha256"
COST = "cost.dollars_per_million_output_tokens"


def compared(runs: Sequence[Run]) -> Section:
    """Return the first section about a few runs: the answers, and a table with a column for each run."""
    outcomes = [judged(run) for run in runs]
    rows: list[list[Cell | str]] = [["Meets its objectives", *(_met(judged_run) for judged_run in outcomes)]]
    for key in ROWS:
        if not any(run.figures.get(key) is not None for run in runs):
            continue
        best = _best(runs, key)
        rows.append(
            [
                headline(key).label,
                *(
                    Cell(figure(key, run.figures.get(key)), run.figures.get(key), key, "good" if n in best else "plain")
                    for n, run in enumerate(runs)
                ),
            ]
        )
    head = ["", *(run.name for run in runs)]
    meanings = {headline(key).label: meaning(key) for key in ROWS}
    colours = [LINES[n % len(LINES)] for n in range(len(runs))]
    table = Table(head, rows, "The best value of each row is green.", meanings=meanings, colours=["", *colours])
    differences = provenance.differences(runs)
    blocks: list[Block] = [_answer(runs, outcomes), table]
    if differences.rows:
        blocks.append(Text("What differs between them:"))
        blocks.append(differences)
    return Section("Answers", blocks, _subject(runs))


def crowd(runs: Sequence[Run]) -> list[Section]:
    """Return the sections about many runs: answers, spread of the figures, and a table to choose curves from."""
    chosen = _representatives(runs)
    runs = [*(runs[n] for n in chosen), *(run for n, run in enumerate(runs) if n not in chosen)]
    outcomes = [judged(run) for run in runs]
    shown = [key for key in ROWS if any(run.figures.get(key) is not None for run in runs)]
    how = "Tick a run to show its curve above; at first the cheapest, the median and the dearest are ticked."
    blocks = [_curves(runs), Text(how, "note"), _choices(runs, outcomes, shown, len(chosen))]
    return [
        Section("Answers", [_answer(runs, outcomes)], _subject(runs)),
        Section("Spread", [_spread(runs, shown)], "How the headline figures are distributed over the runs."),
        Section("Runs", blocks, "Click a heading to sort; type to filter."),
        Section("Configuration and provenance", [provenance.common(runs)], "What all runs have in common."),
    ]


def _choices(runs: Sequence[Run], outcomes: list[list[Judged]], shown: Sequence[str], num_chosen: int) -> Table:
    """A row for each run with the fields that vary and the figures ``shown``; the first ``num_chosen`` are ticked."""
    varied = {key: {run.name: value for run, value in zip(runs, values, strict=True)} for key, values in _varied(runs)}
    rows: list[list[Cell | str]] = [
        [
            run.name,
            _met(judged_run),
            *(Cell(value, _number(value)) for value in (varied[key][run.name] for key in varied)),
            *(Cell(figure(key, run.figures.get(key)), run.figures.get(key), key) for key in shown),
        ]
        for run, judged_run in zip(runs, outcomes, strict=True)
    ]
    names = [run.name for run in runs]
    return Table(
        ["run", "objectives", *varied, *(headline(key).label for key in shown)],
        rows,
        filtered=True,
        meanings={headline(key).label: meaning(key) for key in shown},
        choices=names,
        chosen=names[:num_chosen],
    )


def _curves(runs: Sequence[Run]) -> Block:
    """The distributions of three latencies, of the runs that are ticked in the table."""
    tabs: list[tuple[str, Sequence[Block]]] = []
    for key in ("ttft", "e2e", "tpot"):
        if drawn := [run for run in runs if len(run.curves[key].value)]:
            caption = f"{meaning(f'latency.{key}')}. {TAIL}"
            tabs.append((title(key), [Figure(choosable(key, drawn, drawn[0]), caption)]))
    return Tabs(tabs) if tabs else Text("No request finished in any run.")


def _answer(runs: Sequence[Run], outcomes: list[list[Judged]]) -> Cards:
    """How many runs meet their objectives, the cheapest of them, and the objective that most runs miss."""
    good = [run for run, judged_run in zip(runs, outcomes, strict=True) if verdict(judged_run)]
    unknown = sum(verdict(judged_run) is None for judged_run in outcomes)
    note = f"{unknown} cannot be judged, as no latency was measured." if unknown else ""
    tone: Tone = "good" if good else "bad" if unknown < len(runs) else "unknown"
    cards = [Card("Meet their objectives", f"{len(good)} of {len(runs)}", note, tone)]
    priced = [run for run in good or runs if run.figures.get(COST) is not None]
    if priced:
        cheapest = min(priced, key=lambda run: run.figures[COST] or 0.0)
        what = "Cheapest that meets them" if good else "Cheapest, though no run meets them"
        cards.append(Card(what, cheapest.name, f"{figure(COST, cheapest.figures[COST])} per million output tokens"))
    missed = [words(outcome) for judged_run in outcomes for outcome in judged_run if outcome.met is False]
    if missed:
        worst = max(dict.fromkeys(missed), key=missed.count)
        cards.append(Card("Most often missed", worst, f"by {missed.count(worst)} of {len(runs)} runs"))
    return Cards(cards, wide=True)


def _met(outcomes: list[Judged]) -> Cell:
    """Whether a run meets its objectives, and which it misses."""
    met = verdict(outcomes)
    if met is None:
        return Cell("unknown", -1.0, tone="unknown")
    missed = ", ".join(words(outcome) for outcome in outcomes if outcome.met is False)
    return Cell("yes", 1.0, tone="good") if met else Cell(f"no: {missed}", 0.0, tone="bad")


def _subject(runs: Sequence[Run]) -> str:
    """How many runs there are, and of which models."""
    models = dict.fromkeys(str(run.config["deployment"].get("model", "")) for run in runs)
    return f"{len(runs)} runs of {', '.join(models)}."


def _best(runs: Sequence[Run], key: str) -> set[int]:
    """The positions of the runs with the best value of a figure; none where all are equal."""
    values = [run.figures.get(key) for run in runs]
    known = [value for value in values if value is not None]
    better = headline(key).better
    if better is None or len(set(known)) < 2:
        return set()
    best = max(known) if better == "higher" else min(known)
    return {n for n, value in enumerate(values) if value == best}


def _representatives(runs: Sequence[Run]) -> list[int]:
    """The positions of the cheapest, the median and the most expensive run; by TTFT P99 where no run has a cost."""
    key = COST if any(run.figures.get(COST) is not None for run in runs) else "latency.ttft.p99"
    known = [n for n, run in enumerate(runs) if run.figures.get(key) is not None]
    order = sorted(known, key=lambda n: runs[n].figures[key] or 0.0)
    return list(dict.fromkeys([order[0], order[len(order) // 2], order[-1]])) if order else []


def _varied(runs: Sequence[Run]) -> list[tuple[str, list[str]]]:
    """The fields of deployment and workload in which the runs differ, with the value in each run."""
    rows = provenance.differences(runs).rows
    return [(str(key).partition(".")[2], [str(value) for value in values]) for key, *values in rows if key != DIGEST]


def _number(text: str) -> float | None:
    """The value of a setting, if it is a number, so that the table sorts by it."""
    try:
        return float(text)
    except ValueError:
        return None


def _spread(runs: Sequence[Run], shown: Sequence[str]) -> Tabs:
    """A histogram of each headline figure that differs between the runs."""
    tabs: list[tuple[str, Sequence[Block]]] = []
    for key in shown:
        values = np.array([value for run in runs if (value := run.figures.get(key)) is not None], np.float64)
        if not len(values) or np.ptp(values) <= 1e-9 * abs(values).max():
            continue
        label, heading = headline(key).label, headline(key).heading
        # Runs that lie orders of magnitude apart get logarithmic bins, so that the small values do not share one bin.
        wide = values.min() > 0 and values.max() > 30 * values.min()
        plot = figures.plot(heading, "runs", x="log" if wide else "linear", y_range=figures.from_zero())
        at = np.geomspace(values.min(), values.max() * 1.0001, 31) if wide else np.histogram_bin_edges(values, 30)
        bars.bars(plot, at[:-1], at[1:], np.histogram(values, at)[0], 0, "runs")
        middle = float(np.median(values))
        caption = (
            f"{label} of {len(values)} runs: minimum {figure(key, float(values.min()))}, median {figure(key, middle)}, "
        )
        tabs.append((label, [Figure(plot, caption + f"maximum {figure(key, float(values.max()))}.")]))
    return Tabs(tabs)

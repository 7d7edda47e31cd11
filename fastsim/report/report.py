"""`fastsim report`: what a page says about one result, a few side by side, or hundreds."""

from collections.abc import Callable, Sequence
from pathlib import Path

from fastsim.errors import InputError
from fastsim.files.writing import refuse_folder
from fastsim.report import charts, provenance
from fastsim.report.comparison import compared, crowd
from fastsim.report.headline import answers
from fastsim.report.page.page import Section, page, write
from fastsim.report.runs import Run, read
from fastsim.report.thin import POINTS

FEW = 8  # runs whose curves share a figure; of more, the reader chooses
CROWD_POINTS = 120  # of each distribution, when there are more


def report(
    folders: Sequence[str | Path], out: str | Path, progress: Callable[[float], None] = lambda share: None
) -> None:
    """Write a page about the results in ``folders`` to ``out``, in one file that needs no network.

    Raises InputError when a folder holds no whole result or is given twice, OutputError when ``out`` cannot be written.
    """
    if not folders:
        raise InputError("report: no result is named; give a folder that `fastsim simulate --out` wrote")
    refuse_folder(Path(out), "report.html")
    few = len(folders) <= FEW
    runs = read([Path(folder) for folder in folders], few, POINTS if few else CROWD_POINTS, progress)
    write(render(runs), out)


def render(runs: Sequence[Run]) -> str:
    """The page as HTML."""
    if len(runs) == 1:
        return page(f"{runs[0].name}: how the deployment behaves", _one(runs[0]))
    if len(runs) <= FEW:
        return page(f"{len(runs)} runs side by side", _few(runs))
    return page(f"{len(runs)} runs", crowd(runs))


def _one(run: Run) -> list[Section]:
    latency, request, batch = (provenance.distributions(run, name) for name in ("latency", "request", "batch"))
    return [
        answers(run),
        Section("Latency", [charts.latencies([run]), latency], "Which share of the requests is served how fast."),
        Section("Over time", [charts.over_time([run])]),
        Section("Slow requests", [charts.tail([run]), *provenance.slowest(run)], "Where the slowest lost their time."),
        Section(
            "Batches and utilisation",
            [
                charts.composition([run]),
                *([batch] if batch.rows else []),
                *charts.operators([run]),
                *provenance.replicas(run),
            ],
        ),
        Section(
            "All figures",
            [provenance.scalars([run]), *([request] if request.rows else [])],
            "Hover over a name, or tap it, for its definition; all are in `summary.json`.",
        ),
        _origin([run]),
    ]


def _few(runs: Sequence[Run]) -> list[Section]:
    return [
        compared(runs),
        Section("Latency", [charts.latencies(runs)], "Which share of the requests is served how fast."),
        Section("Over time", [charts.over_time(runs)]),
        Section("Slow requests", [charts.tail(runs)], "Where the slowest lost their time."),
        Section("Batches and utilisation", [charts.composition(runs), *charts.operators(runs)]),
        Section("All figures", [provenance.scalars(runs)], "Hover over a name for its definition."),
        _origin(runs),
    ]


def _origin(runs: Sequence[Run]) -> Section:
    how = "The same again, to the bit: `fastsim simulate DIR/config.json DIR/requests.parquet`."
    return Section("Configuration and provenance", [provenance.configuration(runs)], how)

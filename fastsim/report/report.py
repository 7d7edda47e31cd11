"""`fastsim report`: a page about one result, a few side by side, or hundreds."""

from collections.abc import Callable, Sequence
from pathlib import Path

from fastsim.errors import InputError
from fastsim.files.writing import refuse_folder
from fastsim.report import provenance
from fastsim.report.charts.batches import composition
from fastsim.report.charts.distribution import latencies
from fastsim.report.charts.over_time import over_time
from fastsim.report.charts.time_spent import operators, tail
from fastsim.report.comparison import compared, crowd
from fastsim.report.headline import answers
from fastsim.report.loads import against_load
from fastsim.report.page.page import Section, page, write
from fastsim.report.runs import Run, read
from fastsim.report.sweep import is_sweep, sweep_page
from fastsim.report.thin import POINTS

FEW = 8  # most runs whose curves share a figure; with more, the reader chooses the curves
CROWD_POINTS = 120  # points of each curve if there are more than FEW runs
READING = 0.3  # share of the progress, where runs are simulated under other loads
FAST = "The share of requests at or below each latency."
SLOW = "Where the slowest requests spend their time."


def report(
    folders: Sequence[str | Path],
    out: str | Path,
    progress: Callable[[float], None] = lambda share: None,
    *,
    curves: bool = True,
) -> None:
    """Write a page about one or more results, or about a sweep, as one file that needs no network.

    Parameters
    ----------
    folders : sequence of str or Path
        Output folders of `fastsim simulate`, or the one of a `fastsim sweep`.
    out : str or Path
        The HTML file to write.
    progress : callable, optional
        Called with the share of the work that is done, from 0 to 1.
    curves : bool
        Whether to simulate the deployments of up to 8 results under other loads, for a figure of latency against load.
        By default True.

    Raises
    ------
    InputError
        A folder holds no complete result, or is given twice.
    OutputError
        ``out`` cannot be written.
    """
    if not folders:
        raise InputError("report: no result is named; give an output folder of `fastsim simulate`")
    refuse_folder(Path(out), "report.html")
    paths = [Path(folder) for folder in folders]
    if any(is_sweep(path) for path in paths):
        if len(paths) > 1:
            raise InputError(f"{paths[0]}: a sweep has a page of its own; name it alone")
        write(sweep_page(paths[0]), out)
        return
    few = len(folders) <= FEW
    drawn = few and curves
    half = READING if drawn else 1.0
    runs = read(paths, few, POINTS if few else CROWD_POINTS, lambda done: progress(half * done))
    loads = against_load(runs, paths, lambda done: progress(half + (1 - half) * done)) if drawn else None
    write(render(runs, loads), out)


def render(runs: Sequence[Run], loads: Section | None = None) -> str:
    """Return the page about these runs as HTML: one in detail, up to FEW side by side, or a table of more.

    ``loads``: the section on latency against load.
    """
    if len(runs) == 1:
        return page(f"{runs[0].name}: how the deployment behaves", _with(loads, _one(runs[0])))
    if len(runs) <= FEW:
        return page(f"{len(runs)} runs side by side", _with(loads, _few(runs)))
    return page(f"{len(runs)} runs", crowd(runs))


def _with(loads: Section | None, sections: list[Section]) -> list[Section]:
    """The sections with that on latency against load after the answers."""
    return sections if loads is None else [sections[0], loads, *sections[1:]]


def _one(run: Run) -> list[Section]:
    """The sections about a single run."""
    latency, request, batch = (provenance.distributions(run, name) for name in ("latency", "request", "batch"))
    return [
        answers(run),
        Section("Latency", [latencies([run]), latency, *provenance.tenants(run)], FAST),
        Section("Over time", [over_time([run])]),
        Section("Slow requests", [tail([run]), *provenance.slowest(run)], SLOW),
        Section(
            "Batches and utilisation",
            [
                composition([run]),
                *([batch] if batch.rows else []),
                *operators([run]),
                *provenance.pools(run),
                *provenance.replicas(run),
            ],
        ),
        Section(
            "All figures",
            [provenance.scalars([run]), *([request] if request.rows else [])],
            "Hover over a name, or tap it, for its definition. All figures are in `summary.json`.",
        ),
        _origin([run]),
    ]


def _few(runs: Sequence[Run]) -> list[Section]:
    """The sections about a few runs, which share figures."""
    return [
        compared(runs),
        Section("Latency", [latencies(runs)], FAST),
        Section("Over time", [over_time(runs)]),
        Section("Slow requests", [tail(runs)], SLOW),
        Section("Batches and utilisation", [composition(runs), *operators(runs)]),
        Section("All figures", [provenance.scalars(runs)], "Hover over a name for its definition."),
        _origin(runs),
    ]


def _origin(runs: Sequence[Run]) -> Section:
    """The section on how to repeat the runs."""
    how = "To repeat the run to the bit: `fastsim simulate DIR/config.json DIR/requests.parquet`."
    return Section("Configuration and provenance", [provenance.configuration(runs)], how)

"""The section of a page that shows runs under other loads: their deployments with their requests, closer or further."""

from collections.abc import Callable, Sequence
from pathlib import Path

from fastsim.deployment.description import Deployment
from fastsim.deployment.schedulers import is_function
from fastsim.errors import FastsimError
from fastsim.planning.curve import curve
from fastsim.planning.load_curve import Curve
from fastsim.report.curve import section
from fastsim.report.page.page import Section, Text
from fastsim.report.runs import Run
from fastsim.workload.loading import load as load_workload

MOST_REQUESTS = 16_000  # of a run that are taken
POINTS = 10


def against_load(runs: Sequence[Run], folders: Sequence[Path], progress: Callable[[float], None]) -> Section | None:
    """Return the section on the runs' deployments under other loads; None where no run has requests.

    Each is simulated with its own requests, the first MOST_REQUESTS of them, at other rates. What cannot be, such as a
    run with a prefix cache, of which results keep no hashes, is said.
    """
    curves: list[Curve] = []
    said: list[Text] = []
    now: list[tuple[str, float, int]] = []
    for number, (run, folder) in enumerate(zip(runs, folders, strict=True)):

        def share(done: float, number: int = number) -> None:
            progress((number + done) / len(runs))

        found = _curve(run, folder, share)
        if isinstance(found, Curve):
            now.append(
                (
                    "this run" if len(runs) == 1 else run.name,
                    run.figures["throughput.requests_per_s"] or 0.0,
                    len(curves),
                )
            )
            curves.append(found)
        elif found:
            said.append(Text(f"{run.name}: {found}", "note"))
    if not curves:
        return Section("Latency against load", said) if said else None
    made = section(curves, now if len(runs) == 1 else ())
    return Section(made.title, [*made.blocks, *said], f"{made.lead} With the requests of each run, at other rates.")


def _curve(run: Run, folder: Path, progress: Callable[[float], None]) -> Curve | str:
    """The curve of a run, or why there is none; an empty text where there is nothing to say."""
    described = run.config.get("deployment", {})
    names = (described.get("scheduler", {}).get("policy"), described.get("router", {}).get("policy"))
    if any(isinstance(name, str) and is_function(name) for name in names):
        return "no curve, as its policy or router is a function of a file, which a page does not run"
    if run.figures.get("cache.hit_tokens"):
        return (
            "no curve, as results keep no hashes of blocks, without which a prefix cache finds nothing; "
            "`fastsim curve` draws it from the workload's own file"
        )
    if run.num_finished < 2:
        return ""
    try:
        requests = load_workload(folder / "requests.parquet")
        if requests.rate is None:
            return "no curve, as all its requests arrive at once"
        requests = requests.head(min(requests.num_requests, MOST_REQUESTS))
        objectives = list(run.summary.get("objectives", {}))
        deployment = Deployment.load(described)
        return curve(deployment, requests, objectives, name=run.name, points=POINTS, progress=progress)
    except FastsimError as problem:
        return f"no curve: {problem}"

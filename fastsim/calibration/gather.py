"""Gathers what was measured of a run from its files."""

from pathlib import Path

from fastsim.calibration import engine_log, steps
from fastsim.calibration.observed import Observed
from fastsim.errors import WorkloadError
from fastsim.measured import files
from fastsim.measured.read import read
from fastsim.workload.tables import listed


def gathered(
    run: Path, steps_file: Path | None, log_file: Path | None, rate: float | None, users: int | None
) -> Observed:
    """What a file of requests or of steps holds, or a folder with both, and what is named besides.

    ``rate`` and ``users`` are as for ``fastsim.measured.read.read``. Raises WorkloadError.
    """
    requests_file = _requests_file(run)
    if steps_file is None and (run.is_dir() or requests_file is None):
        steps_file = steps.beside(run) if run.is_dir() else run
    requests = None if requests_file is None else read(requests_file, rate, users)
    found = None if steps_file is None else steps.read(steps_file)
    log = None if log_file is None else engine_log.read(log_file)
    held = (
        (requests_file, "" if requests is None else f"{requests.workload.num_requests:,} requests"),
        (steps_file, "" if found is None else f"{len(found):,} steps"),
        (log_file, "log of the engine"),
    )
    return Observed(requests, found, log, tuple((path, what) for path, what in held if path is not None))


def _requests_file(run: Path) -> Path | None:
    """The file of requests; None where there are only steps."""
    if run.is_dir() and (inside := steps.beside(run)) is not None:
        others = [entry for entry in run.iterdir() if files.suffix_of(entry) and entry.name not in _OTHERS]
        if not others:
            return None
        try:
            return files.find(run)
        except WorkloadError as problem:
            names = listed(sorted(entry.name for entry in others))
            raise WorkloadError(f"{run}: holds {inside.name} and {names}; name the file of requests") from problem
    found = files.find(run)
    if files.suffix_of(found) in (".csv", ".parquet"):
        columns = {*files.table(found).column_names}
        if columns.issuperset((steps.START, *steps.COUNTS)):
            return None
    return found


_OTHERS = (*steps.NAMES, *files.NOT_MEASURED)

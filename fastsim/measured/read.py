"""Reads measured runs, in the layouts that benchmarks and recordings have."""

from pathlib import Path
from typing import Any

from fastsim.errors import WorkloadError
from fastsim.measured import bench_results, files, guidellm, own_columns, recordings
from fastsim.measured.measured import Measured
from fastsim.measured.sending import Sending, asked
from fastsim.workload.tables import listed, short

KNOWN = (
    f"JSON of `vllm bench serve {bench_results.DETAILS}` or of GuideLLM; tables with {', '.join(own_columns.MARKS)} "
    f"and {own_columns.TIMES}; recordings with {', '.join(recordings.RECORDER_MARKS[:3])} or with "
    f"{', '.join(recordings.SERVING_SIM_MARKS[:3])}"
)


def read(path: str | Path, rate: float | None = None, users: int | None = None) -> Measured:
    """Read a measured run.

    Parameters
    ----------
    path : str or Path
        A file in one of the layouts of KNOWN, or a folder that holds one.
    rate : float, optional
        Requests are sent with this mean rate, requests/s, at times that are drawn. By default as they were measured.
    users : int, optional
        Requests are sent by so many users, who each wait for the answer before they send the next. By default as they
        were measured.

    Raises
    ------
    errors.InputError
        The file cannot be read, is of no known layout, holds a value that is not valid or no request that finished, or
        does not say how its requests were sent; or ``rate`` or ``users`` is not valid.
    """
    forced, file = asked(rate, users), files.find(Path(path))
    if files.suffix_of(file) in (".csv", ".parquet"):
        return _of_table(file, forced)
    document = files.document(file)
    if isinstance(document, dict) and "benchmarks" in document:
        return guidellm.read(document, str(file)).run(forced)
    if isinstance(document, dict) and bench_results.holds(document):
        return bench_results.read(document, str(file)).run(forced)
    if (
        document
        and isinstance(document, list)
        and all(isinstance(one, dict) and bench_results.holds(one) for one in document)
    ):
        raise WorkloadError(f"{file}: {len(document):,} results of a benchmark; write each into a file of its own")
    raise _unknown(file, document)


def _of_table(file: Path, forced: Sending | None) -> Measured:
    table = files.table(file)
    names = {*table.column_names}
    if names.issuperset(recordings.RECORDER_MARKS):
        return recordings.of_recorder(table, file).run(forced)
    if names.issuperset(recordings.SERVING_SIM_MARKS):
        return recordings.of_serving_sim(table, file).run(forced)
    if names.issuperset(own_columns.MARKS):
        return own_columns.read(table, file, forced)
    raise WorkloadError(f"{file}: columns {listed(table.column_names)} are of no known layout; known are {KNOWN}")


def _unknown(file: Path, document: Any) -> WorkloadError:
    holds = f"keys {listed(list(document))} are" if isinstance(document, dict) else f"{short(document)} is"
    return WorkloadError(f"{file}: {holds} of no known layout; known are {KNOWN}")

"""The result of a simulation: tables of requests and iterations, a summary, and the configuration they follow from."""

import json
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow.csv import write_csv

from fastsim.deployment.resolved import Resolved
from fastsim.errors import ConfigError
from fastsim.files.writing import replacing
from fastsim.predictors.built import Built
from fastsim.result import shown, wording
from fastsim.result.columns import (
    BREAKDOWN,
    ENGINE_ITERATIONS,
    ENGINE_REQUESTS,
    ITERATIONS,
    REQUESTS,
    WORKLOAD,
    Column,
)
from fastsim.result.metrics.definitions import definitions
from fastsim.result.metrics.goodput import judge
from fastsim.result.metrics.objectives import Objective, missed
from fastsim.result.metrics.summary import add_details, summarise
from fastsim.result.metrics.verdict import rejudge
from fastsim.result.outcome import Outcome
from fastsim.result.store import CSV, FILES, FORMAT, as_json, digest_of, read_folder, write_parquet
from fastsim.version import __version__
from fastsim.workload import Workload


@dataclass(frozen=True, repr=False)
class Result:
    """What a simulation gives: tables of requests and iterations, figures, and all that they follow from.

    Attributes
    ----------
    requests : pyarrow.Table
        A row per request. Each column has its unit and meaning in the metadata of its field.
    iterations : pyarrow.Table or None
        A row per batch and pipeline stage, by start time; None unless they were asked for.
    summary : dict
        Figures such as ``summary["latency"]["ttft"]["p99"]``; ``summary["definitions"]`` says what each means, and its
        unit.
    config : dict
        The resolved deployment, the workload, the model, the device, and the versions: what the result follows from.

    Examples
    --------
    >>> result = fastsim.simulate(None, fastsim.load_workload("chat", num_requests=50), iterations=True)
    >>> result.requests.num_rows, result.iterations.column_names[:2]
    (50, ['replica_id', 'stage_id'])
    >>> result.save("run")
    >>> fastsim.Result.load("run").requests.equals(result.requests)
    True
    """

    requests: pa.Table
    iterations: pa.Table | None
    summary: dict[str, Any]
    config: dict[str, Any]

    def __repr__(self) -> str:
        return f"<Result: {shown.line(self.summary, self.config)}>"

    def _repr_html_(self) -> str:
        """The headline figures as a table, as notebooks show it."""
        return shown.html(self.summary, self.config)

    def to_pandas(self) -> Any:
        """Return ``requests`` as a data frame of pandas, which the extra ``fastsim[pandas]`` installs.

        Returns
        -------
        pandas.DataFrame
            A row per request, and a column per column of ``requests``.

        Raises
        ------
        errors.ConfigError
            When pandas is not installed.
        """
        if find_spec("pandas") is None:
            raise ConfigError("pandas is not installed; `pip install 'fastsim[pandas]'` brings it")
        return self.requests.to_pandas()

    def column(self, name: str) -> NDArray[Any]:
        """Return a column of ``requests`` as an array.

        Parameters
        ----------
        name : str
            The name of the column, such as ``"ttft"``.

        Returns
        -------
        ndarray
            One value per request, in the order of their ids.
        """
        values: NDArray[Any] = self.requests[name].to_numpy()
        return values

    def columns(self) -> dict[str, NDArray[Any]]:
        """Return all columns of ``requests`` as arrays, by name."""
        return {name: self.column(name) for name in self.requests.column_names}

    def tables(self) -> list[tuple[str, pa.Table]]:
        """Return the tables of this result, each with its name."""
        tables = {"requests": self.requests, "iterations": self.iterations}
        return [(name, table) for name, table in tables.items() if table is not None]

    def save(self, folder: str | Path, csv: bool = False) -> None:
        """Write requests.parquet, iterations.parquet, config.json and summary.json: all of them, or none.

        Parameters
        ----------
        folder : str or Path
            Where to write. The folder is created if need be, and the files of an earlier result in it are replaced.
        csv : bool
            Whether to write the tables as CSV as well. By default False.

        Raises
        ------
        errors.OutputError
            When the files cannot be written.
        """
        began = time.perf_counter()
        timing = self.summary["timing"]
        digest = digest_of(self.requests, self.iterations, self.summary, self.config)
        with replacing(Path(folder), FILES, whole=True) as written:
            for name, table in self.tables():
                write_parquet(table, written / f"{name}.parquet", digest)
            if csv:
                self._write_csv(written)
            (written / "config.json").write_text(as_json({**self.config, "digest": digest}))
            timing["total_s"] -= timing["write_s"]
            timing["write_s"] = time.perf_counter() - began
            timing["total_s"] += timing["write_s"]
            (written / "summary.json").write_text(as_json({**self.summary, "digest": digest}))

    def save_csv(self, folder: str | Path) -> None:
        """Write the tables as CSV: both of them, or none.

        Parameters
        ----------
        folder : str or Path
            Where to write requests.csv and iterations.csv.

        Raises
        ------
        errors.OutputError
            When the files cannot be written.
        """
        with replacing(Path(folder), CSV) as written:
            self._write_csv(written)

    def _write_csv(self, folder: Path) -> None:
        """Write each table into ``folder`` as CSV."""
        for name, table in self.tables():
            write_csv(table, folder / f"{name}.csv")

    def judge(self, objectives: Sequence[Objective]) -> None:
        """Judge the result by objectives: put them, the goodput and the verdict under them into the summary.

        Parameters
        ----------
        objectives : sequence of Objective
            What the latencies must keep to; ``fastsim.result.metrics.objectives.parse`` makes one from text.
        """
        self.summary.update(judge(objectives, self.columns(), self.summary))
        if previous := self.summary.get("verdict"):
            self.summary["verdict"] = rejudge(previous, missed(objectives, self.summary), wording.of(self.config).slots)
        self.summary["definitions"] = definitions(self.summary) | self.summary["definitions"]

    @classmethod
    def load(cls, folder: str | Path) -> "Result":
        """Read a result from the folder that ``save`` wrote.

        Parameters
        ----------
        folder : str or Path
            The folder.

        Returns
        -------
        Result
            The result as it was saved.

        Raises
        ------
        errors.InputError
            When the folder holds no result, only a part of one, one of another format, or one that was changed.
        """
        return cls(*read_folder(Path(folder)))


def wrap(
    resolved: Resolved,
    workload: Workload,
    built: Built,
    outcome: Outcome,
    timing: dict[str, float],
    objectives: Sequence[Objective] = (),
    exclude: tuple[float, float] = (0.0, 0.0),
) -> Result:
    """Turn the arrays of a finished simulation into its result.

    Parameters
    ----------
    resolved, workload
        What was simulated.
    built : Built
        The operator times, with their provenance.
    outcome : Outcome
        What the kernel left; the result shares its arrays.
    timing : dict of str to float
        The section ``timing`` of the summary, in seconds. The caller may still change it.
    objectives : sequence of Objective
        Objectives to judge the result by; without any, the verdict is by Vidur's objectives.
    exclude : tuple of float
        Warm-up and cool-down in seconds, whose requests latencies leave out.
    """
    config = config_of(resolved, workload, built.provenance)
    requests = request_table(outcome.columns, config)
    iterations = None if outcome.log is None else _iterations(outcome.log, config)
    summary = summarise(resolved, *outcome[:4], built.provenance, exclude)
    if outcome.measures is not None:
        add_details(summary, resolved, built.operators, outcome.columns, outcome.replicas, outcome.measures, exclude)
    summary["warnings"] = warnings_of(resolved, workload, built.provenance)
    result = Result(requests, iterations, {**summary, "timing": timing}, config)
    if objectives:
        result.judge(objectives)
    return result


def request_table(columns: dict[str, NDArray[Any]], config: dict[str, Any]) -> pa.Table:
    """Return the table of requests.parquet, with ``config`` in its metadata; it shares the memory of ``columns``."""
    known = [column for column in (*REQUESTS, *ENGINE_REQUESTS, *BREAKDOWN, *WORKLOAD) if column.name in columns]
    return _table(known, columns, config)


def _iterations(log: Sequence[NDArray[Any]], config: dict[str, Any]) -> pa.Table:
    """Return the table of iterations, with rows in order of start, then of replica and stage."""
    order = np.lexsort((log[1], log[0], log[2]))
    known = (*ITERATIONS, *ENGINE_ITERATIONS)
    kept = {column.name: values for column, values in zip(known, log, strict=True) if len(values) == len(order)}
    return _table(known[: len(kept)], {name: values[order] for name, values in kept.items()}, config)


def config_of(resolved: Resolved, workload: Workload, provenance: dict[str, Any]) -> dict[str, Any]:
    """Return the contents of config.json: everything that a result follows from.

    The Parquet files carry the same in their metadata. ``provenance`` is that of the operator times.
    """
    said = warnings_of(resolved, workload, provenance)
    is_engine = resolved.scheduler.release is not None or resolved.scheduler.sglang is not None
    if not (is_engine and resolved.scheduler.enable_prefix_caching):
        workload = replace(workload, block_hashes=None)  # nothing that is simulated reads them
    if resolved.router != "pinned":
        workload = replace(workload, replica_id=None)  # the router ignores it, so the result does not follow from it
    device = asdict(resolved.device)
    device["tflops"] = dict(resolved.device.tflops)
    return {
        "format": FORMAT,
        "deployment": resolved.deployment.model_dump(mode="json"),
        "workload": {
            "name": workload.name,
            "num_requests": workload.num_requests,
            "sha256": workload.digest,
            **({} if workload.block_hashes is None else {"block_hashes": True}),
            **({} if workload.origin is None else {"origin": workload.origin.as_dict()}),
        },
        "model": json.loads(json.dumps(asdict(resolved.model))),  # as it is read again: lists, not tuples
        "device": device,
        "node": asdict(resolved.node),
        "memory": asdict(resolved.memory),
        "predictor": provenance,
        "warnings": said,
        "versions": {
            "fastsim": __version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
        },
    }


def warnings_of(resolved: Resolved, workload: Workload, provenance: dict[str, Any]) -> list[str]:
    """What a user must know of the deployment, of the operator times and of the requests, one sentence each."""
    return [*resolved.warnings, *provenance.get("notes", []), *workload.notes, *_unread(resolved, workload)]


def _unread(resolved: Resolved, workload: Workload) -> list[str]:
    """A sentence for each column of the requests that is expected to count and is not read, or that a router misses."""
    scheduler, said = resolved.scheduler, []
    if workload.block_hashes is not None and scheduler.release is None and scheduler.sglang is None:
        said.append(
            f"the requests have hashes of blocks, but policy {scheduler.policy.name} has no prefix cache (vllm_v1 "
            "and sglang have)"
        )
    if workload.priority is not None and scheduler.scheduling_policy != "priority" and np.ptp(workload.priority):
        said.append(
            "the requests have priorities, but are admitted in order of arrival; scheduler.scheduling_policy=priority, "
            "of policy vllm_v1, admits them by these"
        )
    if resolved.router == "prefix_aware" and workload.block_hashes is None:
        said.append("router.policy: prefix_aware finds nothing cached, as the requests have no hashes of blocks")
    return said


def _table(columns: Sequence[Column], arrays: dict[str, NDArray[Any]], config: dict[str, Any]) -> pa.Table:
    """Return ``arrays``, by name, as a table with the types, units and meanings of ``columns``."""
    fields = [
        pa.field(c.name, pa.from_numpy_dtype(np.dtype(c.dtype)), metadata={"unit": c.unit, "meaning": c.meaning})
        for c in columns
    ]
    return pa.table(
        [pa.array(arrays[c.name].astype(c.dtype, copy=False)) for c in columns],
        schema=pa.schema(fields, metadata={"fastsim": json.dumps(config)}),
    )

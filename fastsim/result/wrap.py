"""Turns the arrays of a finished simulation into its result."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fastsim.deployment.resolved import Resolved
from fastsim.predictors.built import Built
from fastsim.result.columns import (
    BREAKDOWN,
    ENGINE_ITERATIONS,
    ENGINE_REQUESTS,
    ITERATIONS,
    POOLS,
    RANK,
    REQUESTS,
    TRANSFERS,
    WORKLOAD,
    Column,
)
from fastsim.result.config import config_of
from fastsim.result.metrics.objectives import Objective
from fastsim.result.metrics.summary import add_details, summarise
from fastsim.result.outcome import Outcome
from fastsim.result.result import Result
from fastsim.workload import Workload


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
    ranks = resolved.data_parallel_size
    iterations = None if outcome.log is None else _iterations(outcome.log, config, ranks)
    summary = summarise(resolved, *outcome[:4], built.provenance, exclude)
    if outcome.measures is not None:
        add_details(summary, resolved, built.operators, outcome.columns, outcome.replicas, outcome.measures, exclude)
    summary["warnings"] = list(config["warnings"])
    result = Result(requests, iterations, {**summary, "timing": timing}, config)
    if objectives:
        result.judge(objectives)
    return result


def request_table(columns: dict[str, NDArray[Any]], config: dict[str, Any]) -> pa.Table:
    """Return the table of requests.parquet, with ``config`` in its metadata; it shares the memory of ``columns``."""
    declared = (*REQUESTS[:2], RANK, *REQUESTS[2:], *POOLS, *TRANSFERS, *ENGINE_REQUESTS, *BREAKDOWN, *WORKLOAD)
    known = [column for column in declared if column.name in columns]
    return _table(known, columns, config)


def _iterations(log: Sequence[NDArray[Any]], config: dict[str, Any], ranks: int) -> pa.Table:
    """Return the table of iterations, with rows in order of start, then of replica, rank and stage."""
    order = np.lexsort((log[1], log[0], log[2]))
    known = (*ITERATIONS, *ENGINE_ITERATIONS)
    kept = {column.name: values for column, values in zip(known, log, strict=True) if len(values) == len(order)}
    columns: Sequence[Column] = known[: len(kept)]
    if ranks > 1:
        rows = kept["replica_id"]
        kept |= {"replica_id": rows // ranks, "rank": rows % ranks}
        columns = (known[0], RANK, *known[1 : len(kept) - 1])
    return _table(columns, {name: values[order] for name, values in kept.items()}, config)


def _table(columns: Sequence[Column], arrays: dict[str, NDArray[Any]], config: dict[str, Any]) -> pa.Table:
    """Return ``arrays``, by name, as a table with the types, units and meanings of ``columns``."""
    fields = [
        pa.field(c.name, pa.from_numpy_dtype(np.dtype(c.dtype)), metadata={"unit": c.unit, "meaning": c.meaning})
        for c in columns
    ]
    return pa.table(
        [_array(arrays[c.name].astype(c.dtype, copy=False)) for c in columns],
        schema=pa.schema(fields, metadata={"fastsim": json.dumps(config)}),
    )


def _array(values: NDArray[Any]) -> pa.Array:
    """A column of Arrow, which shares the memory of numbers. pa.array would import pandas, where it is installed."""
    if values.dtype.kind not in "iuf" or values.ndim != 1 or not values.flags.c_contiguous:
        return pa.array(values)
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [None, pa.py_buffer(values)])

"""Reports of GuideLLM, of its old and new versions."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fastsim.errors import WorkloadError
from fastsim.measured.columns import Columns, floats, positive
from fastsim.measured.measured import Floats
from fastsim.measured.sending import Sending
from fastsim.workload.json_files import dig, guidellm_requests, of_status
from fastsim.workload.layouts import GUIDELLM

LAYOUT = GUIDELLM.name
TIMINGS = ("info.timings", "scheduler_info.request_timings")
FIRST = ("first_token_time", *(f"{timings}.first_token_iteration" for timings in TIMINGS))
FIRST += tuple(f"{timings}.first_iteration" for timings in TIMINGS)
ENDS = ("request_end_time", "end_time", *(f"{timings}.request_end" for timings in TIMINGS))
STARTS = (*GUIDELLM.arrived_at, "scheduler_info.request_timings.request_start")
STRATEGIES = ("config.strategy", "scheduler.strategy", "args.strategy")


def read(document: Mapping[str, Any], place: str) -> Columns:
    """The columns of the only benchmark in a report. Raises WorkloadError where it lacks what is needed."""
    groups = guidellm_requests(document["benchmarks"], place)
    rows = of_status(groups, "successful", place)
    failed = sum(len(of_status(groups, status, place)) for status in ("errored", "incomplete"))
    for row, request in enumerate(rows):
        if not isinstance(request, Mapping):
            raise WorkloadError(f"{place}: request {row + 1}: is not an object (e.g. {{'request_id': 'x', ...}})")
    prompts, outputs = (
        _column(rows, names, place) for names in (GUIDELLM.num_prompt_tokens, GUIDELLM.num_output_tokens)
    )
    starts = _column(rows, STARTS, place)
    ttft, e2e = _column(rows, ("time_to_first_token_ms",), place) / 1e3, _column(rows, ("request_latency",), place)
    ttft = np.where(np.isnan(ttft), _column(rows, FIRST, place) - starts, ttft)
    e2e = np.where(np.isnan(e2e), _column(rows, ENDS, place) - starts, e2e)
    return Columns(
        place,
        LAYOUT,
        ("prompt_tokens", "output_tokens"),
        prompts,
        outputs,
        ttft,
        e2e,
        positive(outputs),
        None if np.isnan(starts).all() else starts,
        failed=failed,
        said=_sending(document["benchmarks"][0]),
    )


def _column(rows: Sequence[Mapping[str, Any]], names: Sequence[str], place: str) -> Floats:
    """For each request the first of some values that it has, float64[n]; NaN where it has none."""
    paths = [(name, name.split(".")) for name in names]

    def value(row: Mapping[str, Any]) -> Any:
        found = (dig(row, name, path) for name, path in paths)
        return next((one for one in found if one is not None), None)

    return floats([value(row) for row in rows], place, names[0])


def _sending(benchmark: Mapping[str, Any]) -> Sending:
    """How the benchmark's strategy sends requests: one after the other, by streams, or at times that are recorded."""
    for name in STRATEGIES:
        strategy = dig(benchmark, name, name.split("."))
        if isinstance(strategy, Mapping):
            if strategy.get("type_") == "synchronous":
                return Sending(users=1)
            streams = strategy.get("streams")
            if strategy.get("type_") == "concurrent" and isinstance(streams, int) and streams >= 1:
                return Sending(users=streams)
    return Sending()

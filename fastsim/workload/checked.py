"""The columns of a workload as it keeps them: checked, as long as each other, and read-only."""

from collections.abc import Callable, Mapping
from typing import Any

from numpy.typing import NDArray

from fastsim.errors import WorkloadError
from fastsim.workload.checks import (
    check_lengths,
    check_limits,
    check_priorities,
    check_replicas,
    check_sessions,
    check_stops,
    check_tenants,
    check_think_times,
    check_times,
)

CHECKS: dict[str, Callable[[Any, str, str], NDArray[Any]]] = {
    "num_prompt_tokens": check_lengths,
    "num_output_tokens": check_lengths,
    "replica_id": check_replicas,
    "session_id": check_sessions,
    "think_time": check_think_times,
    "priority": check_priorities,
    "tenant": check_tenants,
    "ends_by_stop": check_stops,
}


def checked(columns: Mapping[str, Any], place: str, *, may_lack: bool) -> dict[str, NDArray[Any]]:
    """Return a Workload's columns by name, those that are None left out, as read-only arrays of their own types.

    ``place`` is what messages call the workload; ``may_lack``: an arrival time may be NaN. Raises WorkloadError at the
    first value that is not valid.
    """
    times = check_times(columns["arrived_at"], place, "arrived_at", may_lack=may_lack)
    kept: dict[str, NDArray[Any]] = {"arrived_at": times}
    for column, check in CHECKS.items():
        if columns[column] is not None:
            kept[column] = check(columns[column], place, column)
    if columns["max_tokens"] is not None:
        limits = check_limits(columns["max_tokens"], kept["num_output_tokens"], place, "max_tokens")
        kept["max_tokens"] = limits
    for column, values in kept.items():
        if len(values) != len(times):
            raise WorkloadError(
                f"{place}: {column} has {len(values):,} values and arrived_at {len(times):,}; every column needs one "
                "per request"
            )
        kept[column] = values.view()
        kept[column].flags.writeable = False
    return kept

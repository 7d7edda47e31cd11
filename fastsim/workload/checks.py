"""Checks of the columns of requests; errors name the row and the value, and a valid value."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastsim.errors import ConfigError, WorkloadError, did_you_mean
from fastsim.workload.layouts import UNITS

MAX_TOKENS = 10_000_000  # of one prompt or one output; a larger number is taken for a mistake in a file
MAX_NAME = 100  # characters of the name of a tenant
MAX_TIME = 1e10  # s; later than this, float64 no longer tells apart the times of two iterations

TRUTH = "true or false (e.g. true)"

Rows = NDArray[np.int64] | None


def check_times(
    values: Any, place: str, column: str, rows: Rows = None, *, may_lack: bool = False
) -> NDArray[np.float64]:
    """Return ``values`` as arrival times, float64[n], s. Raises WorkloadError at the first that is not valid.

    ``rows``: int64[n], the rows of the file that they come from, from 0; None if these are all rows. ``may_lack``: a
    time may be NaN, but not all of them.
    """
    times = _numbers(values, place, column).astype(np.float64, copy=False)
    if may_lack and bool((lacking := np.isnan(times)).any()):
        if lacking.all():
            raise WorkloadError(
                f"{place}: {column} is empty in every row, so that every request waits for another; give the first "
                "request of a session, or of each user, a time in seconds (e.g. 0)"
            )
        given = np.flatnonzero(~lacking)
        check_times(times[given], place, column, given if rows is None else rows[given])
        return times
    if not (times[0] >= 0 and times[-1] <= MAX_TIME and bool((times[1:] >= times[:-1]).all())):
        wanted = f"a time in seconds from 0 to {MAX_TIME:g} (e.g. 0.25){_unit_of(times)}"
        refuse(~((times >= 0) & (times <= MAX_TIME)), times, place, column, wanted, rows)
        row = int(np.flatnonzero(times[1:] < times[:-1])[0]) + 1
        raise WorkloadError(
            f"{place}: data row {row_number(row, rows)}: {column}: {times[row].item()!r} is earlier than the row "
            f"before ({times[row - 1].item()!r}); sort the requests by {column}"
        )
    return times


def _unit_of(times: NDArray[np.float64]) -> str:
    """A hint where times look like those since 1970 in a smaller unit than seconds."""
    units = {"ms": (1e3, "milliseconds"), "us": (1e6, "microseconds"), "ns": (1e9, "nanoseconds")}
    unit = next((unit for unit, (number, _) in units.items() if 1e9 <= float(times[0]) / number <= 4e9), None)
    if unit is None:
        return ""
    number, name = units[unit]
    return f"; these look like {name} since 1970, so divide them by {number:,.0f}, or say unit {unit} (--unit {unit})"


def check_lengths(values: Any, place: str, column: str, rows: Rows = None) -> NDArray[np.int64]:
    """Return ``values`` as tokens, int64[n], 1 to 10 million. Raises WorkloadError at the first that is not valid."""
    lengths = _numbers(values, place, column)
    if lengths.dtype == np.int64 and lengths.min() >= 1 and lengths.max() <= MAX_TOKENS:
        return lengths
    wanted = f"a whole number of tokens from 1 to {MAX_TOKENS:,} (e.g. 512)"
    refuse(~((lengths >= 1) & (lengths <= MAX_TOKENS)), lengths, place, column, wanted, rows)
    return _whole(lengths, place, column, wanted, rows).astype(np.int64, copy=False)


def check_replicas(values: Any, place: str, column: str, rows: Rows = None) -> NDArray[np.int32]:
    """Return ``values`` as replica numbers, int32[n], from 0. Raises WorkloadError at the first that is not valid."""
    replicas = _numbers(values, place, column)
    wanted = "a replica, counted from 0 (e.g. 3)"
    refuse(~((replicas >= 0) & (replicas < 2**31)), replicas, place, column, wanted, rows)
    return _whole(replicas, place, column, wanted, rows).astype(np.int32, copy=False)


def check_priorities(values: Any, place: str, column: str, rows: Rows = None) -> NDArray[np.int32]:
    """Return ``values`` as priorities, int32[n]. Raises WorkloadError at the first that is not valid."""
    priorities = _numbers(values, place, column)
    wanted = "a priority, of which lower ones go first (e.g. 0)"
    refuse(~((priorities >= -(2**31)) & (priorities < 2**31)), priorities, place, column, wanted, rows)
    return _whole(priorities, place, column, wanted, rows).astype(np.int32, copy=False)


def check_limits(
    values: Any, outputs: NDArray[np.int64], place: str, column: str, rows: Rows = None
) -> NDArray[np.int64]:
    """Return ``values`` as limits of outputs, int64[n], tokens. Raises WorkloadError at the first that is not valid.

    ``outputs``: int64[n], the tokens that the requests generate, which no limit is below.
    """
    limits = check_lengths(values, place, column, rows)
    below = limits[: len(outputs)] < outputs[: len(limits)]
    if below.any():
        row = int(below.argmax())
        raise WorkloadError(
            f"{place}: data row {row_number(row, rows)}: {column}: {limits[row]} is below the request's output of "
            f"{outputs[row]} tokens (e.g. {outputs[row]})"
        )
    return limits


def check_stops(values: Any, place: str, column: str, rows: Rows = None) -> NDArray[np.bool_]:
    """Return ``values``, which may be 0 and 1, as bool[n]. Raises WorkloadError at the first that is neither."""
    stops = np.asarray(values)
    if stops.dtype.kind == "b" and stops.ndim == 1:
        return stops
    stops = _numbers(stops, place, column)
    refuse((stops != 0) & (stops != 1), stops, place, column, TRUTH, rows)
    return stops.astype(np.bool_)


def check_tenants(values: Any, place: str, column: str, rows: Rows = None) -> NDArray[np.str_]:
    """Return ``values`` as names of tenants, str[n]. Raises WorkloadError at the first that is not valid."""
    names = np.asarray(values)
    if names.dtype.kind != "U" or names.ndim != 1:
        raise WorkloadError(f"{place}: {column} is of type {names.dtype}, not names (e.g. interactive)")
    bad = {name for name in set(names.tolist()) if len(name) > MAX_NAME or not name.isprintable()}
    wanted = f"a name of at most {MAX_NAME} printable characters (e.g. interactive)"
    refuse(np.isin(names, list(bad)) if bad else np.zeros(1, bool), names.astype("U60"), place, column, wanted, rows)
    return names


def check_sessions(values: Any, place: str, column: str, rows: Rows = None) -> NDArray[np.int64]:
    """Return ``values`` as sessions, int64[n]. Raises WorkloadError at the first that is no whole number."""
    sessions = _numbers(values, place, column)
    wanted = "the number of a session (e.g. 7)"
    refuse(~(np.abs(sessions.astype(np.float64)) < 2**53), sessions, place, column, wanted, rows)
    return _whole(sessions, place, column, wanted, rows).astype(np.int64, copy=False)


def check_think_times(values: Any, place: str, column: str, rows: Rows = None) -> NDArray[np.float64]:
    """Return ``values`` as think times, float64[n], s or NaN. Raises WorkloadError at the first that is not valid."""
    times = _numbers(values, place, column).astype(np.float64, copy=False)
    wanted = f"a time in seconds from 0 to {MAX_TIME:g} (e.g. 5)"
    refuse(~((times >= 0) & (times <= MAX_TIME) | np.isnan(times)), times, place, column, wanted, rows)
    return times


def check_concurrency(value: object, place: str) -> None:
    """Raise WorkloadError unless ``value`` is a number of requests in flight, from 1."""
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value < 2**31:
        raise WorkloadError(f"{place}: max_concurrency: {value!r} is not a whole number from 1 (e.g. 64)")


def check_rate(rate: float, place: str) -> None:
    """Raise WorkloadError unless ``rate`` is from 1e-9 to 1e9 requests/s."""
    if not 1e-9 <= rate <= 1e9:
        raise WorkloadError(f"{place}: {rate!r} is not requests per second from 1e-9 to 1e9 (e.g. 2.0)")


def check_unit(unit: object, where: str = "unit") -> None:
    """Raise ConfigError unless ``unit`` is None or one of UNITS."""
    if unit is not None and unit not in UNITS:
        raise ConfigError(f"{where}: {str(unit)[:60]!r} is unknown; {did_you_mean(str(unit)[:60], UNITS)}")


def refuse(
    bad: NDArray[np.bool_], values: NDArray[Any], place: str, column: str, wanted: str, rows: Rows = None
) -> None:
    """Raise WorkloadError for the first value that is ``bad``, bool[n], if any is."""
    if bad.any():
        row = int(bad.argmax())
        shown = values[row].item()
        raise WorkloadError(f"{place}: data row {row_number(row, rows)}: {column}: {shown!r} is not {wanted}")


def _numbers(values: Any, place: str, column: str) -> NDArray[Any]:
    numbers = np.asarray(values)
    if numbers.ndim != 1 or not len(numbers):
        raise WorkloadError(f"{place}: {column} holds no requests; at least one is needed")
    if numbers.dtype.kind not in "iuf":
        raise WorkloadError(f"{place}: {column} is of type {numbers.dtype}, not numbers (e.g. 512)")
    return numbers


def _whole(numbers: NDArray[Any], place: str, column: str, wanted: str, rows: Rows) -> NDArray[Any]:
    if numbers.dtype.kind == "f":
        refuse(numbers != np.floor(numbers), numbers, place, column, wanted, rows)
    return numbers


def row_number(row: int, rows: Rows) -> int:
    """The number of a row of the file, from 1."""
    return (row if rows is None else int(rows[row])) + 1

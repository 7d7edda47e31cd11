"""A workload: when each request arrives, and how many prompt and output tokens it has."""

from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from fastsim.errors import WorkloadError

MAX_TOKENS = 10_000_000  # of one prompt or one output; a larger number is taken for a mistake in a file
MAX_REQUESTS = 10**9
MAX_TIME = 1e10  # s; later than this, float64 no longer tells apart the times of two iterations
COLUMNS = ("arrived_at", "num_prompt_tokens", "num_output_tokens")


@dataclass(frozen=True, eq=False)
class Workload:
    """A stream of requests, in order of arrival. The id of a request is its position, from 0.

    A Workload is immutable: its arrays are read-only views of those that it was given.

    Parameters
    ----------
    arrived_at : float64[num_requests]
        Arrival times, s: from 0 to 1e10, ascending.
    num_prompt_tokens : int64[num_requests]
        Tokens of each prompt, 1 to 10 million.
    num_output_tokens : int64[num_requests]
        Tokens that each request generates, 1 to 10 million.
    replica_id : int32[num_requests], optional
        The replica of each request, from 0, which only the router ``pinned`` reads. By default None.
    name : str
        What messages and results call the workload. By default ``"workload"``.

    Raises
    ------
    errors.WorkloadError
        When an array is not as above; the message names the first row that is wrong, counted from 1.

    Examples
    --------
    >>> import numpy as np
    >>> workload = fastsim.Workload(
    ...     arrived_at=np.array([0.0, 0.5, 1.0]),
    ...     num_prompt_tokens=np.array([512, 128, 1024]),
    ...     num_output_tokens=np.array([64, 200, 16]),
    ... )
    >>> workload.num_requests, workload.rate  # requests, requests/s
    (3, 2.0)
    """

    arrived_at: NDArray[np.float64]
    num_prompt_tokens: NDArray[np.int64]
    num_output_tokens: NDArray[np.int64]
    replica_id: NDArray[np.int32] | None = None
    name: str = "workload"

    def __post_init__(self) -> None:
        checked: dict[str, NDArray[Any]] = {"arrived_at": check_times(self.arrived_at, self.name, "arrived_at")}
        for column in COLUMNS[1:]:
            checked[column] = check_lengths(getattr(self, column), self.name, column)
        if self.replica_id is not None:
            checked["replica_id"] = check_replicas(self.replica_id, self.name, "replica_id")
        for column, values in checked.items():
            if len(values) != len(checked["arrived_at"]):
                raise WorkloadError(
                    f"{self.name}: {column} has {len(values):,} values and arrived_at "
                    f"{len(checked['arrived_at']):,}; every column needs one per request"
                )
            view = values.view()
            view.flags.writeable = False
            object.__setattr__(self, column, view)

    @property
    def num_requests(self) -> int:
        return len(self.arrived_at)

    @property
    def rate(self) -> float | None:
        """Mean rate from the first arrival to the last, requests/s; None when all requests arrive at once."""
        span = float(self.arrived_at[-1] - self.arrived_at[0])
        return (self.num_requests - 1) / span if span > 0 else None

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the arrays as hex digits; workloads with equal arrays have equal digests, whatever their names."""
        hashed = sha256()
        for column in (*COLUMNS, "replica_id"):
            values = getattr(self, column)
            if values is not None:
                little_endian = values.astype(values.dtype.newbyteorder("<"), copy=False)
                hashed.update(f"{column}:{len(values)}:".encode())
                hashed.update(np.ascontiguousarray(little_endian).data)
        return hashed.hexdigest()

    def head(self, num_requests: int) -> Self:
        """Take the first requests.

        Parameters
        ----------
        num_requests : int
            How many requests to take.

        Returns
        -------
        Workload
            The first ``num_requests`` requests, at the same times.

        Raises
        ------
        errors.WorkloadError
            When the workload has fewer requests.
        """
        if not 1 <= num_requests <= self.num_requests:
            raise WorkloadError(
                f"{self.name}: num_requests: {num_requests:,} cannot be taken from {self.num_requests:,} requests"
                f" (e.g. {self.num_requests})"
            )
        replica = None if self.replica_id is None else self.replica_id[:num_requests]
        first = {column: getattr(self, column)[:num_requests] for column in COLUMNS}
        return replace(self, **first, replica_id=replica)

    def at_rate(self, rate: float) -> Self:
        """Change the mean rate: the gaps between arrivals all grow or shrink by the same factor.

        Parameters
        ----------
        rate : float
            The new mean rate from the first arrival to the last, requests/s.

        Returns
        -------
        Workload
            The same requests at other times; the first one arrives when it did before.

        Raises
        ------
        errors.WorkloadError
            When ``rate`` is not positive, or all requests arrive at the same time.

        Examples
        --------
        >>> chat = fastsim.load_workload("chat", num_requests=100)
        >>> round(chat.at_rate(5.0).rate, 6)
        5.0
        """
        check_rate(rate, f"{self.name}: rate")
        if self.rate is None:
            raise WorkloadError(
                f"{self.name}: rate: {rate:g} cannot be reached by stretching, as all requests arrive at once "
                f"({self.arrived_at[0]:g} s); give the stream arrival times that differ"
            )
        first = self.arrived_at[0]
        return replace(self, arrived_at=first + (self.arrived_at - first) * (self.rate / rate))

    def describe(self) -> dict[str, Any]:
        """Summarise the workload in figures that JSON can hold.

        Returns
        -------
        dict
            The number of requests, their span (s) and rate (requests/s), the coefficient of variation of the gaps, and
            mean and quantiles of prompts, outputs, their sum (tokens) and their ratio.
        """
        gaps = np.diff(self.arrived_at)
        return {
            "name": self.name,
            "num_requests": self.num_requests,
            "span_s": float(self.arrived_at[-1] - self.arrived_at[0]),
            "rate_per_s": self.rate,
            "gap_cv": float(gaps.std() / gaps.mean()) if self.rate is not None else None,
            "num_prompt_tokens": _spread(self.num_prompt_tokens) | {"total": int(self.num_prompt_tokens.sum())},
            "num_output_tokens": _spread(self.num_output_tokens) | {"total": int(self.num_output_tokens.sum())},
            "num_tokens": _spread(self.num_prompt_tokens + self.num_output_tokens)
            | {"total": int(self.num_prompt_tokens.sum() + self.num_output_tokens.sum())},
            "prompt_output_ratio": _spread(self.num_prompt_tokens / self.num_output_tokens),
            "sha256": self.digest,
        }


def _spread(values: NDArray[Any]) -> dict[str, float]:
    median, p90, p99 = np.quantile(values, (0.5, 0.9, 0.99)).tolist()
    return {"mean": float(values.mean()), "median": median, "p90": p90, "p99": p99, "max": values.max().item()}


def check_times(values: Any, place: str, column: str) -> NDArray[np.float64]:
    """Return ``values`` as arrival times, float64[n], s. Raises WorkloadError at the first that is not valid."""
    times = _numbers(values, place, column).astype(np.float64, copy=False)
    if not (times[0] >= 0 and times[-1] <= MAX_TIME and bool((times[1:] >= times[:-1]).all())):
        wanted = f"a time in seconds from 0 to {MAX_TIME:g} (e.g. 0.25){_unit_of(times)}"
        _refuse(~((times >= 0) & (times <= MAX_TIME)), times, place, column, wanted)
        row = int(np.flatnonzero(times[1:] < times[:-1])[0]) + 1
        raise WorkloadError(
            f"{place}: data row {row + 1}: {column}: {times[row].item()!r} is earlier than the row before "
            f"({times[row - 1].item()!r}); sort the requests by {column}"
        )
    return times


def _unit_of(times: NDArray[np.float64]) -> str:
    """A hint where times look like those since 1970 in a smaller unit than seconds."""
    units = {"milliseconds": 1e3, "microseconds": 1e6, "nanoseconds": 1e9}
    unit = next((name for name, number in units.items() if 1e9 <= float(times[0]) / number <= 4e9), None)
    return f"; these look like {unit} since 1970, so divide them by {units[unit]:,.0f}" if unit else ""


def check_lengths(values: Any, place: str, column: str) -> NDArray[np.int64]:
    """Return ``values`` as tokens, int64[n], 1 to 10 million. Raises WorkloadError at the first that is not valid."""
    lengths = _numbers(values, place, column)
    wanted = f"a whole number of tokens from 1 to {MAX_TOKENS:,} (e.g. 512)"
    _refuse(~((lengths >= 1) & (lengths <= MAX_TOKENS)), lengths, place, column, wanted)
    return _whole(lengths, place, column, wanted).astype(np.int64, copy=False)


def check_replicas(values: Any, place: str, column: str) -> NDArray[np.int32]:
    """Return ``values`` as replica numbers, int32[n], from 0. Raises WorkloadError at the first that is not valid."""
    replicas = _numbers(values, place, column)
    wanted = "a replica, counted from 0 (e.g. 3)"
    _refuse(~((replicas >= 0) & (replicas < 2**31)), replicas, place, column, wanted)
    return _whole(replicas, place, column, wanted).astype(np.int32, copy=False)


def check_rate(rate: float, place: str) -> None:
    """Raise WorkloadError unless ``rate`` is from 1e-9 to 1e9 requests/s."""
    if not 1e-9 <= rate <= 1e9:
        raise WorkloadError(f"{place}: {rate!r} is not requests per second from 1e-9 to 1e9 (e.g. 2.0)")


def _numbers(values: Any, place: str, column: str) -> NDArray[Any]:
    numbers = np.asarray(values)
    if numbers.ndim != 1 or not len(numbers):
        raise WorkloadError(f"{place}: {column} holds no requests; at least one is needed")
    if numbers.dtype.kind not in "iuf":
        raise WorkloadError(f"{place}: {column} is of type {numbers.dtype}, not numbers (e.g. 512)")
    return numbers


def _whole(numbers: NDArray[Any], place: str, column: str, wanted: str) -> NDArray[Any]:
    if numbers.dtype.kind == "f":
        _refuse(numbers != np.floor(numbers), numbers, place, column, wanted)
    return numbers


def _refuse(bad: NDArray[np.bool_], values: NDArray[Any], place: str, column: str, wanted: str) -> None:
    if bad.any():
        row = int(bad.argmax())
        raise WorkloadError(f"{place}: data row {row + 1}: {column}: {values[row].item()!r} is not {wanted}")

"""A workload: when each request arrives, and how many prompt and output tokens it has."""

from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from fastsim.errors import WorkloadError
from fastsim.workload.blocks import BlockHashes, check_hashes
from fastsim.workload.checks import check_lengths, check_rate, check_replicas, check_times
from fastsim.workload.origin import Origin

MAX_REQUESTS = 10**9
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
    block_hashes : BlockHashes, optional
        The hashes of each request's blocks of tokens. They are kept, but hits of a prefix cache are not simulated. By
        default None.
    origin : Origin, optional
        The layout of the file that the requests come from, and how many of them were left out. By default None.

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
    block_hashes: BlockHashes | None = None
    origin: Origin | None = None

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
        if self.block_hashes is not None:
            num_tokens = self.num_prompt_tokens + self.num_output_tokens
            object.__setattr__(self, "block_hashes", check_hashes(self.block_hashes, num_tokens, self.name))

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
        if self.block_hashes is not None:
            hashed.update(f"block_hashes:{self.block_hashes.block_size}:".encode())
            for values in (self.block_hashes.offsets, self.block_hashes.values):
                hashed.update(np.ascontiguousarray(values.astype("<i8", copy=False)).data)
        return hashed.hexdigest()

    @property
    def notes(self) -> tuple[str, ...]:
        """What was left out or changed between the file and this workload, one sentence each."""
        return self.origin.notes() if self.origin is not None else ()

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
        return self.take(slice(num_requests))

    def take(self, rows: NDArray[np.int64] | slice) -> Self:
        """Take some of the requests.

        Parameters
        ----------
        rows : int64[n] or slice
            Which requests to take, in ascending order.

        Returns
        -------
        Workload
            These requests, at the same times.
        """
        hashes = self.block_hashes
        if hashes is not None:
            hashes = hashes.take(np.arange(self.num_requests)[rows])
        replica = None if self.replica_id is None else self.replica_id[rows]
        columns = {column: getattr(self, column)[rows] for column in COLUMNS}
        return replace(self, **columns, replica_id=replica, block_hashes=hashes)

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
        origin = None if self.origin is None else replace(self.origin, mean_gap=0.0)  # no doubt is left
        return replace(self, arrived_at=first + (self.arrived_at - first) * (self.rate / rate), origin=origin)

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
            "layout": self.origin.layout or None if self.origin is not None else None,
            "block_hashes": None if self.block_hashes is None else self.block_hashes.describe(),
            "notes": list(self.notes),
        }


def _spread(values: NDArray[Any]) -> dict[str, float]:
    median, p90, p99 = np.quantile(values, (0.5, 0.9, 0.99)).tolist()
    return {"mean": float(values.mean()), "median": median, "p90": p90, "p99": p99, "max": values.max().item()}

"""A workload: when each request arrives, and how many prompt and output tokens it has."""

from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from fastsim.errors import WorkloadError
from fastsim.workload.blocks import BlockHashes, check_hashes
from fastsim.workload.checked import checked
from fastsim.workload.checks import check_concurrency, check_rate
from fastsim.workload.digest import digest
from fastsim.workload.figures import blocks, lengths, sessions
from fastsim.workload.following import Following, check_following, earliest, follow, sent_by
from fastsim.workload.layouts import MORE
from fastsim.workload.origin import Origin
from fastsim.workload.reuse import HitCurve, hit_curve, in_turns

MAX_REQUESTS = 10**9
COLUMNS = ("arrived_at", "num_prompt_tokens", "num_output_tokens")


@dataclass(frozen=True, eq=False)
class Workload:
    """A stream of requests, in order of arrival. The id of a request is its position, from 0.

    A Workload is immutable: its arrays are read-only views of those that it was given.

    Parameters
    ----------
    arrived_at : float64[num_requests]
        Arrival times, s: from 0 to 1e10, ascending. NaN where a request arrives only once another has finished.
    num_prompt_tokens : int64[num_requests]
        Tokens of each prompt, 1 to 10 million.
    num_output_tokens : int64[num_requests]
        Tokens that each request generates, 1 to 10 million.
    replica_id : int32[num_requests], optional
        The replica of each request, from 0, which only the router ``pinned`` reads. By default None.
    name : str
        What messages and results call the workload. By default ``"workload"``.
    block_hashes : BlockHashes, optional
        The hashes of each request's blocks of tokens, by which policy vllm_v1 finds them in its prefix cache. By
        default None.
    origin : Origin, optional
        The layout of the file that the requests come from, and how many of them were left out. By default None.
    session_id : int64[num_requests], optional
        The session of each request, such as one conversation, by which the router ``session`` goes. By default None.
    think_time : float64[num_requests], optional
        For a request whose ``arrived_at`` is NaN: how long after the end of the request before it, of the same session,
        it arrives, s. NaN for requests that arrive by themselves. By default None.
    max_concurrency : int, optional
        Requests that the clients have in flight at most: further ones wait, in their order, until another has finished.
        Their ``arrived_at`` is when a client wants to send them; NaN: as soon as it may, ``think_time`` after that end.
        By default None, which is no limit.
    priority : int32[num_requests], optional
        The priority of each request, of which lower ones go first where ``scheduling_policy`` is priority. By default
        None.
    tenant : str[num_requests], optional
        The name of the tenant that sends each request. By default None.
    max_tokens : int64[num_requests], optional
        The limit of each output that the engine knows, tokens: num_output_tokens or more. By default None: the limit is
        num_output_tokens, or 10 million where the request ends by a stop token.
    ends_by_stop : bool[num_requests], optional
        Whether the engine learns that a request has ended only from a stop token, its last output token, and not from
        a limit that it knows. By default None: where max_tokens is above num_output_tokens.

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
    session_id: NDArray[np.int64] | None = None
    think_time: NDArray[np.float64] | None = None
    max_concurrency: int | None = None
    priority: NDArray[np.int32] | None = None
    tenant: NDArray[np.str_] | None = None
    max_tokens: NDArray[np.int64] | None = None
    ends_by_stop: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        waits = self.think_time is not None or self.max_concurrency is not None
        columns = {column: getattr(self, column) for column in (*COLUMNS, *MORE)}
        for column, values in checked(columns, self.name, may_lack=waits).items():
            object.__setattr__(self, column, values)
        if self.max_concurrency is not None:
            check_concurrency(self.max_concurrency, self.name)
        if waits:
            check_following(self.name, self.arrived_at, self.session_id, self.think_time, self.max_concurrency)
        if self.block_hashes is not None:
            num_tokens = self.num_prompt_tokens + self.num_output_tokens
            object.__setattr__(self, "block_hashes", check_hashes(self.block_hashes, num_tokens, self.name))

    @property
    def num_requests(self) -> int:
        return len(self.arrived_at)

    @property
    def rate(self) -> float | None:
        """Mean rate from the first arrival to the last, requests/s; None when all requests arrive at once.

        Later turns of sessions count as if they arrived among the first turns. In a closed loop there is no rate.
        """
        return (self.num_requests - 1) / self.span if self.span > 0 and not self.is_loop else None

    @property
    def span(self) -> float:
        """The time from the first arrival that is known to the last, s."""
        return float(np.nanmax(self.arrived_at) - np.nanmin(self.arrived_at))

    @cached_property
    def following(self) -> Following | None:
        """Which requests arrive only once others have finished; None where all arrive by themselves."""
        return follow(self.num_requests, self.session_id, self.think_time, self.max_concurrency)

    @cached_property
    def hit_curve(self) -> HitCurve | None:
        """What a prefix cache would hit, by its size; None without block_hashes."""
        hashes, prompts, outputs = self.block_hashes, self.num_prompt_tokens, self.num_output_tokens
        if hashes is None:
            return None
        return hit_curve(
            *in_turns(earliest(self.arrived_at, self.session_id, self.think_time), hashes, prompts, outputs)
        )

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the arrays as hex digits; workloads with equal arrays have equal digests, whatever their names."""
        columns = {column: getattr(self, column) for column in (*COLUMNS, *MORE)}
        return digest(columns, self.max_concurrency, self.block_hashes)

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
        optional = {name: getattr(self, name) for name in MORE}
        columns = {column: getattr(self, column)[rows] for column in COLUMNS}
        columns |= {name: values[rows] for name, values in optional.items() if values is not None}
        return replace(self, **columns, block_hashes=hashes)

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
        if self.rate is None and self.max_concurrency is not None:
            raise WorkloadError(
                f"{self.name}: rate: {rate:g} cannot be given to a closed loop, whose requests arrive when others have "
                f"finished; change its concurrency (now {self.max_concurrency})"
            )
        if self.rate is None:
            raise WorkloadError(
                f"{self.name}: rate: {rate:g} cannot be reached by stretching, as all requests arrive at once "
                f"({self.arrived_at[0]:g} s); give the stream arrival times that differ"
            )
        first = self.arrived_at[0]
        origin = None if self.origin is None else replace(self.origin, mean_gap=0.0)  # no doubt is left
        return replace(self, arrived_at=first + (self.arrived_at - first) * (self.rate / rate), origin=origin)

    @property
    def is_loop(self) -> bool:
        """Whether a fixed number of users wait for their answers, so that there is no rate of arrivals."""
        following = self.following if self.max_concurrency is not None else None
        if following is None:
            return False
        if len(following.first) == self.max_concurrency and not len(following.loop):  # each user is a session
            return bool(np.isnan(self.arrived_at).any())
        return bool(np.isnan(self.arrived_at[following.loop]).any())

    def with_users(self, users: int) -> Self:
        """Let a number of users send the requests, who each wait for their answer before they send the next.

        Parameters
        ----------
        users : int
            How many users there are: as many requests, or sessions, are in flight.

        Returns
        -------
        Workload
            The same requests. The think times stay, which are 0 s where there are none; the first requests arrive
            within the same time as before if this is a closed loop, else at once.

        Raises
        ------
        errors.WorkloadError
            When there are fewer requests, or sessions, than users, or turns of sessions arrive at times of their own.

        Examples
        --------
        >>> loop = fastsim.load_workload("chat", num_requests=100).with_users(8)
        >>> loop.max_concurrency, loop.is_loop
        (8, True)
        """
        ramp_up = 0.0
        if self.is_loop and self.max_concurrency is not None:
            ramp_up = self.span * self.max_concurrency / max(1, self.max_concurrency - 1)
        columns = self.session_id, self.think_time
        arrived_at, think = sent_by(users, self.num_requests, *columns, ramp_up, self.name)
        return replace(self, arrived_at=arrived_at, think_time=think, max_concurrency=users)

    def describe(self) -> dict[str, Any]:
        """Summarise the workload in figures that JSON can hold.

        Returns
        -------
        dict
            The number of requests, their span (s) and rate (requests/s), the coefficient of variation of the gaps; mean
            and quantiles of prompts, outputs, their sum (tokens) and their ratio; turns and think times (s) of
            sessions; the requests of each tenant; the median of max_tokens, and the share of requests that end by a
            stop token; and what a prefix cache would hit, by its size.
        """
        gaps = np.diff(self.arrived_at[~np.isnan(self.arrived_at)])
        session, hashes, curve = self.session_id, self.block_hashes, self.hit_curve
        prompts, outputs = self.num_prompt_tokens, self.num_output_tokens
        return {
            "name": self.name,
            "num_requests": self.num_requests,
            "span_s": self.span,
            "rate_per_s": self.rate,
            "gap_cv": float(gaps.std() / gaps.mean()) if self.rate is not None else None,
            "num_sessions": None if session is None else len(np.unique(session)),
            "sessions": None if session is None else sessions(session, self.think_time, prompts, outputs),
            "tenants": None if self.tenant is None else dict(Counter(self.tenant.tolist())),
            "max_concurrency": self.max_concurrency,
            "max_tokens": None if self.max_tokens is None else float(np.median(self.max_tokens)),
            "ends_by_stop": None if self.ends_by_stop is None else float(self.ends_by_stop.mean()),
            **lengths(prompts, outputs),
            "sha256": self.digest,
            "layout": self.origin.layout or None if self.origin is not None else None,
            "block_hashes": None if hashes is None or curve is None else blocks(hashes, curve),
            "notes": list(self.notes),
        }

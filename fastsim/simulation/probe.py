"""Probing a deployment: does it meet its objectives when the same requests arrive at a given rate?"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastsim.arrays import Floats
from fastsim.deployment.resolved import Resolved
from fastsim.kernels import state
from fastsim.kernels.exits import Exit
from fastsim.kernels.state import State
from fastsim.kernels.tables import Cost
from fastsim.result.metrics import distribution
from fastsim.result.metrics.definitions import QUANTILES
from fastsim.result.metrics.drift import queue_drift
from fastsim.result.metrics.objectives import Objective, holds
from fastsim.simulation.apart import rows_of
from fastsim.simulation.arena import Arena
from fastsim.simulation.check import check_fit
from fastsim.simulation.faults import explain_end, explain_fault
from fastsim.simulation.lanes import SLICE, Call, call_of, get_ready, kernel_of, lay_out_whole
from fastsim.simulation.limits import limits_of
from fastsim.simulation.stream import Stream, stream_of
from fastsim.simulation.windows import with_windows
from fastsim.workload import Workload
from fastsim.workload.following import NONE, previous_turns

# Iterations before the objectives are checked for the first time; every further slice is twice as long as the one
# before. With several stages, where an iteration takes longer, the first slice is shorter.
FIRST_SLICE = 4096
ROUNDS = 10  # requests that each user sends in a run, at least
Kept = slice | NDArray[np.bool_]  # the requests of a run whose latencies count


@dataclass(frozen=True, slots=True)
class Probed:
    """The outcome of a simulation at one rate, or with one number of users."""

    rate: float  # requests/s; with users, the requests that finish
    num_requests: int
    met: bool  # whether all objectives are met
    figures: dict[str, float | None]  # by objective, s; None if nothing was measured, or the run ended before
    broken: tuple[str, ...]  # objectives that are not met; of a run that ended early, the one that ended it
    simulated: int  # requests that had finished when the run ended
    users: int | None = None  # who each wait for their answer before they send the next request
    span: float = 0.0  # from the first arrival to the last, s; 0 if the run ended early
    longest: float = 0.0  # the longest end-to-end time of a request, s; 0 if the run ended early
    drift: float = 0.0  # by how much longer a request waits for each second that it arrives later, s/s


class Prober:
    """Simulates a deployment at one rate after another, in the same memory.

    Parameters
    ----------
    resolved : Resolved
        The deployment.
    cost : Cost or tuple of Cost
        Its operator times, as the kernel reads them; of a deployment with pools those of each.
    unit : Workload
        The requests at 1 request/s. At another rate the gaps between arrivals are divided by it, so all rates see the
        same requests.
    arena : Arena, optional
        Memory to work in, which threads must not share.

    Raises
    ------
    WorkloadError
        A request can never be served.
    PolicyError
        A user's function cannot be loaded, or fails when it is tried on a small example.
    """

    def __init__(
        self, resolved: Resolved, cost: Cost | tuple[Cost, ...], unit: Workload, arena: Arena | None = None
    ) -> None:
        resolved = with_windows(resolved, unit)
        check_fit(resolved, unit)
        self.resolved = resolved
        self.num_simulated = 0  # requests
        self.num_runs = 0
        self._costs = (cost,) if isinstance(cost, Cost) else cost
        self._unit, self._arena = unit, arena or Arena()
        self._limits = self._at_a_rate = limits_of(resolved, unit)
        self._kernel = kernel_of(resolved)
        self._stream = stream_of(unit)
        self._call: Call | None = None  # the last one of the kernel
        # After a restart in the middle of a prompt, the rest of the prompt counts as output tokens.
        policy = resolved.scheduler.policy
        restarts_in_prompts = policy.chunked and policy.preempts
        most_outputs = self._stream.total - (0 if restarts_in_prompts else self._stream.num_prompt_tokens)
        self._most_gaps = int(most_outputs.sum(dtype=np.int64)) - unit.num_requests

    @property
    def num_requests(self) -> int:
        """The number of requests in a probe."""
        return self._unit.num_requests

    @property
    def most_users(self) -> int:
        """The most users that are worth a run: each sends ROUNDS requests at least, and a session at least."""
        unit = self._unit
        sessions = np.count_nonzero(previous_turns(unit.num_requests, unit.session_id, unit.think_time) == NONE)
        return max(1, min(unit.num_requests // ROUNDS, int(sessions)))

    def at(self, rate: float, objectives: Sequence[Objective]) -> Probed:
        """Simulate at ``rate``, requests/s, until all requests are served or an objective can no longer be met.

        Raises StuckError if a request can never be scheduled, and TableError if the tables have no time for a batch.
        """
        self._limits = self._at_a_rate
        stream = self._stream._replace(arrived_at=self._stream.arrived_at / rate)
        return self._probe(stream, objectives, rate, None)

    def with_users(self, users: int, objectives: Sequence[Objective]) -> Probed:
        """Simulate with a number of users, who each wait for their answer before they send the next request.

        Users begin all at once, unlike ever after, so that the first request of each counts for no latency but the
        times between tokens. Raises the same as ``at``.
        """
        sent = self._unit.with_users(users)
        # Where requests follow others, no router can choose replicas beforehand.
        self._limits = limits_of(self.resolved, sent)
        return self._probe(stream_of(sent), objectives, 0.0, users)

    def _probe(self, stream: Stream, objectives: Sequence[Objective], rate: float, users: int | None) -> Probed:
        kept = slice(None) if users is None else np.isnan(stream.arrived_at)
        lane, lost = self._run(stream, objectives, kept)
        lane = self._joined(lane)
        finished_at = lane.requests.finished_at
        finished = int(np.count_nonzero(finished_at >= 0.0))
        self.num_simulated += finished
        self.num_runs += 1
        if users is not None:
            rate = finished / float(np.nanmax(finished_at)) if finished else 0.0
        if lost is not None:
            return Probed(rate, self.num_requests, False, {str(lost): None}, (str(lost),), finished, users)
        sent_at = stream.sent_at(lane.requests, self.resolved.front_end_s)
        figures = _figures(objectives, lane, stream, sent_at, kept)
        broken = tuple(str(each) for each in objectives if holds(each, figures[str(each)]) is False)
        e2e = finished_at - sent_at
        # Users who wait for their answers cannot overload anything.
        drift = 0.0
        if users is None:
            drift = queue_drift(lane.requests.arrived_at, lane.requests.scheduled_at, float(e2e.mean()))
        span, longest = float(np.ptp(lane.requests.arrived_at)), float(e2e.max())
        return Probed(rate, self.num_requests, not broken, figures, broken, finished, users, span, longest, drift)

    def throughput(self) -> float:
        """Return the requests/s that finish while the queue is never empty, which no lasting rate can exceed.

        All requests arrive at the start. The rate is measured between the first and the last fifth of the requests to
        finish, while batches are full. Raises StuckError and TableError as ``at`` does.
        """
        self._limits = limits_of(self.resolved)
        stream = self._stream._replace(arrived_at=np.zeros(self.num_requests), following=None)
        lane, _ = self._run(stream, (), slice(None))
        self.num_simulated += self.num_requests
        self.num_runs += 1
        finished = np.sort(self._joined(lane).requests.finished_at)
        low, high = self.num_requests // 5, self.num_requests - 1 - self.num_requests // 5
        span = float(finished[high] - finished[low])
        return (high - low) / span if span > 0 else self.num_requests / float(finished[-1])

    def _joined(self, lane: State) -> State:
        """Return the state with one row for each request."""
        rows, cached, _ = rows_of(self.resolved, lane, self._stream.num_prompt_tokens)
        return lane._replace(requests=rows, engine=lane.engine._replace(cached=cached))

    def _run(self, stream: Stream, objectives: Sequence[Objective], kept: Kept) -> tuple[State, Objective | None]:
        """Simulate ``stream``; return the state at the end, and the objective that ended the run early or None."""
        lane = lay_out_whole(self.resolved, self._limits, self._unit, stream, self._arena)
        given = self._kernel, lane, self._costs, self._limits
        call = self._call = call_of(*given, self._call) if self._call else get_ready(*given)
        limited = [each for each in objectives if isfinite(each.limit)]  # no value is above a limit that is not
        budget = FIRST_SLICE // self._limits[0].num_stages ** 2 + 1
        while True:
            lane.cursor[state.LEFT] = budget
            code = call()
            if code == Exit.FAULT:
                explain_fault(self._costs, lane)
            if code != Exit.BUDGET:
                break
            if limited:
                so_far = self._joined(lane)
                sent_at = stream.sent_at(so_far.requests, self.resolved.front_end_s)
                lost = _lost(limited, so_far, sent_at, self._most_gaps, kept)
                if lost is not None:
                    return lane, lost
            budget = min(2 * budget, SLICE)
        explain_end(self.resolved, lane)
        return lane, None


def _figures(
    objectives: Sequence[Objective], lane: State, stream: Stream, sent_at: Floats, kept: Kept
) -> dict[str, float | None]:
    """Return the figures of objectives, s, by objective: the same as ``objectives.value`` reads from a summary.

    ``sent_at``: when clients send the requests, float64[n], s. ``kept``: the requests whose latencies count.
    """
    wanted: dict[str, list[str]] = {}
    for each in objectives:
        wanted.setdefault(each.metric, []).append(each.statistic)
    measured = {name: _measured(name, only, lane, stream, sent_at, kept) for name, only in wanted.items()}
    return {str(each): measured[each.metric][each.statistic] for each in objectives}


def _measured(
    metric: str, statistics: Sequence[str], lane: State, stream: Stream, sent_at: Floats, kept: Kept
) -> distribution.Figures:
    """Return figures of a latency, s, by statistic."""
    if metric == "tbt":
        times = lane.replicas.times
        mean = float(times[:, state.TBT_SUM].sum()) / max(1, int(lane.tbt.sum()))
        return distribution.of_bins(lane.tbt, mean, float(times[:, state.TBT_MAX].max()))
    requests = lane.requests
    if metric == "tpot":
        gaps = (requests.total - stream.num_prompt_tokens - 1)[kept]
        spread = (requests.finished_at - requests.first_token_at)[kept]
        return distribution.of_values(spread[gaps > 0] / gaps[gaps > 0], statistics)
    return distribution.of_values((_ends(metric, lane) - _begins(metric, lane, sent_at))[kept], statistics)


def _begins(metric: str, lane: State, sent_at: Floats) -> Floats:
    """Return when a latency begins for each request, float64[n], s: only delays of the scheduler begin in its queue."""
    return lane.requests.arrived_at if metric == "scheduling_delay" else sent_at


def _ends(metric: str, lane: State) -> Floats:
    """Return when a latency ended for each request, float64[n], s; NaN if it has not ended yet."""
    requests = lane.requests
    ends = {"scheduling_delay": requests.scheduled_at, "ttft": requests.first_token_at, "e2e": requests.finished_at}
    return ends[metric]


def _lost(
    objectives: Sequence[Objective], lane: State, sent_at: Floats, most_gaps: int, kept: Kept
) -> Objective | None:
    """Return the first objective that can no longer be met, since too many requests or gaps between tokens are late.

    In ascending order, a quantile of n values lies between the k-th value and the next one. Once n - k values have
    reached the limit, so has the quantile. A mean is lost once the part of its sum that is known exceeds the limit.
    ``sent_at`` is when clients send the requests, float64[n], s, and ``most_gaps`` the largest number of gaps between
    tokens that the run can have. ``kept``: the requests whose latencies count.
    """
    clocks = lane.replicas.times[:, state.CLOCK]
    for each in objectives:
        if each.metric == "tbt" and each.statistic in QUANTILES:
            late = int(lane.tbt[_first_bin(each.limit) :].sum())
            if late > (1 - QUANTILES[each.statistic]) * most_gaps:
                return each
        if each.metric in ("tbt", "tpot") or each.statistic == "min":
            continue
        begins = _begins(each.metric, lane, sent_at)[kept]
        waited = _ends(each.metric, lane)[kept] - begins
        open_ones = np.flatnonzero(np.isnan(waited))
        if each.statistic == "mean":
            known = np.maximum(_waiting(lane, clocks, kept, open_ones) - begins[open_ones], 0.0).sum()
            lost = float(known + np.nansum(np.maximum(waited, 0.0))) >= each.limit * len(waited)
        else:
            share = QUANTILES.get(each.statistic, 1.0)  # the statistic is max if it is no quantile
            late, most = int(np.count_nonzero(waited >= each.limit)), len(waited) - int(share * (len(waited) - 1))
            if late < most <= late + len(open_ones):
                waiting = _waiting(lane, clocks, kept, open_ones) - begins[open_ones]
                late += int(np.count_nonzero(waiting >= each.limit))
            lost = late >= most
        if lost:
            return each
    return None


def _waiting(lane: State, clocks: Floats, kept: Kept, places: NDArray[np.intp]) -> Floats:
    """Return the times of the replicas of some of the requests that are ``kept``, s; -inf of one that has none yet."""
    replica = lane.requests.replica[kept][places]
    times: Any = clocks[0] if len(clocks) == 1 else clocks[np.maximum(replica, 0)]
    return np.where(replica >= 0, times, -np.inf)


@lru_cache(maxsize=64)
def _first_bin(limit: float) -> int:
    """Return the first bin of times that lies wholly above a limit, s."""
    return int(np.searchsorted(distribution.bins_of_times()[0], limit))

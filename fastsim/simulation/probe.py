"""One deployment under one stream of requests at any rate: does it keep to its objectives there?"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastsim.deployment.resolved import Resolved
from fastsim.kernels import state
from fastsim.kernels.accounts import histogram
from fastsim.kernels.cost import Cost
from fastsim.kernels.exits import Exit
from fastsim.kernels.state import State
from fastsim.result.metrics import distribution
from fastsim.result.metrics.definitions import QUANTILES
from fastsim.result.metrics.objectives import Objective, holds
from fastsim.simulation import layout
from fastsim.simulation.check import check_fit
from fastsim.simulation.faults import explain_end, explain_fault
from fastsim.simulation.lanes import SLICE, get_ready, kernel_of, lay_out_whole, limits_of
from fastsim.simulation.layout import Arena, Stream
from fastsim.workload import Workload

FIRST_SLICE = 4096  # iterations before the first look at what is already lost; each next slice is twice as long.
# Fewer with several stages, where an iteration costs more.

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Probed:
    """What came of one rate."""

    rate: float  # requests/s
    num_requests: int
    met: bool
    figures: dict[str, float | None]  # by objective, s; None: nothing measured, or stopped before it was known
    broken: tuple[str, ...]  # objectives; of a run that was stopped early, the one that was already lost
    simulated: int  # requests that had finished when the run ended


class Prober:
    """Simulates one deployment at one rate after the other, using its memory again.

    ``unit``: the requests at 1 request/s; at another rate their gaps are divided by it, so all rates see the same
    draw. ``arena``: memory to work in, not to be shared among threads. Raises WorkloadError for requests that can
    never be served, and the errors of ``kernel_of``.
    """

    def __init__(self, resolved: Resolved, cost: Cost, unit: Workload, arena: Arena | None = None) -> None:
        check_fit(resolved, unit)
        self.resolved = resolved
        self.num_simulated = 0  # requests
        self.num_runs = 0
        self._cost, self._unit, self._arena = cost, unit, arena or Arena()
        self._limits, self._kernel = limits_of(resolved), kernel_of(resolved)
        self._stream = layout.share(unit.arrived_at, unit.num_prompt_tokens, unit.num_output_tokens)
        self._ready = False
        # A restart amid a prompt turns the tokens that are left of it into output.
        policy = resolved.scheduler.policy
        outputs = self._stream.total - (0 if policy.chunked and policy.preempts else self._stream.prompts)
        self._most_gaps = int(outputs.sum(dtype=np.int64)) - unit.num_requests

    @property
    def num_requests(self) -> int:
        """Requests in the stream."""
        return self._unit.num_requests

    def at(self, rate: float, objectives: Sequence[Objective]) -> Probed:
        """Simulate at ``rate``; the run ends as soon as an objective can no longer be met. Raises StuckError and
        TableError."""
        stream = self._stream._replace(arrived_at=self._stream.arrived_at / rate)
        lane, lost = self._run(stream, objectives)
        finished = int(np.count_nonzero(lane.requests.finished_at >= 0.0))
        self.num_simulated += finished
        self.num_runs += 1
        if lost is not None:
            return Probed(rate, self.num_requests, False, {str(lost): None}, (str(lost),), finished)
        figures = {str(one): _figure(one, lane, stream) for one in objectives}
        broken = tuple(str(one) for one in objectives if holds(one, figures[str(one)]) is False)
        return Probed(rate, self.num_requests, not broken, figures, broken, finished)

    def throughput(self) -> float:
        """Requests/s while the queue is never empty: all requests are there from the start. No rate above it lasts.

        Measured between the first and the last fifth that finish, when batches are full.
        """
        stream = self._stream._replace(arrived_at=np.zeros(self.num_requests))
        lane, _ = self._run(stream, ())
        self.num_simulated += self.num_requests
        self.num_runs += 1
        finished = np.sort(lane.requests.finished_at)
        low, high = self.num_requests // 5, self.num_requests - 1 - self.num_requests // 5
        span = float(finished[high] - finished[low])
        return (high - low) / span if span > 0 else self.num_requests / float(finished[-1])

    def _run(self, stream: Stream, objectives: Sequence[Objective]) -> tuple[State, Objective | None]:
        """The state at the end, and the objective that ended it early."""
        lane = lay_out_whole(self.resolved, self._limits, self._unit, stream, self._arena)
        if not self._ready:
            get_ready(self._kernel, lane, self._cost, self._limits)
            self._ready = True
        budget = FIRST_SLICE // self._limits.num_stages**2 + 1
        while True:
            lane.cursor[state.LEFT] = budget
            code = self._kernel(lane, self._cost, self._limits)
            if code == Exit.FAULT:
                explain_fault(self._cost, lane)
            if code != Exit.BUDGET:
                break
            lost = next((one for one in objectives if _lost(one, lane, self._most_gaps)), None)
            if lost is not None:
                return lane, lost
            budget = min(2 * budget, SLICE)
        explain_end(self.resolved, lane)
        return lane, None


def _figure(objective: Objective, lane: State, stream: Stream) -> float | None:
    """What ``objectives.value`` finds in the summary of the run."""
    if objective.metric == "tbt":
        times = lane.replicas.times
        mean = float(times[:, state.TBT_SUM].sum()) / max(1, int(lane.tbt.sum()))
        return distribution.of_bins(lane.tbt, mean, float(times[:, state.TBT_MAX].max()))[objective.statistic]
    requests = lane.requests
    if objective.metric == "tpot":
        gaps = requests.total - stream.prompts - 1
        spread = requests.finished_at - requests.first_token_at
        return distribution.of_values(spread[gaps > 0] / gaps[gaps > 0])[objective.statistic]
    return distribution.of_values(_moments(objective.metric, lane) - requests.arrived_at)[objective.statistic]


def _moments(metric: str, lane: State) -> Floats:
    """When what a latency ends with happened, s; NaN where it has not."""
    requests = lane.requests
    ends = {"scheduling_delay": requests.scheduled_at, "ttft": requests.first_token_at, "e2e": requests.finished_at}
    return ends[metric]


def _lost(objective: Objective, lane: State, most_gaps: int) -> bool:
    """Whether an objective is broken whatever comes: too many requests, or gaps between tokens, are already too late.

    A quantile of n values lies between the ``low``-th and the next in order: with n - low values at the limit or
    above, so is the quantile. A mean is lost when what is known of its sum is enough.
    """
    if objective.metric == "tbt" and objective.statistic in QUANTILES:
        first = int(np.searchsorted(histogram.edges(), objective.limit))  # of the bins that lie wholly above the limit
        return int(lane.tbt[first:].sum()) > (1 - QUANTILES[objective.statistic]) * most_gaps
    if objective.metric in ("tbt", "tpot") or objective.statistic == "min":
        return False
    requests = lane.requests
    moments = _moments(objective.metric, lane)
    clock: Any = np.where(
        requests.replica >= 0, lane.replicas.times[np.maximum(requests.replica, 0), state.CLOCK], -np.inf
    )
    waited = np.where(moments >= 0.0, moments, clock) - requests.arrived_at
    number = len(waited)
    if objective.statistic == "mean":
        return float(np.maximum(waited, 0.0).sum()) >= objective.limit * number
    share = QUANTILES.get(objective.statistic, 1.0)  # of max
    return int(np.count_nonzero(waited >= objective.limit)) >= number - int(share * (number - 1))

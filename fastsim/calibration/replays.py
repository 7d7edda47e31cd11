"""Replays of the requests of a measured run, one after the other with other coefficients."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fastsim.calibration.bounded import solve
from fastsim.calibration.fit import ITERATIONS, SEED, huber, spread_of
from fastsim.calibration.sums import STRETCHES, products_of, stretches_of
from fastsim.deployment.description import Deployment
from fastsim.deployment.resolve import resolve
from fastsim.deployment.resolved import Resolved
from fastsim.kernels.tables import Cost
from fastsim.measured.measured import Measured
from fastsim.simulation.check import check_fit
from fastsim.simulation.lanes import kernel_of
from fastsim.simulation.limits import limits_of
from fastsim.simulation.run import Job, run
from fastsim.simulation.stream import stream_of
from fastsim.simulation.windows import with_windows
from fastsim.workload.too_long import within

Floats = NDArray[np.float64]
MOST_FRONT_END = 1.0  # s
ROUNDS = 3  # of a front end, which also changes what waits for what
LEAN = 0.2  # share of a latency by which times of steps may be off


@dataclass(frozen=True, eq=False)
class Replayed:
    """Latencies of each request, float64[num_requests], s; TPOT is NaN where there is no second token."""

    ttft: Floats
    tpot: Floats
    e2e: Floats


class Replay:
    """The requests of a measured run on a deployment.

    Parameters
    ----------
    measured : Measured
        The run.
    deployment : Deployment
        What served it, whose own times count only where a replay is given no others.
    """

    def __init__(self, measured: Measured, deployment: Deployment) -> None:
        resolved = resolve(deployment)
        workload = within(measured.workload, resolved.max_model_len, "refuse")
        self.measured = measured
        self.resolved: Resolved = with_windows(resolved, workload)
        check_fit(self.resolved, workload)
        limits, stream = limits_of(self.resolved, workload), stream_of(workload)
        self._job = Job(self.resolved, kernel_of(self.resolved), limits, workload, stream, None)

    def of(self, cost: Cost, front_end: float) -> Replayed:
        """What the run would be with the given times of batches, and a front end of so many seconds."""
        deployment = self.resolved.deployment.model_copy(update={"front_end_ms": 1e3 * front_end})
        outcome, _ = run(self._job._replace(resolved=replace(self.resolved, deployment=deployment)), (cost,))
        columns = outcome.columns
        arrived, first, last = (columns[name] for name in ("arrived_at", "first_token_at", "finished_at"))
        outputs = self.measured.workload.num_output_tokens
        with np.errstate(divide="ignore", invalid="ignore"):
            tpot = np.where(outputs > 1, (last - first) / (outputs - 1), np.nan)
        return Replayed(first - arrived, tpot, last - arrived)

    def front_end(self, cost: Cost, chosen: NDArray[np.bool_] | None = None, draws: int = 0) -> tuple[float, Floats]:
        """The front end, s, of the requests that are chosen, and so many draws of it.

        It is the time before the scheduler and that which a first token takes to its client, as only their sum is
        measured: how much later than replayed a first token comes, less a share of its latency, by which the times of
        steps may be off.
        """
        measured = self.measured
        name = "e2e" if np.isnan(measured.ttft).all() else "ttft"
        theirs, found, drawn = getattr(measured, name), 0.0, np.zeros(draws)
        for _ in range(ROUNDS):
            ours = getattr(self.of(cost, found), name)
            known = ~np.isnan(theirs) & (True if chosen is None else chosen)
            late, inside = (theirs - ours)[known], (ours - found)[known]
            columns = np.column_stack([np.ones(len(late)), inside])
            sure = _sure(columns, late)
            more = _line(columns, late, sure)[0]
            if draws:
                rng, stretch = np.random.default_rng(SEED), stretches_of(len(late))
                times = [np.bincount(rng.integers(0, STRETCHES, STRETCHES), minlength=STRETCHES) for _ in range(draws)]
                drawn = found + np.array([_line(columns, late, sure * one[stretch])[0] for one in times])
            found = min(max(found + more, 0.0), MOST_FRONT_END)
        return found, np.clip(drawn, 0.0, MOST_FRONT_END)


def _sure(columns: Floats, late: Floats) -> Floats:
    """The weight of each request: 1 over its latency, and less where it is far from the line."""
    expected = np.maximum(columns[:, 1], 1e-6)
    weights = np.ones(len(late))
    for _ in range(ITERATIONS):
        off = (late - columns @ _line(columns, late, weights / expected)) / np.sqrt(expected)
        weights = huber(off, spread_of(off))
    return np.asarray(weights / expected)


def _line(columns: Floats, late: Floats, weights: Floats) -> Floats:
    """Where the line through what is late begins, and its slope, within LEAN."""
    return solve(*products_of(columns, late, weights), np.array([-np.inf, -LEAN]), np.array([np.inf, LEAN]))


def errors(measured: Measured, replayed: Replayed, chosen: NDArray[np.bool_] | None = None) -> dict[str, float]:
    """Mean TTFT, TPOT and E2E as replayed over those measured, less 1, of the requests that are chosen."""
    found = {}
    for name in ("ttft", "tpot", "e2e"):
        theirs, ours = getattr(measured, name), getattr(replayed, name)
        known = ~np.isnan(theirs) & ~np.isnan(ours) & (True if chosen is None else chosen)
        if known.any() and theirs[known].mean() > 0:
            found[name] = float(ours[known].mean() / theirs[known].mean() - 1)
    return found

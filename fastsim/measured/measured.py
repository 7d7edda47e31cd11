"""A measured run: the requests that were sent, and when their tokens came."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fastsim.errors import WorkloadError
from fastsim.workload import Workload
from fastsim.workload.checks import MAX_TIME

Floats = NDArray[np.float64]
WANTED = f"a time in seconds from 0 to {MAX_TIME:g} (e.g. 0.25)"


@dataclass(frozen=True, eq=False)
class Measured:
    """The requests of a run that finished, in the order in which they were sent.

    Attributes
    ----------
    place : what messages call the file.
    layout : what the layout of the file is called.
    workload : the requests as they are sent again.
    ttft, e2e : float64[num_requests], s, from when a request was sent; NaN where it is not known.
    arrived_at : float64[num_requests], s, when the requests were sent; None where the file does not say.
    scheduled_at : float64[num_requests], s on the same clock, when they first entered a batch; None likewise.
    gaps : float64[num_gaps], s, between two tokens of a request, of all requests; None likewise.
    duration : s, of the run, where its file says it.
    failed : requests that the file has too, but which failed and are left out.
    notes : what the file lacks and how the requests are therefore sent, one sentence each.
    """

    place: str
    layout: str
    workload: Workload
    ttft: Floats
    e2e: Floats
    arrived_at: Floats | None = None
    scheduled_at: Floats | None = None
    gaps: Floats | None = None
    duration: float | None = None
    failed: int = 0
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self._check("ttft", self.ttft)
        self._check("e2e", self.e2e)
        self._check_run()
        late = np.flatnonzero(self.ttft > self.e2e * (1 + 1e-9) + 1e-9)
        if len(late):
            row = int(late[0])
            raise WorkloadError(
                f"{self.place}: request {row + 1} in order of arrival: TTFT {self.ttft[row]:g} s is more than E2E "
                f"{self.e2e[row]:g} s; both count from when it was sent"
            )
        if np.isnan(self.e2e).all() and np.isnan(self.ttft).all():
            raise WorkloadError(f"{self.place}: neither TTFT nor E2E is measured of any request; give one of them")

    def _check(self, name: str, values: Floats) -> None:
        bad = np.flatnonzero((values < 0) | (values > MAX_TIME))
        if len(bad):
            raise WorkloadError(
                f"{self.place}: request {int(bad[0]) + 1} in order of arrival: {name}: {values[bad[0]]:g} is not "
                f"{WANTED}"
            )

    def _check_run(self) -> None:
        """The times that belong to no row of the requests."""
        gaps = np.empty(0) if self.gaps is None else self.gaps
        for name, values in (("a time between two tokens", gaps), ("duration", np.array([self.duration or 0.0]))):
            bad = values[~((values >= 0) & (values <= MAX_TIME))]
            if len(bad):
                raise WorkloadError(f"{self.place}: {name}: {bad[0]:g} is not {WANTED}")

    @cached_property
    def tpot(self) -> Floats:
        """Time per output token after the first, float64[num_requests], s; NaN where there is only one."""
        return tpot_of(self.ttft, self.e2e, self.workload.num_output_tokens)

    @property
    def finished_at(self) -> Floats | None:
        """When the requests finished, float64[num_requests], s; None where arrivals are not known."""
        return None if self.arrived_at is None else self.arrived_at + self.e2e


def tpot_of(ttft: Floats, e2e: Floats, num_output_tokens: NDArray[np.int64]) -> Floats:
    """Time per output token after the first, float64[num_requests], s; NaN where there is only one."""
    gaps = num_output_tokens - 1
    return np.where(gaps > 0, (e2e - ttft) / np.maximum(gaps, 1), np.nan)

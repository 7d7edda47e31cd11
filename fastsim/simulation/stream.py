"""The arrays of a workload that its simulations read, and when its requests were sent."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastsim.arrays import Floats
from fastsim.kernels.state import Requests
from fastsim.workload import Workload
from fastsim.workload.following import Following

Integers = NDArray[np.integer]


class Stream(NamedTuple):
    """The arrays that all simulations of a workload read and none changes; n requests.

    Requests are in order of arrival where no request follows another.
    """

    arrived_at: Floats  # float64[n], s; NaN where it is not known before the simulation
    total: NDArray[np.int32]  # int32[n], prompt and output tokens; writable, as kernels are compiled for that
    num_prompt_tokens: NDArray[np.int32]  # int32[n]
    following: Following | None = None

    def sent_at(self, requests: Requests, front_end: float) -> Floats:
        """Return when clients send requests, float64[n], s, which reach a scheduler ``front_end`` s later.

        No rounding of that sum is left: they are the stream's own times, or those at which others finish and a user
        thinks.
        """
        queued_at, following = requests.arrived_at, self.following
        if following is None:
            return self.arrived_at
        if not front_end:
            return queued_at
        sent = np.where(queued_at == self.arrived_at + front_end, self.arrived_at, math.nan)
        ends = np.sort(requests.finished_at[np.isfinite(requests.finished_at)])
        near = np.searchsorted(ends, queued_at - requests.think)
        for place in (near - 1, near, near + 1) if ends.size else ():
            end = ends[np.clip(place, 0, ends.size - 1)]
            follows = np.isnan(sent) & (end + requests.think == queued_at)
            sent[follows] = (end + following.think)[follows]
        return np.where(np.isnan(sent), queued_at - front_end, sent)


def share(
    arrived_at: Floats,
    num_prompt_tokens: Integers,
    num_output_tokens: Integers,
    following: Following | None = None,
) -> Stream:
    """Return a workload's arrays in the form that simulations start from, which all of them may share.

    Parameters
    ----------
    arrived_at : float64[n]
        Arrival times in seconds, ascending. The result shares this memory.
    num_prompt_tokens, num_output_tokens : int[n]
        Prompt and output tokens of each request, at least 1.
    following : Following, optional
        Which requests follow others. By default none do.
    """
    total = np.add(num_prompt_tokens, num_output_tokens, dtype=np.int32, casting="same_kind")
    return Stream(arrived_at, total, num_prompt_tokens.astype(np.int32), following)


def stream_of(workload: Workload) -> Stream:
    """Return the arrays of a workload that simulations start from."""
    columns = workload.arrived_at, workload.num_prompt_tokens, workload.num_output_tokens
    return share(*columns, workload.following)

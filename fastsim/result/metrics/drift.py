"""Queue drift: whether requests wait longer and longer, as they do wherever more arrive than are served."""

import numpy as np

from fastsim.arrays import Floats

WARM_UP = 0.2  # share of the time of arrivals that is left out at the start, while batches fill
COOL_DOWN = 0.05  # and at the end, where sessions have only their last turns left
WINDOWS = 12
FEW = 5  # requests that a window must have
UNEVEN = 0.3  # coefficient of variation of the arrivals per window above which the load itself changes
SURE = 4.0  # standard errors of the slope
MATERIAL = 0.25  # of the mean time of a request: what waiting must grow by over a run to count


def queue_drift(arrived_at: Floats, scheduled_at: Floats, mean_e2e: float) -> float:
    """Return by how much longer a request waits for each second that it arrives later, s/s; 0 if the queue is steady.

    An overload of a share d makes the waiting time grow by d seconds a second. The slope is that of a straight line
    through the mean waiting times of WINDOWS windows. It counts if it is above SURE times its standard error, and if
    waiting grows by more than MATERIAL times ``mean_e2e`` over the run. Where the load itself changes, as in a trace of
    a day, or there are too few requests, nothing can be told and the drift is 0.

    Parameters
    ----------
    arrived_at : float64[num_requests], s
        When requests arrive at the scheduler.
    scheduled_at : float64[num_requests], s
        When they first enter a batch.
    mean_e2e : float
        Mean time from arrival to the last token, s.

    Returns
    -------
    float
        The slope, s/s: from 0 up.
    """
    first, last = float(arrived_at.min()), float(arrived_at.max())
    begin, end = first + WARM_UP * (last - first), last - COOL_DOWN * (last - first)
    if not end > begin:
        return 0.0
    window = np.floor((arrived_at - begin) / (end - begin) * WINDOWS).astype(np.int64)
    inside = (window >= 0) & (window < WINDOWS)
    counts = np.bincount(window[inside], minlength=WINDOWS)
    if counts.min() < FEW or counts.std() > UNEVEN * counts.mean():
        return 0.0
    waits = np.bincount(window[inside], (scheduled_at - arrived_at)[inside], WINDOWS) / counts
    times = (np.arange(WINDOWS) - (WINDOWS - 1) / 2) * ((end - begin) / WINDOWS)
    slope = float(times @ waits / (times @ times))
    residuals = waits - waits.mean() - slope * times
    error = float(np.sqrt(residuals @ residuals / (WINDOWS - 2) / (times @ times)))
    material = slope * (last - first) > MATERIAL * mean_e2e
    return slope if slope > SURE * error and material else 0.0

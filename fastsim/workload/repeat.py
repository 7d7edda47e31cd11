"""A recorded workload played over and over, for a run that must last longer than the recording."""

from dataclasses import replace
from typing import Any

import numpy as np

from fastsim.workload.blocks import BlockHashes
from fastsim.workload.following import previous_turns
from fastsim.workload.layouts import MORE
from fastsim.workload.workload import COLUMNS, Workload


def repeated(workload: Workload, times: int) -> Workload:
    """Play a workload a number of times, one after the other, with a mean gap in between.

    Parameters
    ----------
    workload : Workload
        The requests.
    times : int
        How many times to play them, from 1.

    Returns
    -------
    Workload
        The requests, ``times`` times. Each time sessions and blocks of tokens are others, so that a prefix cache finds
        nothing of the time before. In a closed loop the users go on without a pause.
    """
    if times == 1:
        return workload
    number, hashes = workload.num_requests, workload.block_hashes
    period = workload.span * number / max(1, number - 1)
    round_of = np.repeat(np.arange(times), number)
    columns: dict[str, Any] = {name: np.tile(getattr(workload, name), times) for name in COLUMNS}
    columns |= {name: np.tile(values, times) for name in MORE if (values := getattr(workload, name)) is not None}
    columns["arrived_at"] = columns["arrived_at"] + round_of * period
    if workload.session_id is not None:
        first, last = int(workload.session_id.min()), int(workload.session_id.max())
        columns["session_id"] = columns["session_id"] + round_of * (last - first + 1)
    if workload.is_loop:
        later = round_of > 0
        columns["arrived_at"][later] = np.nan
        think = columns.get("think_time", np.zeros(number * times))
        entries = np.tile(previous_turns(number, workload.session_id, workload.think_time) < 0, times)
        columns["think_time"] = np.where(entries, np.nan_to_num(think), think)
    if hashes is not None:
        _, same = np.unique(hashes.values, return_inverse=True)
        different = int(same.max(initial=-1)) + 1
        values = np.concatenate([same + turn * different for turn in range(times)])
        offsets = np.concatenate([[0], np.cumsum(np.tile(hashes.counts, times))])
        hashes = BlockHashes(values, offsets, hashes.block_size)
    return replace(workload, **columns, block_hashes=hashes)

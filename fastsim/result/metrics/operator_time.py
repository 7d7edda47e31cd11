"""GPU time by operator over a whole run: how often each size of batch occurred, times what an operator takes for it."""

import math

import numpy as np
from numpy.typing import NDArray

from fastsim.predictors.tables.by_operator import (
    ByOperator,
    is_attention,
    on_each_stage,
    on_first_stage,
    on_host,
    on_last_stage,
    to_next_stage,
)

Integers = NDArray[np.integer]
ATTENTION = "attention"


def operator_time(
    operators: ByOperator,
    num_stages: int,
    sizes: Integers,
    batch_tokens: Integers,
    batch_size: Integers,
    busy: float,
) -> dict[str, float]:
    """Return the section ``operators`` of a summary: stage-seconds by operator, the costliest first.

    Parameters
    ----------
    operators : ByOperator
        The tables of each operator; empty with Vidur's composition, whose times are not sums over operators.
    num_stages : int
        Pipeline stages.
    sizes, batch_tokens : int[n]
        ``batch_tokens[i]`` batches had ``sizes[i]`` tokens.
    batch_size : int[m]
        ``batch_size[k]`` batches had k requests.
    busy : float
        Stage-seconds of all batches. Attention is what the other operators leave of it.

    Returns
    -------
    dict of str to float
        Seconds by operator; empty if ``operators`` is.
    """
    if not operators:
        return {}
    num_requests = np.arange(len(batch_size))
    seconds = {}
    for name, tables in operators.items():
        if is_attention(tables):
            continue
        ms = num_stages * float(batch_tokens @ on_each_stage(tables, sizes))
        ms += float(batch_tokens @ on_first_stage(tables, sizes))
        ms += (num_stages - 1) * float(batch_tokens @ to_next_stage(tables, sizes))
        ms += float(batch_size @ (on_host(tables, num_requests) + on_last_stage(tables, num_requests)))
        if ms:
            seconds[name] = ms / 1e3
    seconds[ATTENTION] = max(0.0, busy - math.fsum(seconds.values()))
    return dict(sorted(seconds.items(), key=lambda item: -item[1]))

"""Figures of a workload: the spread of its columns, its sessions and what a prefix cache could reuse."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastsim.workload.blocks import BlockHashes
from fastsim.workload.following import NONE, previous_turns
from fastsim.workload.reuse import HitCurve, runs


def sessions(
    session: NDArray[np.int64], think_time: NDArray[np.float64] | None, prompts: NDArray[np.int64], outputs: Any
) -> dict[str, Any]:
    """Return turns per session, and of later turns the think times (s) and the tokens that are new.

    The new tokens of a turn are those of its prompt beyond the prompt and the outputs of the turn before. The arguments
    are columns of a Workload.
    """
    before = previous_turns(len(session), session, np.zeros(len(session)))
    later = np.flatnonzero(before != NONE)
    new = prompts[later] - (prompts + outputs)[before[later]]
    think = np.zeros(0) if think_time is None else think_time[~np.isnan(think_time)]
    return {
        "turns": spread(np.unique(session, return_counts=True)[1]),
        "think_time_s": spread(think) if len(think) else None,
        "num_new_tokens": spread(new) if len(new) else None,
    }


def lengths(prompts: NDArray[np.int64], outputs: NDArray[np.int64]) -> dict[str, Any]:
    """Return the spread of prompt and output tokens, of their sum and of their ratio."""
    return {
        "num_prompt_tokens": spread(prompts) | {"total": int(prompts.sum())},
        "num_output_tokens": spread(outputs) | {"total": int(outputs.sum())},
        "num_tokens": spread(prompts + outputs) | {"total": int(prompts.sum() + outputs.sum())},
        "prompt_output_ratio": spread(prompts / outputs),
    }


def blocks(hashes: BlockHashes, curve: HitCurve) -> dict[str, Any]:
    """Return how many blocks recur, and the share of prompt tokens that a cache hits by its size."""
    _, target, _, length = runs(hashes)
    reused = np.bincount(target, length, len(hashes))
    return hashes.describe() | {
        "share_of_requests_that_reuse": float(np.count_nonzero(reused) / len(hashes)),
        "reused_blocks_per_request": spread(reused),
        "hit_share": curve.as_dict(),
    }


def spread(values: NDArray[Any]) -> dict[str, float]:
    """The mean, three quantiles and the maximum of ``values``."""
    median, p90, p99 = np.quantile(values, (0.5, 0.9, 0.99)).tolist()
    return {"mean": float(values.mean()), "median": median, "p90": p90, "p99": p99, "max": values.max().item()}

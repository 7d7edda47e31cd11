"""CUDA graphs: engines pad a batch to the next size that they captured."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from fastsim.deployment.schedulers import Settings

SIZES: tuple[int, ...] = (1, 2, 4, *range(8, 257, 8), *range(272, 513, 16))  # vLLM's, in tokens


def capture_cap(max_num_seqs: int) -> int:
    """Largest batch, in tokens, that an engine runs as a CUDA graph (vLLM's default)."""
    return min(2 * max_num_seqs, SIZES[-1])


def sizes_up_to(cap: int) -> tuple[int, ...]:
    """Sizes of batches, in tokens, that vLLM captures where ``cap`` is the largest batch that it does."""
    return tuple(size for size in SIZES if size <= cap)


def captured(scheduler: "Settings", enforce_eager: bool = False) -> tuple[int, ...]:
    """Sizes of batches, in tokens, that an engine captures: SGLang those of its decodes, others as vLLM does.

    Without CUDA graphs that is 0 alone.
    """
    if enforce_eager:
        return (0,)
    if scheduler.sglang is not None and scheduler.sglang.decode_graphs:
        return scheduler.sglang.decode_graphs
    return sizes_up_to(capture_cap(scheduler.max_num_seqs))


def largest_captured(scheduler: "Settings", enforce_eager: bool = False) -> int:
    """Largest batch, in tokens, that an engine runs as a CUDA graph; 0 without them."""
    if enforce_eager:
        return 0
    return captured(scheduler)[-1] if scheduler.sglang is not None else capture_cap(scheduler.max_num_seqs)


def padded(num_tokens: np.ndarray, sizes: Sequence[int]) -> np.ndarray:
    """Tokens that the kernels process: the next of the captured sizes, and as many as there are beyond the largest."""
    steps = np.array(sizes)
    up = steps[np.minimum(np.searchsorted(steps, num_tokens), steps.size - 1)]
    return np.where((num_tokens > 0) & (num_tokens <= steps[-1]), up, num_tokens)

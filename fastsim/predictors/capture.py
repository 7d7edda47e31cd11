"""CUDA graphs: engines pad a batch to the next size that they captured."""

import numpy as np


def capture_cap(max_num_seqs: int) -> int:
    """Largest batch, in tokens, that an engine runs as a CUDA graph (vLLM's default)."""
    return min(2 * max_num_seqs, 512)


def padded(num_tokens: np.ndarray, cap: int) -> np.ndarray:
    """Tokens that the kernels process: the next captured size (1, 2, 4, then steps of 8, from 272 on of 16) up to
    ``cap``.
    """
    sizes = np.array([1, 2, 4, *range(8, 257, 8), *range(272, 513, 16)])
    sizes = sizes[sizes <= cap]
    up = sizes[np.minimum(np.searchsorted(sizes, num_tokens), sizes.size - 1)]
    return np.where((num_tokens > 0) & (num_tokens <= sizes[-1]), up, num_tokens)

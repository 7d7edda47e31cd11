"""The KV cache of one request: a layer keeps all of its tokens, or with a window the last of them only.

As vLLM's hybrid KV cache manager and SGLang's pool for windows do. vLLM puts layers of one kind into groups of equally
many layers, which share one pool of blocks, so that a few layers of padding may be lost.
"""

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from fastsim.catalog.model import Model

from .sizes import Layout, stage_operators

Tokens = NDArray[np.int64]


def request_bytes(model: Model, layout: Layout, stage: int, tokens: Tokens, chunk: int | Tokens) -> Tokens:
    """Bytes of KV cache that requests of so many tokens, int64[n], take on one GPU of a stage, int64[n].

    A layer with a window holds the window and the ``chunk`` of tokens that an iteration adds, in blocks, and one block
    more because the window may begin within a block.
    """
    blocks = -(-tokens // layout.block_size)
    total = np.zeros(tokens.shape)
    padding = _padding(model)
    for attention in stage_operators(model, layout, stage).attentions:
        held = blocks
        if attention.window is not None:
            most = attention.window - 1 + chunk
            held = np.minimum(blocks, -(-np.minimum(most, tokens) // layout.block_size) + 1)
        size = attention.count * attention.kept_bytes_per_token() * layout.block_size
        total += held * size * padding.get(attention.window, 1.0)
    return total.astype(np.int64)


def bytes_of(model: Model, layout: Layout, stage: int, tokens: int) -> int:
    """Most bytes that a request of so many tokens takes: in the iteration that completes its last prompt chunk."""
    return int(request_bytes(model, layout, stage, np.array([tokens]), layout.max_iteration_tokens)[0])


def longest_request(model: Model, layout: Layout, stage: int, free: float) -> int:
    """Most tokens, up to max_model_len, of a request whose KV cache takes at most ``free`` bytes on a GPU of a stage;
    0 if not even one does.
    """
    low, high = 0, layout.max_model_len
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if bytes_of(model, layout, stage, middle) <= free else (low, middle - 1)
    return low


def _padding(model: Model) -> dict[int | None, float]:
    """Layers of each window with the padding of vLLM's groups, over those without it.

    A group has as many layers as the rarest kind, or as the most frequent one if that has less than 1.5 times as many.
    """
    counts = Counter[int | None]()
    for kind, layers in model.layer_kinds():
        if kind.mixer == "attention" and not kind.shares_kv:
            counts[kind.window] += len(layers)
    fewest, most = min(counts.values(), default=1), max(counts.values(), default=1)
    size = most if most < 1.5 * fewest else fewest
    return {window: -(-count // size) * size / count for window, count in counts.items()}

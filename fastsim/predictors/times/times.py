"""The time of each operator of a layer: what all sources give, and what both compositions take."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
BLOCK = 1 << 19  # bytes

# Operators whose time depends on the tokens of a batch alone, by their names in Vidur's profiles.
LAYER_OPERATORS = (
    "attn_pre_proj",
    "attn_post_proj",
    "attn_rope",
    "attn_kv_cache_save",
    "mlp_up_proj",
    "mlp_down_proj",
    "mlp_act",
    "input_layernorm",
    "post_attention_layernorm",
    "add",
)


def blocks(grid: Floats) -> Iterator[slice]:
    """Rows of a grid that fit a cache together: arithmetic on large arrays is mostly waiting for memory."""
    height = max(1, BLOCK // max(1, grid[:1].nbytes))
    return (slice(start, start + height) for start in range(0, len(grid), height))


def monotone(values: Floats) -> Floats:
    """The mean of the running maximum from the start and the running minimum from the end, along the last axis.

    Forests and measurements decrease here and there; a search would exploit places where more work takes less time.
    """
    least = np.minimum.accumulate(values[..., ::-1], -1)[..., ::-1]
    most = np.maximum.accumulate(values, -1)
    most += least
    most /= 2
    return most


def monotone_grid(values: Floats) -> Floats:
    """``monotone`` along the first axis of a grid, then along the second."""
    found = values.copy()
    columns = np.flatnonzero((found[1:] < found[:-1]).any(axis=0))  # few, as a rule; the others stay as they are
    if columns.size:
        found[:, columns] = monotone(np.ascontiguousarray(found[:, columns].T)).T
    rows = np.flatnonzero((found[:, 1:] < found[:, :-1]).any(axis=1))
    if rows.size:
        found[rows] = monotone(found[rows])
    return found


def _nothing() -> Floats:
    return np.zeros(1)


@dataclass(frozen=True, slots=True)
class OperatorTimes:
    """Milliseconds on one GPU, per layer unless stated; NaN where the source has no entry, zeros where it has no
    operator.

    Attributes
    ----------
    tokens : name -> float64[n], by tokens in the batch (index 0 is unused): ``LAYER_OPERATORS`` and others of a layer,
        ``all_reduce`` (one of the two in a layer) and ``send_recv``.
    decode : float64[batch, kv / kv_step].
    prefill : float64[kv / kv_step, chunk / chunk_step], one prompt chunk after kv tokens.
    first : float64[n], embedding.
    last : float64[s], final norm, LM head and sampling of s sequences.
    host : float64[s], host time of s sequences that the GPUs wait for.
    least : float64[s], the least time of a step of s sequences: what the host takes while the GPUs run.
    parts : what decode (ATTENTION_decode), prefill (ATTENTION_prefill) and last (lm_head, final_norm, sampler) are sums
        of, where the source tells them apart.
    """

    tokens: Mapping[str, Floats]
    decode: Floats
    prefill: Floats
    kv_step: int
    chunk_step: int = 1
    decode_overhead: float = 0.0  # fraction that Vidur adds when more than one decode is batched
    prefill_overhead: float = 0.0
    launch_ms: float = 0.0  # added to each all-reduce
    skew_ms: float = 0.0  # added to each all-reduce, times TP ** 1.25
    first: Floats = field(default_factory=_nothing)
    last: Floats = field(default_factory=_nothing)
    host: Floats = field(default_factory=_nothing)
    least: Floats = field(default_factory=_nothing)
    parts: Mapping[str, Floats] = field(default_factory=dict)

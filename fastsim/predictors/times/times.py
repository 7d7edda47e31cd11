"""The time of each operator of a layer: what all sources give, and what both compositions take."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

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


def monotone(values: Floats, axis: int = -1) -> Floats:
    """The mean of the running maximum from the start and the running minimum from the end.

    Forests and measurements decrease here and there; a search would exploit places where more work takes less time.
    """
    flipped = np.flip(np.minimum.accumulate(np.flip(values, axis), axis), axis)
    return np.asarray((np.maximum.accumulate(values, axis) + flipped) / 2)


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

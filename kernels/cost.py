"""Time of one iteration of one pipeline stage: look-ups and additions in dense tables of milliseconds."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

COMPOSE_VIDUR, COMPOSE_FASTSIM = 0, 1

Floats = NDArray[np.float64]


class VidurTables(NamedTuple):
    """Vidur's stage time, its sums folded as far as the order of its additions allows.

    Arrays by number of tokens have index 0 unused; an entry that the source does not have is NaN.
    """

    before_attention: Floats  # [n] ms: pre_proj + post_proj + rope (tokens rounded up to 8) + kv_save (exact)
    all_reduce: Floats  # [n] ms: tensor-parallel all-reduce with its launch and skew terms; 0 without TP
    input_norm: Floats  # [n] ms
    mlp: Floats  # [n] ms: up + down + act + all_reduce + post_attention_norm
    add: Floats  # [n] ms
    send: Floats  # [n] ms: to the next pipeline stage
    decode: Floats  # [batch, kv / kv_step] ms
    prefill: Floats  # [sum of rounded kv / kv_step, equivalent chunk] ms
    kv_step: int  # tokens
    decode_factor: float  # applied when more than one decode is batched
    prefill_factor: float  # applied when more than one prefill is batched
    num_layers: int  # of one stage
    host_ms: float  # per iteration and stage


class FastsimTables(NamedTuple):
    """fastsim's own stage time: everything already summed over the layers of a stage."""

    token_ms: Floats  # [n] all operators that depend on the tokens in the batch only
    token_slope: float  # ms per token beyond the last entry of token_ms
    first_ms: Floats  # [n] embedding; on the first stage
    first_slope: float  # ms per token beyond the last entry of first_ms
    last_ms: Floats  # [s] final norm, LM head and sampling of s sequences; on the last stage
    host_ms: Floats  # [s] host time of a batch of s sequences that the GPU does not hide; on the first stage
    send_ms: Floats  # [n] to the next pipeline stage
    send_slope: float  # ms per token beyond the last entry of send_ms
    decode_ms: Floats  # [batch, kv / kv_step] linear in between, and beyond the last column
    prefill_ms: Floats  # [kv / kv_step, chunk / chunk_step] one prompt chunk; bilinear, and linear beyond
    kv_step: int  # tokens
    chunk_step: int  # tokens
    skew: float  # decode attention sees mean + skew * (max - mean) KV tokens


class Cost(NamedTuple):
    """Both compositions in one type, so that each policy is compiled once; the unused one holds empty arrays."""

    compose: int  # COMPOSE_VIDUR or COMPOSE_FASTSIM
    num_stages: int
    vidur: VidurTables
    fastsim: FastsimTables

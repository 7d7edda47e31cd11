"""What the time of an iteration is looked up in: dense tables of ms, or the terms of a sum in ns."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

COMPOSE_VIDUR, COMPOSE_FASTSIM, COMPOSE_AFFINE = 0, 1, 2

Floats = NDArray[np.float64]
Longs = NDArray[np.int64]

# Entries of Cost.affine: the time of a batch on every stage is a sum of these terms.
(
    CONSTANT_NS,
    PER_TOKEN_NS,
    PER_SEQUENCE_NS,
    PER_CONTEXT_TOKEN_NS,  # of all tokens of its sequences, those of the batch included
    PER_PREFILL_TOKEN_NS,
    PER_DECODE_NS,
    PER_ATTENTION_PAIR_NS,  # of a token in a chunk of a prompt and a token that it attends to
    TICK_S,  # a stage takes as many of these as the sum has whole microseconds; 0: the sum itself
    NUM_AFFINE,  # from here on by tokens in the batch: of 0, 1, 2 ... tokens, and of more as of the last
) = range(9)
NO_AFFINE = np.zeros(NUM_AFFINE + 1)


class VidurTables(NamedTuple):
    """Vidur's stage time, with terms added up beforehand as far as the order of its additions allows.

    Arrays are indexed by number of tokens and do not use index 0. An entry that the source lacks is NaN.
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
    """fastsim's own stage time: every term is already summed over the layers of a stage."""

    token_ms: Floats  # [n] all operators that depend on the tokens in the batch only
    token_slope: float  # ms per token beyond the last entry of token_ms
    first_ms: Floats  # [n] embedding; on the first stage
    first_slope: float  # ms per token beyond the last entry of first_ms
    last_ms: Floats  # [s] final norm, LM head and sampling of s sequences; on the last stage
    host_ms: Floats  # [s] host time of a batch of s sequences that the GPUs wait for; on the first stage
    least_ms: Floats  # [s] the least time of the GPUs of the first stage: what the host takes meanwhile
    send_ms: Floats  # [n] to the next pipeline stage
    send_slope: float  # ms per token beyond the last entry of send_ms
    decode_ms: Floats  # [batch, kv / kv_step] linear in between, and beyond the last column
    prefill_ms: Floats  # [kv / kv_step, chunk / chunk_step] one prompt chunk; bilinear, and linear beyond
    kv_step: int  # tokens
    chunk_step: int  # tokens
    skew: float  # decode attention sees mean + skew * (max - mean) KV tokens
    mixed: float  # time of decode attention in a batch with prompts over that without


class RankTables(NamedTuple):
    """What ranks that step together compute together, beside what each computes of its own batch."""

    shared_ms: Floats  # [n] experts and exchanges, by the mean tokens of a rank; all layers; beside an affine sum ns
    shared_slope: float  # per token beyond the last entry
    graph_tokens: int  # batches are padded to the largest of all ranks where it has at most so many tokens


NO_RANK_TABLES = RankTables(np.zeros(1), 0.0, 0)


class Cost(NamedTuple):
    """All compositions in one type, so that each policy is compiled once; only one of them is used.

    Beside an affine sum, ``kv_step`` of both tables is 1, so that sums of KV tokens are not rounded.
    """

    compose: int  # COMPOSE_VIDUR, COMPOSE_FASTSIM or COMPOSE_AFFINE
    num_stages: int
    vidur: VidurTables
    fastsim: FastsimTables
    shares: Floats  # [num_stages] time of the layers of a stage over the mean of all stages; fastsim's composition
    affine: Floats = NO_AFFINE  # [NUM_AFFINE + tokens] ns, and s of a tick
    ranks: RankTables = NO_RANK_TABLES

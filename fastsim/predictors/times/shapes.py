"""The shapes of operators as rows of a forest's columns."""

import numpy as np

from fastsim.deployment.operators.kinds import Attention, Experts, Gemm
from fastsim.predictors.chip import Floats


def gemm_rows(gemm: Gemm, tokens: Floats) -> Floats:
    """Shapes of a GEMM, one row for each number of tokens, with the columns of its family."""
    return _rows(tokens, gemm.n, gemm.k)


def expert_rows(experts: Experts, tokens: Floats) -> Floats:
    """Shapes of the experts; the busiest GPU takes as long as if every GPU had as many tokens.

    Measured experts have a gate: others take as long as those of the width at which they have as many weights.
    """
    tokens = experts.ranks * tokens * (experts.imbalance if experts.ep > 1 else 1.0)
    width = round(experts.intermediate * experts.projections / 3)
    sizes = (experts.hidden, width, experts.num_copies, experts.top_k, experts.tp, experts.ep)
    return _rows(tokens, *sizes)


def decode_rows(attn: Attention, batch: Floats, kv: Floats) -> Floats:
    """Shapes of decode attention, one row for each batch size and KV length."""
    return (
        _rows(batch, kv, attn.heads) if attn.latent_dim else _rows(batch, kv, attn.heads, attn.kv_heads, attn.head_dim)
    )


def prefill_rows(attn: Attention, lengths: Floats) -> Floats:
    """Shapes of prefill attention, one prompt per row."""
    if attn.latent_dim:
        return _rows(np.ones(lengths.size), lengths, attn.heads)
    return _rows(np.ones(lengths.size), lengths, attn.heads, attn.kv_heads, attn.head_dim)


def _rows(*columns: Floats | float) -> Floats:
    return np.column_stack(
        [np.broadcast_to(np.asarray(column, dtype=np.float64), np.shape(columns[0])) for column in columns]
    )

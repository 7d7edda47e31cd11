"""How far the tables of a deployment must reach, and how fine their grids are."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastsim.deployment.resolved import Resolved

STEP = 64  # KV tokens, as Vidur rounds
MAX_TOKENS, VIDUR_MAX_TOKENS = 16384, 131072  # ours goes on as a line, Vidur's ends
MAX_CHUNK, VIDUR_MAX_CHUNK = 16384, 32768
# Ours is linear in between: 64 KV tokens apart, decode attention is within 1 % of an iteration, and 256 apart 5 %
# off where many short sequences run.
MAX_KV_POINTS, MAX_CHUNK_POINTS = 2048, 512
MAX_ENTRIES = 1 << 21  # of the decode grid: 16 MiB
VIDUR_MAX_ENTRIES = 1 << 23  # of a grid: 64 MiB; KV steps double until it fits


@dataclass(frozen=True, slots=True)
class Limits:
    """Tokens per batch, sequences, KV tokens and chunk of one prompt, and grid steps, in tokens."""

    max_tokens: int
    max_num_seqs: int
    max_kv: int
    max_chunk: int
    kv_step: int
    chunk_step: int


def _doubled(step: int, enough: int) -> int:
    while step < enough:
        step *= 2
    return step


def limits(resolved: "Resolved") -> Limits:
    """Limits of what a deployment's policy can ask for."""
    scheduler, longest = resolved.scheduler, resolved.max_model_len
    # Without a token budget, a batch holds as many whole prompts as fit.
    budget = scheduler.token_budget or resolved.max_batch_size * longest
    tokens = max(budget, scheduler.max_num_seqs)
    if resolved.predictor.compose == "vidur":
        # Several prompts of a batch count as one: its KV is their sum, its chunk their root of squares.
        chunk = min(tokens, VIDUR_MAX_CHUNK)
        reach = 2 * longest
        widest = max(chunk, scheduler.max_num_seqs)
        kv_step = _doubled(STEP, -(-reach * widest // VIDUR_MAX_ENTRIES))
        return Limits(min(tokens, VIDUR_MAX_TOKENS), scheduler.max_num_seqs, reach, chunk, kv_step, 1)
    chunk = min(tokens, longest, MAX_CHUNK)
    points = min(MAX_KV_POINTS, MAX_ENTRIES // scheduler.max_num_seqs)
    return Limits(
        max_tokens=min(tokens, MAX_TOKENS),
        max_num_seqs=scheduler.max_num_seqs,
        max_kv=longest,
        max_chunk=chunk,
        kv_step=_doubled(STEP, -(-longest // points)),
        chunk_step=_doubled(8, -(-chunk // MAX_CHUNK_POINTS)),
    )

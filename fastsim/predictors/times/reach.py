"""How far the tables of a deployment reach, and how fine their grids are."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastsim.deployment.resolved import Resolved

STEP = 64  # KV tokens, to which Vidur rounds
MAX_TOKENS, VIDUR_MAX_TOKENS = 16384, 131072  # beyond it fastsim extrapolates, while Vidur's tables end
MAX_CHUNK, VIDUR_MAX_CHUNK = 1 << 20, 32768
# Between points fastsim interpolates. With 64 KV tokens between points decode attention stays within 1 % of an
# iteration; with 256 it is 5 % off where many short sequences run.
MAX_KV_POINTS, MAX_CHUNK_POINTS = 2048, 512
LONG_CHUNK, MAX_LONG_CHUNK_POINTS = 16384, 1024  # attention of longer chunks grows with their square
MAX_ENTRIES = 1 << 21  # of the decode grid: 16 MiB
VIDUR_MAX_ENTRIES = 1 << 23  # of a grid: 64 MiB; KV steps double until it fits


@dataclass(frozen=True, slots=True)
class Reach:
    """The largest sizes that tables must hold, and the steps of their grids.

    Attributes
    ----------
    max_tokens : tokens of a batch.
    max_num_seqs : requests of a batch.
    max_kv : KV tokens of one request.
    max_chunk : tokens of one prompt chunk.
    kv_step, chunk_step : distance between the points of a grid, in tokens.
    """

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


def reach_of(resolved: "Resolved") -> Reach:
    """The largest sizes that a deployment's scheduling policy can produce."""
    scheduler, longest = resolved.scheduler, resolved.max_model_len
    # Without a token budget, a batch holds as many whole prompts as fit.
    budget = scheduler.token_budget or resolved.max_batch_size * longest
    tokens = max(budget, scheduler.max_num_seqs)
    if resolved.predictor.compose == "vidur":
        # Vidur counts the prompts of a batch as one, whose KV is their sum and whose chunk is their root of squares.
        chunk = min(tokens, VIDUR_MAX_CHUNK)
        max_kv = 2 * longest
        widest = max(chunk, scheduler.max_num_seqs)
        kv_step = _doubled(STEP, -(-max_kv * widest // VIDUR_MAX_ENTRIES))
        return Reach(min(tokens, VIDUR_MAX_TOKENS), scheduler.max_num_seqs, max_kv, chunk, kv_step, 1)
    chunk = min(tokens, longest, MAX_CHUNK)
    points = min(MAX_KV_POINTS, MAX_ENTRIES // scheduler.max_num_seqs)
    chunk_points = MAX_CHUNK_POINTS if chunk <= LONG_CHUNK else MAX_LONG_CHUNK_POINTS
    return Reach(
        max_tokens=min(tokens, MAX_TOKENS),
        max_num_seqs=scheduler.max_num_seqs,
        max_kv=longest,
        max_chunk=chunk,
        kv_step=_doubled(STEP, -(-longest // points)),
        chunk_step=_doubled(8, -(-chunk // chunk_points)),
    )

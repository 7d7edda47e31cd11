"""The log of iterations: one row per batch and stage."""

from .._jit import inlined
from ..state import (
    FREE,
    LOGGED,
    NUM_CACHED,
    NUM_PREEMPTED,
    NUM_PREFILL_TOKENS,
    NUM_SEQS,
    NUM_TOKENS,
    REPLICA,
    State,
)


@inlined
def full(state: State) -> bool:
    """Whether a log is kept and has no room for another row."""
    return bool(state.log.start.size > 0 and state.cursor[LOGGED] >= state.log.start.size)


@inlined
def record(state: State, num_blocks: int, stage: int, slot: int, start: float, end: float) -> None:
    """Log the batch in a slot, which is on a stage from ``start`` to ``end``, s, if a log is kept."""
    if state.log.start.size == 0:
        return
    r, row, log = state.cursor[REPLICA], state.cursor[LOGGED], state.log
    features = state.batches.features[r, slot]
    log.replica[row] = r
    log.stage[row] = stage
    log.start[row] = start
    log.end[row] = end
    log.num_seqs[row] = features[NUM_SEQS]
    log.num_tokens[row] = features[NUM_TOKENS]
    log.num_prefill_tokens[row] = features[NUM_PREFILL_TOKENS]
    log.kv_blocks[row] = num_blocks - state.replicas.counts[r, FREE]
    if log.num_preempted.size > 0:
        log.num_preempted[row] = features[NUM_PREEMPTED]
        log.num_cached_tokens[row] = features[NUM_CACHED]
    state.cursor[LOGGED] += 1

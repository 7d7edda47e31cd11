"""Errors of a simulation that stopped before all requests were served, each in one sentence."""

from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from fastsim.deployment.resolved import Resolved
from fastsim.errors import StuckError, TableError
from fastsim.kernels import state
from fastsim.kernels.engine import state as engine_state
from fastsim.kernels.exits import Ending
from fastsim.kernels.state import State
from fastsim.kernels.tables import COMPOSE_VIDUR, Cost


def explain_end(resolved: Resolved, lane: State) -> None:
    """Raise StuckError if a replica of ``lane`` stopped with requests that it can never schedule."""
    counts = lane.replicas.counts
    ended = counts[:, state.OUTCOME] != Ending.GOING
    if resolved.scheduler.sglang is not None or resolved.is_apart:
        ended |= counts[:, state.PRESENT] > 0
    ranks = resolved.data_parallel_size
    for r in np.flatnonzero(ended):
        place = f"replica {r}" if ranks == 1 else f"replica {r // ranks}, rank {r % ranks}"
        clock = lane.replicas.times[r, state.CLOCK]
        if counts[r, state.OUTCOME] == Ending.OUT_OF_MEMORY:
            raise StuckError(
                f"{place}: at {clock:.6g} s, {counts[r, state.GROUP]} running requests need one more KV "
                f"token each, but only {counts[r, state.FREE]} are free, and lightllm cannot preempt; "
                "use a smaller scheduler.max_num_seqs, or more memory"
            )
        if counts[r, state.OUTCOME] == Ending.ENDLESS:
            times = counts[r, state.RESTARTS] - lane.engine.counts[r, engine_state.RESTARTS_BEFORE_TOKEN]
            raise StuckError(
                f"{place}: at {clock:.6g} s, requests have preempted each other {times:,} times since any was "
                "given a token, and would go on for ever, as in vLLM by priority; use "
                "scheduler.scheduling_policy fcfs, a smaller scheduler.max_num_seqs, or more memory"
            )
        if counts[r, state.OUTCOME] == Ending.CRASHED:
            raise StuckError(
                f"{place}: at {clock:.6g} s, SGLang crashes: a batch needs more KV slots than are free, as "
                "may happen with scheduler.enable_mixed_chunk; set it to false, or give the replica more memory"
            )
        if resolved.is_apart:
            raise StuckError(
                f"replica {r}: {counts[r, state.PRESENT]:,} requests wait for ever, with {counts[r, state.FREE]:,} KV "
                "blocks free; give the replica more memory"
            )
        _explain_stuck(resolved.kind_of_replica[r], lane, int(r), place)


def explain_fault(costs: tuple[Cost, ...], lane: State) -> NoReturn:
    """Raise TableError for the batch at the cursor of ``lane``, for which the tables hold no time."""
    r, slot = lane.cursor[state.REPLICA], lane.cursor[state.SLOT]
    features, cost = lane.batches.features[r, slot], costs[lane.replicas.pool[r]]
    field = "predictor.source"
    if cost.compose != COMPOSE_VIDUR:
        raise TableError(f"{field}: its tables give a batch of {_batch(features)} no time above 0 s")
    tables = cost.vidur
    tokens, decodes = int(features[state.NUM_TOKENS]), int(features[state.NUM_DECODES])
    if tokens >= tables.mlp.size or np.isnan(
        tables.before_attention[tokens] + tables.all_reduce[tokens] + tables.mlp[tokens] + tables.add[tokens]
    ):
        raise TableError(
            f"{field}: its tables end at {_last(tables.mlp)} tokens, but a batch has {tokens} (rounded up to a "
            "multiple of 8); add rows to the num_tokens tables, or lower scheduler.max_num_batched_tokens or chunk_size"
        )
    if decodes:
        column = -(-(int(features[state.DECODE_KV]) // decodes) // tables.kv_step)
        if not _has(tables.decode, decodes, column):
            raise TableError(
                f"{field}: attn_decode has no row batch_size={decodes}, kv_cache_size="
                f"{column * tables.kv_step}; add it, or lower scheduler.max_num_seqs or max_model_len"
            )
    if features[state.NUM_PREFILLS]:
        row = int(features[state.PREFILL_KV]) // tables.kv_step
        chunk = int(np.sqrt(features[state.PREFILL_SQUARES]) + 0.5)
        if not _has(tables.prefill, row, chunk):
            raise TableError(
                f"{field}: attn_prefill has no row kv_cache_size={row * tables.kv_step}, "
                f"prefill_chunk_size_squared={chunk * chunk}; add it, or lower scheduler.max_num_seqs, "
                "max_num_batched_tokens or chunk_size"
            )
    raise TableError(f"{field}: its tables give a batch of {_batch(features)} no time above 0 s")


def _explain_stuck(resolved: Resolved, lane: State, r: int, place: str) -> NoReturn:
    """Raise StuckError for the request at the head of the queue of the engine in row ``r``, which is at ``place``."""
    counts, requests = lane.replicas.counts[r], lane.requests
    request = int(
        lane.replicas.preempted[r, counts[state.PREEMPTED] - 1] if counts[state.PREEMPTED] else counts[state.HEAD]
    )
    scheduler = resolved.scheduler
    if lane.engine.counts.size and lane.engine.counts[r, engine_state.ROOT] != state.NONE:
        request = int(lane.engine.counts[r, engine_state.ROOT])  # first by priority
    if scheduler.sglang is not None:
        raise StuckError(
            f"{place}: SGLang never takes request {request}: it has {lane.engine.known[request]:,} tokens and may "
            f"have {lane.engine.limit[request]:,}, and the KV cache holds "
            f"{resolved.memory.num_blocks * scheduler.block_size:,} tokens, of which the engine keeps some back; give "
            "the replica more memory, or the request a smaller max_tokens"
        )
    again = " after a restart" if requests.restarts[request] else ""
    raise StuckError(
        f"{place}: request {request} can never be scheduled{again}: it needs {requests.prefill[request]} "
        f"tokens at once, while {counts[state.FREE]} of {resolved.memory.num_blocks} KV blocks are free, "
        f"max_num_batched_tokens is {scheduler.max_num_batched_tokens} and max_num_seqs {scheduler.max_num_seqs}; "
        "give the replica more memory or a larger batch"
    )


def _has(grid: NDArray[np.float64], row: int, column: int) -> bool:
    """Return whether a table has a value there; NaN marks a missing one."""
    return row < grid.shape[0] and column < grid.shape[1] and not np.isnan(grid[row, column])


def _last(table: NDArray[np.float64]) -> int:
    """Return the last index of a table that has a value."""
    return int(np.flatnonzero(~np.isnan(table)).max(initial=0))


def _batch(features: NDArray[np.int64]) -> str:
    """Return the size of a batch in words."""
    return f"{features[state.NUM_SEQS]} requests and {features[state.NUM_TOKENS]} tokens"

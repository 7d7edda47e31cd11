"""Admission in vLLM V1 where KV is transferred: a request takes its blocks first, and runs once its KV is there.

The queue has those first whose KV is on its way or there, then preempted ones, then the others in order of arrival.
"""

from .._jit import inlined
from ..engine.admission import end_admission, list_running, refusal, spare_blocks, start
from ..engine.chunks import cut, threshold_of
from ..engine.state import CHUNK, REFUSED
from ..memory.blocks import blocks_for
from ..memory.paged import admit_blocks, cache_full_blocks, find_cached
from ..memory.waiting import first_waiting, take_waiting
from ..state import CLOCK, GROUP, NONE, REPLICA, RUNNING, WAITING, Limits, State
from .link import start_transfer
from .news import queue_remote, take_remote
from .state import NUM_READY, READY, REMOTE_FIRST, WANTED, WHOLE


@inlined
def _admit_ready(state: State, limits: Limits, r: int, size: int, budget: int) -> tuple[int, int]:
    """Admit those whose KV is there, which compute the last token of their prompts; returns size and budget."""
    transfers, counts = state.transfers, state.replicas.counts[r]
    before, request = NONE, int(transfers.counts[r, REMOTE_FIRST])
    while request != NONE and transfers.counts[r, NUM_READY] > 0:
        if not (budget > 0 and counts[RUNNING] + counts[GROUP] < limits.max_num_seqs):
            break
        following = int(state.requests.next[request])
        if transfers.phase[request] == READY:
            take_remote(state, r, before, request)
            transfers.phase[request] = WHOLE
            transfers.counts[r, NUM_READY] -= 1
            known = int(state.engine.known[request])
            state.requests.prefill[request] = known
            cache_full_blocks(state, limits, r, request, known)
            size = list_running(state, r, size, request, 1)
            budget -= 1
        else:
            before = request
        request = following
    return size, budget


@inlined
def _receive(state: State, limits: Limits, r: int, request: int) -> bool:
    """Take blocks for the KV of a prompt, if they are free, and start to transfer it."""
    known, size = int(state.engine.known[request]), limits.block_size
    hits, free = find_cached(state, limits, r, request)
    if blocks_for(known, size) - hits + free > spare_blocks(state, limits, r):
        return False
    take_waiting(state, limits, r)
    state.engine.cached[request] = hits * size
    admit_blocks(state, limits, r, request, hits, known)
    queue_remote(state, r, request)
    start_transfer(state, limits, request, float(state.replicas.times[r, CLOCK]), blocks_for(known, size) - hits)
    return True


@inlined
def admit(state: State, limits: Limits, size: int, budget: int) -> int:
    """Admit waiting requests to the batch at cursor, until one does not fit; returns the new size."""
    r, rules = state.cursor[REPLICA], limits.engine
    requests, engine, counts = state.requests, state.engine, state.replicas.counts[r]
    threshold = threshold_of(state, limits, r)
    passed_over, last_passed, number, refused = NONE, NONE, 0, 0
    size, budget = _admit_ready(state, limits, r, size, budget)
    while counts[WAITING] > 0 and budget > 0 and counts[RUNNING] + counts[GROUP] < limits.max_num_seqs:
        request = first_waiting(state, limits, r)
        if state.transfers.phase[request] == WANTED:
            if not _receive(state, limits, r, request):
                refused = CHUNK if number == 0 else 0
                break
            continue
        if rules.drains and engine.in_batches[request] > 0:
            take_waiting(state, limits, r)
            if number == 0:
                passed_over = request
            else:
                requests.next[last_passed] = request
            last_passed = request
            number += 1
            continue
        known, computed, hits, free = int(engine.known[request]), int(requests.processed[request]), 0, 0
        if computed == 0:
            hits, free = find_cached(state, limits, r, request)
            computed = hits * limits.block_size
        chunk = min(cut(known - computed, threshold), budget)
        why = refusal(state, limits, r, known, computed + chunk, hits, free)
        if why > 0:
            refused = why if number == 0 else 0
            break
        size = start(state, limits, r, size, request, known, computed, hits, chunk)
        budget -= chunk
    end_admission(state, limits, r, passed_over, last_passed, number, refused)
    if state.transfers.counts[r, NUM_READY] > 0:
        engine.counts[r, REFUSED] = 0
    return size

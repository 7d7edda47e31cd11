"""SGLang: prompts first, one of them perhaps cut to a chunk; where none fits, a token for every running request.

Requests are admitted as far as memory lasts for a share of the outputs that running requests may still produce. The
share falls with each decode; where memory is short after all, requests are retracted and the share rises. What requests
have computed stays in a radix tree, where others find it, until the room is needed. What differs between releases of
SGLang is in SglangLimits.
"""

from .._jit import inlined, kernel, merged
from .._pointed import pointed
from ..accounts.breakdown import count_restart, detailed
from ..exits import Ending, Exit
from ..replicas.pools import Stages, one_stage
from ..sglang.decode import filter_running, form_decode
from ..sglang.ending import end_batch
from ..sglang.launch import launch
from ..sglang.loop import end_pass, next_event, quiet_until
from ..sglang.prefill import add_decodes, form_prefill, may_prefill
from ..sglang.serving import Serving, serving
from ..sglang.slots import count_free, store
from ..sglang.state import AHEAD, CHUNKED, DECODES, IS_FULL, LAST_MODE, LAST_SLOT, MIXED, NOTHING, PREFILL, RETRACTED
from ..sglang.steady import run_unchanged, runs_unchanged, share_sums, wait_for_last
from ..state import CLOCK, LEFT, NONE, NUM_LISTED, OUTCOME, REPLICA, RESTARTS, RUNNING, SLOT, Ints, Limits, State
from ..tables import Cost
from .loop import simulate

GROWS, STATIC, REFUSAL_LASTS = True, False, False
CACHES = True


@inlined
def _merge_last(at: Serving, members: Ints, number: int) -> None:
    """Let the requests of the last prefill run, save for those that have finished and the one in mid-prompt.

    ``members``: the ``number`` requests of that batch.
    """
    counts, was_empty, joined = at.counts, at.counts[RUNNING] == 0, 0
    for i in range(number):
        request = members[i]
        if request != at.own[CHUNKED] and not at.finished_at[request] >= 0.0:
            at.running[counts[RUNNING]] = request
            counts[RUNNING] += 1
            joined += 1
    if joined < number or (joined > 0 and was_empty):
        at.own[IS_FULL] = 0


@inlined
def _form(at: Serving) -> int:
    """Fill the batch at cursor; returns how many requests it lists, 0 when there is nothing that could run."""
    own, counts = at.own, at.counts
    if at.rules.filters_before_prefill:
        filter_running(at.running, counts, at.finished_at, own)
    own[LAST_MODE], own[RETRACTED] = NOTHING, 0
    size = form_prefill(at) if may_prefill(at) else 0
    if counts[OUTCOME] != Ending.GOING:
        return 0
    if size > 0:
        number = size
        if at.rules.mixed and counts[RUNNING] > 0:
            size = add_decodes(at, number)
        own[LAST_MODE] = MIXED if size > number else PREFILL
    elif counts[RUNNING] > 0:
        size = form_decode(at)
        own[LAST_MODE] = DECODES if size > 0 else NOTHING
    return size


@inlined
def form(state: State, limits: Limits, at: Serving) -> int:
    """Fill the batch at cursor; returns how many requests it lists, 0 when there is nothing that could run."""
    r, slot, requests = state.cursor[REPLICA], state.cursor[SLOT], state.requests
    own, counts = state.sglang.counts[r], state.replicas.counts[r]
    if own[CHUNKED] != NONE:
        store(at, int(own[CHUNKED]))
    if own[LAST_MODE] == PREFILL or own[LAST_MODE] == MIXED:
        last = own[LAST_SLOT]
        _merge_last(at, state.batches.request[r, last], state.batches.features[r, last, NUM_LISTED])
    own[LAST_SLOT] = slot
    size = _form(at)
    for i in range(own[RETRACTED]):
        request = int(state.scratch[0, i])
        if detailed(requests):
            decodes = state.engine.known[request] > requests.prefill[request]
            count_restart(requests, request, decodes, state.replicas.times[r, CLOCK])
        requests.restarts[request] += 1
    counts[RESTARTS] += own[RETRACTED]
    count_free(at, limits.num_blocks)
    return size


@merged
def launch_next(state: State, cost: Cost, limits: Limits, stages: Stages) -> int:
    """Schedule in one pass of the replica at cursor; FAULT when the batch has no time."""
    r = state.cursor[REPLICA]
    at = serving(state, limits, state.cursor[SLOT])
    if runs_unchanged(state, limits, at, r):
        if limits.sglang.overlap and not state.sglang.counts[r, AHEAD]:
            wait_for_last(state, r)
            return Exit.FORM
        return run_unchanged(state, cost, limits, at, r)
    share_sums(state, r)
    state.cursor[LEFT] -= 1
    size = form(state, limits, at)
    if state.replicas.counts[r, OUTCOME] != Ending.GOING:
        return Exit.FORM
    if size > 0 and launch(state, cost, limits, size) == Exit.FAULT:
        return Exit.FAULT
    end_pass(state, limits, size > 0)
    return Exit.FORM


@merged
def end(state: State, cost: Cost, limits: Limits, stages: Stages, grows: bool, static: bool) -> None:
    """End the batch at cursor."""
    end_batch(state, cost, limits)


@merged
def advance(state: State, costs: tuple[Cost, ...], limits: tuple[Limits, ...], stages: Stages) -> int:
    """Simulate until all is DONE, the BUDGET of iterations is used up, or a FAULT."""
    return simulate(
        state, costs, limits, one_stage, next_event, quiet_until, launch_next, end, GROWS, STATIC, REFUSAL_LASTS, CACHES
    )


@kernel
def run(state: State, costs: tuple[Cost, ...], limits: tuple[Limits, ...]) -> int:
    """Simulate replicas of one stage."""
    return advance(pointed(state), pointed(costs), pointed(limits), one_stage)

"""Preemption in vLLM V1: requests give up their blocks, and the tokens that the batch had for them."""

from .._jit import inlined
from ..accounts.breakdown import count_restart, detailed
from ..accounts.parts import RESTARTED_IN
from ..memory.blocks import blocks_for
from ..memory.paged import give_up_blocks
from ..memory.waiting import wait_again
from ..state import CLOCK, FREE, REPLICA, RESTARTS, RUNNING, SLOT, Limits, State
from .state import ALWAYS_BACK, BACK_IF_SCHEDULED, CALLS, FOR_PREFILLS, OUTRANKED, REFUSED


@inlined
def _victim(state: State, limits: Limits, r: int) -> int:
    """The place among the running requests of the one to preempt: the last, or the first of the lowest priority."""
    counts, running = state.replicas.counts[r], state.replicas.running[r]
    if not limits.engine.by_priority:
        return int(counts[RUNNING] - 1)
    priority, arrived_at, worst = state.engine.priority, state.requests.arrived_at, 0
    for i in range(1, counts[RUNNING]):
        one, other = running[i], running[worst]
        later = priority[one] == priority[other] and arrived_at[one] > arrived_at[other]
        if priority[one] > priority[other] or later:
            worst = i
    return worst


@inlined
def _preempt(state: State, limits: Limits, r: int, place: int) -> int:
    """Preempt the request at a place among the running ones; returns it."""
    requests, counts, running = state.requests, state.replicas.counts[r], state.replicas.running[r]
    victim = running[place]
    for i in range(place, counts[RUNNING] - 1):
        running[i] = running[i + 1]
    counts[RUNNING] -= 1
    if detailed(requests):
        # Its prefill is complete once a batch has brought the token after it.
        complete = state.engine.known[victim] > requests.prefill[victim]
        decodes = complete and requests.processed[victim] >= requests.prefill[victim]
        requests.parts[victim, RESTARTED_IN] = state.engine.counts[r, CALLS]
        count_restart(requests, victim, decodes, state.replicas.times[r, CLOCK])
    give_up_blocks(state, limits, r, victim, True)
    requests.processed[victim] = 0
    requests.restarts[victim] += 1
    counts[RESTARTS] += 1
    state.engine.counts[r, REFUSED] = 0
    wait_again(state, limits, r, victim)
    return int(victim)


@inlined
def _withdraw(state: State, r: int, slot: int, size: int, request: int) -> int:
    """Take a request out of the batch that is being formed; returns the tokens that it had, 0 when it was not there."""
    members, tokens = state.batches.request[r, slot], state.batches.tokens[r, slot]
    given = 0
    for i in range(size):
        if given > 0:
            members[i - 1], tokens[i - 1] = members[i], tokens[i]
        elif members[i] == request:
            given = int(tokens[i])
    return given


@inlined
def make_room(
    state: State, limits: Limits, request: int, tokens: int, place: int, size: int, budget: int
) -> tuple[bool, int, int, int]:
    """Preempt until the blocks are free that a running request needs to hold ``tokens`` tokens.

    Returns whether it still runs, and the request's place, the batch's size and the budget as they are then.
    """
    r, slot, rules = state.cursor[REPLICA], state.cursor[SLOT], limits.engine
    counts, own, priority = state.replicas.counts[r], state.engine.counts[r], state.engine.priority
    is_prefill = int(state.requests.processed[request] < state.requests.prefill[request])
    while blocks_for(tokens, limits.block_size) - state.requests.blocks[request] > counts[FREE]:
        worst = _victim(state, limits, r)
        victim = _preempt(state, limits, r, worst)
        own[FOR_PREFILLS] += is_prefill
        own[OUTRANKED] += int(rules.by_priority and priority[victim] > priority[request])
        if victim == request:
            return False, place, size, budget
        given = 0
        if rules.by_priority and not rules.victim_keeps_tokens:
            given = _withdraw(state, r, slot, size, victim)
        if given > 0:
            budget += given
            size -= 1
        back = rules.steps_back == ALWAYS_BACK or (rules.steps_back == BACK_IF_SCHEDULED and given > 0)
        if worst < place and back:
            place -= 1
    return True, place, size, budget

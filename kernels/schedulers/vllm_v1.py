"""vLLM V1: one list of running requests in order of admission, and one number of tokens that each has yet to compute.

A batch gives tokens to the running requests in their order, then admits waiting ones; prompts are cut to what is left
of the budget. Where blocks are short, the request admitted last is preempted, or that with the lowest priority, and
computes its tokens again later. What differs between releases of vLLM is in EngineLimits.
"""

from .._jit import inlined, kernel, merged
from ..accounts.breakdown import RESTARTED_IN, count_restart, detailed
from ..cost import Cost
from ..exits import Exit
from ..iterations.engine_ahead import catch_up, next_to_matter, run_alone, steps_with_room
from ..iterations.engine_batches import end_batch, launch
from ..iterations.engine_group import join_steady, leave, take_blocks_in_order
from ..iterations.group import ID_BITS, growth_due
from ..memory.blocks import blocks_for
from ..memory.paged import admit_blocks, cache_full_blocks, find_cached, give_up_blocks, take_blocks
from ..memory.waiting import first_waiting, put_back, take_waiting, wait_again
from ..replicas.engine_loop import next_event, quiet_until
from ..replicas.pools import Stages, one_stage, pipeline
from ..state import (
    ADMISSIONS,
    ALWAYS_BACK,
    BACK_IF_SCHEDULED,
    CALLS,
    CLOCK,
    FREE,
    GROUP,
    GROUP_STEP,
    GROUPED,
    HIT,
    HIT_AGAIN,
    HORIZON,
    IN_FLIGHT,
    LOGGED,
    NEWEST,
    NONE,
    NUM_LISTED,
    OLDEST,
    ONE_BATCH,
    PEAK,
    PRESENT,
    QUERIED,
    QUERIED_AGAIN,
    REFUSED,
    REPLICA,
    RESTARTS,
    RUNNING,
    SLOT,
    TURNS,
    UNANNOUNCED,
    WAITING,
    Limits,
    State,
)
from .loop import simulate

GROWS, STATIC, REFUSAL_LASTS = True, False, False


@inlined
def _tokens_due(state: State, limits: Limits, r: int, request: int) -> int:
    """How many tokens a running request has yet to compute, as far as this batch may; 0 when there is none."""
    engine, rules = state.engine, limits.engine
    computed, sampled = int(state.requests.processed[request]), int(engine.sampled[request])
    if sampled > 0:
        if not rules.extra_slot and computed + 2 - sampled >= engine.limit[request]:
            return 0  # a batch in flight yields its last token
        if limits.num_stages > 1 and rules.shares_turns == ONE_BATCH:
            return 0
    since = engine.counts[r, CALLS] - engine.last_call[request]
    if limits.num_stages > 1 and rules.shares_turns == TURNS and since < limits.num_stages:
        return 0
    due = int(engine.known[request]) + sampled - computed
    return min(due, rules.max_model_len - 1 - computed)


@inlined
def _threshold(state: State, limits: Limits, r: int) -> int:
    """The most tokens of a chunk, 0 where only the budget bounds it."""
    alone = state.replicas.counts[r, PRESENT] <= 1
    return 0 if alone and not limits.engine.threshold_alone else limits.engine.threshold


@inlined
def _chunk(due: int, threshold: int, budget: int) -> int:
    """How many of the tokens due to compute in this batch."""
    if 0 < threshold < due:
        due = threshold
    return min(due, budget)


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
def _make_room(
    state: State, limits: Limits, request: int, tokens: int, place: int, size: int, budget: int
) -> tuple[bool, int, int, int]:
    """Preempt until the blocks are free that a running request needs to hold ``tokens`` tokens.

    Returns whether it still runs, and the request's place, the batch's size and the budget as they are then.
    """
    r, slot, rules = state.cursor[REPLICA], state.cursor[SLOT], limits.engine
    counts = state.replicas.counts[r]
    while blocks_for(tokens, limits.block_size) - state.requests.blocks[request] > counts[FREE]:
        worst = _victim(state, limits, r)
        victim = _preempt(state, limits, r, worst)
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


@inlined
def _form_running(state: State, limits: Limits) -> tuple[int, int]:
    """Give tokens to the running requests; returns the size of the batch and what is left of the budget."""
    r, slot, rules = state.cursor[REPLICA], state.cursor[SLOT], limits.engine
    counts, running, computed = state.replicas.counts[r], state.replicas.running[r], state.requests.processed
    members, tokens = state.batches.request[r, slot], state.batches.tokens[r, slot]
    size, place, budget, threshold = 0, 0, limits.max_num_batched_tokens, _threshold(state, limits, r)
    while place < counts[RUNNING] and budget > 0:
        request = int(running[place])
        chunk = _chunk(_tokens_due(state, limits, r, request), threshold, budget)
        if chunk <= 0:
            place += 1
            continue
        held = int(computed[request]) + chunk
        runs, place, size, budget = _make_room(state, limits, request, held, place, size, budget)
        if not runs:
            if rules.by_priority and rules.requester_goes_on:
                continue
            break
        take_blocks(state, limits, r, request, held)
        cache_full_blocks(state, limits, r, request, min(held, int(state.engine.known[request])))
        members[size], tokens[size] = request, chunk
        size += 1
        budget -= chunk
        place += 1
    return size, budget


@inlined
def _form_beside(state: State, limits: Limits, late: int) -> tuple[int, int]:
    """Give tokens to the group and to the running requests that are listed.

    Returns the number of listed members and what is left of the budget, and -1 instead of a number where the order
    decides who gets blocks or tokens, which are short.
    """
    r, slot, counts = state.cursor[REPLICA], state.cursor[SLOT], state.replicas.counts[state.cursor[REPLICA]]
    engine, running, computed = state.engine, state.replicas.running[r], state.requests.processed
    members, tokens, chunks = state.batches.request[r, slot], state.batches.tokens[r, slot], state.scratch[0]
    size, budget, threshold = 0, limits.max_num_batched_tokens - counts[GROUP], _threshold(state, limits, r)
    growth = growth_due(state, limits, r)
    need, newest = growth, engine.counts[r, NEWEST]
    for place in range(counts[RUNNING]):
        request = int(running[place])
        due = _tokens_due(state, limits, r, request)
        chunk = max(0, _chunk(due, threshold, budget))
        if engine.order[request] < newest and 0 <= chunk < min(due, threshold if threshold > 0 else due):
            return -1, 0
        chunks[place] = chunk
        budget -= chunk
        if chunk > 0:
            need += blocks_for(int(computed[request]) + chunk, limits.block_size) - int(state.requests.blocks[request])
            members[size], tokens[size] = request, chunk
            size += 1
    if budget < 0 or need > counts[FREE]:
        return -1, 0
    counts[FREE] -= growth
    if limits.engine.prefix_caching:
        step = counts[GROUP_STEP]
        take_blocks_in_order(state, limits, r, step, step + 1, counts[IN_FLIGHT] + late, counts[RUNNING])
    else:
        for i in range(size):
            take_blocks(state, limits, r, members[i], int(computed[members[i]]) + int(tokens[i]))
    counts[PEAK] = max(counts[PEAK], limits.num_blocks - counts[FREE])
    return size, budget


@inlined
def _admit(state: State, limits: Limits, size: int, budget: int) -> int:
    """Admit waiting requests to the batch at cursor, until one does not fit; returns the new size."""
    r, slot, rules = state.cursor[REPLICA], state.cursor[SLOT], limits.engine
    requests, engine, counts = state.requests, state.engine, state.replicas.counts[r]
    members, tokens = state.batches.request[r, slot], state.batches.tokens[r, slot]
    threshold, own = _threshold(state, limits, r), state.engine.counts[r]
    passed_over, last_passed, number = NONE, NONE, 0
    while counts[WAITING] > 0 and budget > 0 and counts[RUNNING] + counts[GROUP] < limits.max_num_seqs:
        request = first_waiting(state, limits, r)
        known, computed = int(engine.known[request]), int(requests.processed[request])
        hits = free = 0
        passes = rules.drains and engine.in_batches[request] > 0
        if not passes:
            if computed == 0:
                hits, free = find_cached(state, limits, r, request)
                computed = hits * limits.block_size
            due = known - computed
            if 0 < threshold < due:
                due = threshold
            if not rules.chunked_prefill and due > budget:
                if not rules.skips_prompts:
                    break
                passes = True
        if passes:
            take_waiting(state, limits, r)
            # Prompts that do not fit come back in reverse order.
            if number == 0:
                passed_over = last_passed = request
            elif rules.skips_prompts:
                requests.next[request] = passed_over
                passed_over = request
            else:
                requests.next[last_passed] = request
                last_passed = request
            number += 1
            continue
        chunk = min(due, budget)
        spare = counts[FREE] - (limits.watermark_blocks if counts[RUNNING] + counts[GROUP] > 0 else 0)
        whole = min(known, rules.max_model_len)
        if rules.whole_prompt and blocks_for(whole, limits.block_size) - hits + free > spare:
            break
        if blocks_for(computed + chunk, limits.block_size) - hits + free > spare:
            break
        take_waiting(state, limits, r)
        if requests.processed[request] == 0:
            again = requests.restarts[request] > 0
            own[QUERIED_AGAIN if again else QUERIED] += known
            own[HIT_AGAIN if again else HIT] += computed
        if requests.restarts[request] == 0:
            engine.cached[request] = computed
        requests.prefill[request], requests.processed[request] = known, computed
        admit_blocks(state, limits, r, request, hits, computed + chunk)
        cache_full_blocks(state, limits, r, request, min(computed + chunk, known))
        engine.order[request] = own[ADMISSIONS]
        own[ADMISSIONS] += 1
        state.replicas.running[r, counts[RUNNING]] = request
        counts[RUNNING] += 1
        members[size], tokens[size] = request, chunk
        size += 1
        budget -= chunk
    put_back(state, limits, r, passed_over, last_passed, number)
    # With prefix caching, more of a request may be cached later, so that it fits.
    full = counts[RUNNING] + counts[GROUP] == limits.max_num_seqs
    own[REFUSED] = counts[WAITING] > 0 and number == 0 and (full or not rules.prefix_caching)
    return size


@inlined
def form(state: State, limits: Limits, skew: float, late: int) -> int:
    """Fill the batch at cursor; returns how many requests it lists, besides the group. ``late``: as for leave."""
    r = state.cursor[REPLICA]
    own, counts = state.engine.counts[r], state.replicas.counts[r]
    restarts = counts[RESTARTS]
    own[CALLS] += 1
    own[UNANNOUNCED] = 0
    size, budget = -1, 0
    if counts[GROUPED] or _is_roomy(state, limits, r):
        join_steady(state, limits, r)
        everyone = False
        while True:
            leave(state, skew, limits, r, everyone, late)
            if everyone:
                break
            size, budget = _form_beside(state, limits, late)
            if size >= 0:
                break
            everyone = True
    if size < 0:
        size, budget = _form_running(state, limits)
    if counts[RESTARTS] == restarts:
        size = _admit(state, limits, size, budget)
    return size


@inlined
def _is_roomy(state: State, limits: Limits, r: int) -> bool:
    """Whether budget and blocks are enough for a token of every running request."""
    counts = state.replicas.counts[r]
    return bool(counts[RUNNING] < limits.max_num_batched_tokens and counts[RUNNING] < counts[FREE])


@inlined
def _runs_alone(state: State, limits: Limits, r: int) -> bool:
    """Whether the next iterations consist of the group alone."""
    counts, own, flying = state.replicas.counts[r], state.engine.counts[r], state.replicas.counts[r, IN_FLIGHT]
    if not counts[GROUPED] or counts[GROUP] == 0 or counts[RUNNING] > 0:
        return False
    if state.replicas.heap[r, 0] >> ID_BITS <= counts[GROUP_STEP] or (counts[WAITING] > 0 and not own[REFUSED]):
        return False
    if counts[GROUP] > limits.max_num_batched_tokens or steps_with_room(state, limits, r) < 2:
        return False
    log_is_short = 0 < state.log.start.size < state.cursor[LOGGED] + 2
    if flying != limits.engine.depth - 1 or log_is_short:
        return False
    if flying == 0:
        return True
    # What comes in while the batch in flight runs is seen when the batch after the next is formed.
    end = state.engine.batch_end[r, own[OLDEST]]
    alone = state.batches.features[r, own[OLDEST], NUM_LISTED] == 0
    return bool(alone and end < state.moments[HORIZON] and end < next_to_matter(state, limits, r))


@merged
def launch_next(state: State, cost: Cost, limits: Limits, stages: Stages) -> int:
    """Form the next batch of the replica at cursor and start it; FAULT when it has no time."""
    r, late = state.cursor[REPLICA], 0
    if _runs_alone(state, limits, r):
        code = run_alone(state, cost, limits, r)
        if code != Exit.ENDED:
            return code
        late = 1
    restarts = state.replicas.counts[r, RESTARTS]
    size = form(state, limits, cost.fastsim.skew, late)
    code = launch(state, cost, limits, size, state.replicas.counts[r, RESTARTS] > restarts)
    if late:
        catch_up(state, r)
    return code


@merged
def launch_staged(state: State, cost: Cost, limits: Limits, stages: Stages) -> int:
    """The same for a pipeline, in which all members of a batch are listed."""
    r = state.cursor[REPLICA]
    counts, own = state.replicas.counts[r], state.engine.counts[r]
    restarts = counts[RESTARTS]
    own[CALLS] += 1
    own[UNANNOUNCED] = 0
    size, budget = _form_running(state, limits)
    if counts[RESTARTS] == restarts:
        size = _admit(state, limits, size, budget)
    return launch(state, cost, limits, size, counts[RESTARTS] > restarts)


@merged
def end(state: State, cost: Cost, limits: Limits, stages: Stages, grows: bool, static: bool) -> None:
    """End the batch at cursor."""
    end_batch(state, cost, limits, grows, static)


@merged
def advance(state: State, costs: tuple[Cost, ...], limits: tuple[Limits, ...], stages: Stages) -> int:
    """Simulate until all is DONE, the BUDGET of iterations is used up, or a FAULT."""
    if stages is one_stage:
        return simulate(
            state, costs, limits, stages, next_event, quiet_until, launch_next, end, GROWS, STATIC, REFUSAL_LASTS
        )
    return simulate(
        state, costs, limits, stages, next_event, quiet_until, launch_staged, end, GROWS, STATIC, REFUSAL_LASTS
    )


@kernel
def run(state: State, costs: tuple[Cost, ...], limits: tuple[Limits, ...]) -> int:
    """Simulate replicas of one stage."""
    return advance(state, costs, limits, one_stage)


@kernel
def run_stages(state: State, costs: tuple[Cost, ...], limits: tuple[Limits, ...]) -> int:
    """Simulate pipelines."""
    return advance(state, costs, limits, pipeline)

"""The decodes of a pipeline's batch stay together: the batch that has ended is mostly the next one that is formed.

They stand in their batch, and every iteration gives each one token. As in a group (group.py) ``processed`` holds what
a member had processed at step 0, the KV length of all is one number, and how many need a block in a step is counted by
step modulo the block size: while nobody comes or goes, an iteration costs the same whatever the size of the batch.
Prompts are listed beside them, and stand with them once complete. What a member has processed is written down when the
first of them finishes, or when the batch must be mixed with others that wait to run.
"""

import math

from .._jit import inlined
from ..accounts.breakdown import DECODE_HOST, DECODE_WAIT, OTHER_WORK, count_chunk, detailed, other_seconds
from ..cost import Cost, host_seconds
from ..memory.blocks import blocks_for, release
from ..memory.queues import move
from ..state import (
    CLOCK,
    DECODE_KV,
    DUE,
    EVEN,
    FREE,
    IN_USE,
    LONGEST_KV,
    NONE,
    NUM_LISTED,
    NUM_MEMBERS,
    NUM_SEQS,
    NUM_SUMS,
    PEAK,
    PRESENT,
    REPLICA,
    RESTING,
    RUNNING,
    SLOT,
    STANDING,
    STEP,
    SUM_HOST,
    SUM_OTHER,
    SUM_WAIT,
    SUM_WORK,
    Limits,
    State,
)
from .batches import count_gaps

NEVER = 1 << 40


@inlined
def stand(state: State, limits: Limits, size: int, grows: bool) -> int:
    """Let the decodes stand that come first among the ``size`` members of the batch at cursor; lists the others.

    Returns how many these are. ``grows``: decodes take blocks.
    """
    r, slot = state.cursor[REPLICA], state.cursor[SLOT]
    requests, features = state.requests, state.batches.features[r, slot]
    request, tokens = state.batches.request[r, slot], state.batches.tokens[r, slot]
    number = 0
    while number < size and requests.processed[request[number]] > requests.prefill[request[number]]:
        number += 1
    move(request, 0, number, state.batches.standing[r, slot], 0)
    move(request, number, size, request, 0)
    move(tokens, number, size, tokens, 0)
    features[STANDING] = number
    features[EVEN] = 0
    _start_sums(state, r, slot)
    _take_stock(state, limits, r, slot, grows)
    return size - number


@inlined
def stays(state: State, limits: Limits, most: int, grows: bool) -> bool:
    """Put cursor on the batch that has just ended when its members, all of them, are those to go on with.

    So it is when nobody else waits to run, they are no more than ``most``, and memory is not short. They get their
    blocks at once. Else they wait to run like any others.
    """
    counts = state.replicas.counts[state.cursor[REPLICA]]
    slot = counts[RESTING]
    if slot == NONE:
        return False
    features = state.batches.features[state.cursor[REPLICA], slot]
    need = 0
    if grows:
        need = int(state.batches.growth[state.cursor[REPLICA], slot, features[STEP] % limits.block_size])
    # A prompt that was begun stands behind the decodes, and is passed over when they fill the batch.
    full = features[STANDING] + (features[NUM_LISTED] > 0) > most
    if counts[RUNNING] > 0 or full or (grows and counts[FREE] <= need):
        break_up(state, limits, grows)
        return False
    counts[RESTING] = NONE
    state.cursor[SLOT] = slot
    counts[FREE] -= need
    counts[PEAK] = max(counts[PEAK], limits.num_blocks - counts[FREE])
    return True


@inlined
def break_up(state: State, limits: Limits, grows: bool) -> None:
    """Line up the members of the batch that has just ended, if there is one, behind those that wait to run."""
    r = state.cursor[REPLICA]
    counts, running = state.replicas.counts[r], state.replicas.running[r]
    slot = counts[RESTING]
    if slot == NONE:
        return
    features = state.batches.features[r, slot]
    _write_down(state, limits, r, slot, grows)
    move(state.batches.standing[r, slot], 0, features[STANDING], running, counts[RUNNING])
    counts[RUNNING] += features[STANDING]
    move(state.batches.request[r, slot], 0, features[NUM_LISTED], running, counts[RUNNING])
    counts[RUNNING] += features[NUM_LISTED]
    features[STANDING] = features[NUM_LISTED] = features[IN_USE] = 0
    counts[RESTING] = NONE


@inlined
def retire_standing(state: State, cost: Cost, limits: Limits, grows: bool, gang: bool) -> None:
    """End the batch at cursor: a token for all who stand in it, then the prompts, which join them when complete.

    A gang lines up as a batch, and keeps its memory until all have finished.
    """
    r, slot = state.cursor[REPLICA], state.cursor[SLOT]
    requests, counts, features = state.requests, state.replicas.counts[r], state.batches.features[r, slot]
    request, tokens = state.batches.request[r, slot], state.batches.tokens[r, slot]
    now, seconds, begun = state.replicas.times[r, CLOCK], state.batches.seconds[r, slot], 0
    detail, on_stage, host = detailed(requests), state.batches.on_stage[r, slot], 0.0
    if detail:
        host = host_seconds(cost, features[NUM_SEQS])
    if features[STANDING] > 0:
        _advance(state, cost, r, slot, now, host)
        if features[STEP] == features[DUE]:
            _let_go(state, limits, r, slot, grows, gang)
    features[EVEN] = 1
    state.batches.last_end[r, slot] = now
    for i in range(features[NUM_LISTED]):
        member = request[i]
        requests.processed[member] += tokens[i]
        requests.execution_time[member] += seconds
        if detail:
            completes = requests.processed[member] == requests.prefill[member]
            count_chunk(requests, member, now, on_stage, host, completes)
        if requests.processed[member] < requests.prefill[member]:
            request[begun] = member
            begun += 1
            continue
        requests.processed[member] += 1
        if math.isnan(requests.first_token_at[member]):
            requests.first_token_at[member] = now
        else:
            count_gaps(state, now - requests.last_token_at[member], 1)
        if requests.processed[member] < requests.total[member]:
            requests.processed[member] -= features[STEP]
            _add_sums(state, r, slot, member, -1.0)
            state.batches.standing[r, slot, features[STANDING]] = member
            features[STANDING] += 1
            _count_in(state, limits, r, slot, member, grows)
            continue
        requests.finished_at[member] = now
        counts[PRESENT] -= 1
        if not gang:
            release(requests.blocks, counts, member)
    features[NUM_LISTED] = begun
    if features[STANDING] + begun == 0:
        features[IN_USE] = 0
        if gang:
            for i in range(features[NUM_MEMBERS]):
                release(requests.blocks, counts, request[i])
    elif gang:
        state.replicas.running[r, counts[RUNNING]] = slot
        counts[RUNNING] += 1
    else:
        counts[RESTING] = slot


@inlined
def _advance(state: State, cost: Cost, r: int, slot: int, now: float, host: float) -> None:
    """A token for all who stand in the batch, which had ``host`` s of host time."""
    features, number = state.batches.features[r, slot], state.batches.features[r, slot, STANDING]
    last_token_at, standing = state.requests.last_token_at, state.batches.standing[r, slot]
    sums, on_stage, detail = state.batches.sums[r, slot], state.batches.on_stage[r, slot], detailed(state.requests)
    since, run = state.batches.last_end[r, slot], number
    if detail:
        sums[SUM_HOST] += host
        sums[SUM_OTHER] += other_seconds(cost, features, on_stage)
    if features[EVEN]:
        sums[SUM_WAIT] += (now - since) - on_stage
    else:
        # Nearly always the same for all members: runs of equal ones.
        since, run = now, 0
        for i in range(number):
            previous = last_token_at[standing[i]]
            if detail:
                state.requests.parts[standing[i], DECODE_WAIT] += (now - previous) - on_stage
            if previous != since:
                count_gaps(state, now - since, run)
                since, run = previous, 0
            run += 1
    count_gaps(state, now - since, run)
    sums[SUM_WORK] += state.batches.seconds[r, slot]
    features[STEP] += 1
    features[DECODE_KV] += number
    features[LONGEST_KV] += 1


@inlined
def _let_go(state: State, limits: Limits, r: int, slot: int, grows: bool, gang: bool) -> None:
    """Let members go whose last step has ended at the clock; the others keep their order."""
    requests, counts, features = state.requests, state.replicas.counts[r], state.batches.features[r, slot]
    standing, now, left = state.batches.standing[r, slot], state.replicas.times[r, CLOCK], 0
    _write_down(state, limits, r, slot, grows)
    for i in range(features[STANDING]):
        member = standing[i]
        if requests.processed[member] < requests.total[member]:
            standing[left] = member
            left += 1
            continue
        requests.finished_at[member] = now
        counts[PRESENT] -= 1
        if not gang:
            release(requests.blocks, counts, member)
    features[STANDING] = left
    _take_stock(state, limits, r, slot, grows)


@inlined
def _write_down(state: State, limits: Limits, r: int, slot: int, grows: bool) -> None:
    """Write down what the members have processed, hold, and took."""
    requests, features = state.requests, state.batches.features[r, slot]
    now = state.replicas.times[r, CLOCK]
    for i in range(features[STANDING]):
        member = state.batches.standing[r, slot, i]
        requests.processed[member] += features[STEP]
        _add_sums(state, r, slot, member, 1.0)
        requests.last_token_at[member] = now
        if grows:
            # What it needed when its last iteration was formed.
            held = blocks_for(requests.processed[member] - 1, limits.block_size)
            requests.blocks[member] = max(requests.blocks[member], held)
    features[STEP] = 0
    _start_sums(state, r, slot)


@inlined
def _start_sums(state: State, r: int, slot: int) -> None:
    for column in range(NUM_SUMS):
        state.batches.sums[r, slot, column] = 0.0


@inlined
def _add_sums(state: State, r: int, slot: int, member: int, sign: float) -> None:
    """Add what was counted for all who stand in the batch to a member's own, or take it away from one that joins."""
    requests, sums = state.requests, state.batches.sums[r, slot]
    requests.execution_time[member] += sign * sums[SUM_WORK]
    if detailed(requests):
        requests.parts[member, DECODE_WAIT] += sign * sums[SUM_WAIT]
        requests.parts[member, DECODE_HOST] += sign * sums[SUM_HOST]
        requests.parts[member, OTHER_WORK] += sign * sums[SUM_OTHER]


@inlined
def _take_stock(state: State, limits: Limits, r: int, slot: int, grows: bool) -> None:
    """Add up the members at step 0."""
    features = state.batches.features[r, slot]
    features[STEP] = features[DECODE_KV] = features[LONGEST_KV] = 0
    features[DUE] = NEVER
    if grows:
        for phase in range(limits.block_size):
            state.batches.growth[r, slot, phase] = 0
    for i in range(features[STANDING]):
        _count_in(state, limits, r, slot, state.batches.standing[r, slot, i], grows)


@inlined
def _count_in(state: State, limits: Limits, r: int, slot: int, member: int, grows: bool) -> None:
    """Count one in who stands in the batch; ``processed`` is as of step 0."""
    features, processed = state.batches.features[r, slot], int(state.requests.processed[member])
    now = processed + features[STEP]
    features[DECODE_KV] += now
    features[LONGEST_KV] = max(features[LONGEST_KV], now)
    features[DUE] = min(features[DUE], state.requests.total[member] - processed)
    if grows:
        # A block is full whenever all tokens but the last fill whole blocks.
        state.batches.growth[r, slot, (1 - processed) % limits.block_size] += 1

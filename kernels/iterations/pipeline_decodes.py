"""The decodes of a pipeline's batch are resident in it: the batch that has ended is mostly the next one to be formed.

Every iteration gives each resident one token. As in a group (group.py) ``processed`` holds the tokens that a resident
had processed at step 0, the KV length of all residents is one number, and how many of them need a block in a step is
counted by step modulo the block size. While none joins or finishes, an iteration costs the same whatever the size of
the batch. Prompts are listed beside the residents and become resident once complete. The tokens that each resident has
processed are settled when the first of them finishes, or when the batch must be mixed with other running requests.
"""

import math

from .._jit import inlined
from ..accounts.breakdown import count_chunk, detailed, other_seconds
from ..accounts.parts import DECODE_HOST, DECODE_WAIT, OTHER_WORK
from ..cost import host_seconds
from ..memory.blocks import blocks_for, release
from ..memory.followers import finish
from ..memory.queues import move
from ..state import (
    ALIGNED,
    CLOCK,
    DECODE_KV,
    FIRST_FINISH,
    FREE,
    IN_USE,
    KEPT_BATCH,
    LONGEST_KV,
    NONE,
    NUM_HOLDERS,
    NUM_LISTED,
    NUM_RESIDENTS,
    NUM_SEQS,
    NUM_SUMS,
    PEAK,
    REPLICA,
    RUNNING,
    SLOT,
    STEP,
    SUM_HOST,
    SUM_OTHER,
    SUM_WAIT,
    SUM_WORK,
    Limits,
    State,
)
from ..tables import Cost
from .batches import count_gaps

NEVER = 1 << 40


@inlined
def make_resident(state: State, limits: Limits, size: int, grows: bool) -> int:
    """Make the decodes resident that come first among the ``size`` members of the batch at cursor; list the others.

    Returns how many are listed. ``grows``: decodes take blocks.
    """
    r, slot = state.cursor[REPLICA], state.cursor[SLOT]
    requests, features = state.requests, state.batches.features[r, slot]
    request, tokens = state.batches.request[r, slot], state.batches.tokens[r, slot]
    number = 0
    while number < size and requests.processed[request[number]] > requests.prefill[request[number]]:
        number += 1
    move(request, 0, number, state.batches.residents[r, slot], 0)
    move(request, number, size, request, 0)
    move(tokens, number, size, tokens, 0)
    features[NUM_RESIDENTS] = number
    features[ALIGNED] = 0
    reset_sums(state, r, slot)
    _sum_up(state, limits, r, slot, grows)
    return size - number


@inlined
def keep_residents(state: State, limits: Limits, most: int, grows: bool) -> bool:
    """Put cursor on the batch that has just ended if its members are exactly those of the next batch.

    They are when no other request waits to run, they are no more than ``most``, and memory is not short. Then they get
    their blocks at once. Otherwise they wait to run like any other requests.
    """
    counts = state.replicas.counts[state.cursor[REPLICA]]
    slot = counts[KEPT_BATCH]
    if slot == NONE:
        return False
    features = state.batches.features[state.cursor[REPLICA], slot]
    need = 0
    if grows:
        need = int(state.batches.growth[state.cursor[REPLICA], slot, features[STEP] % limits.block_size])
    # A prompt that was begun comes after the decodes, and is passed over when they fill the batch.
    full = features[NUM_RESIDENTS] + (features[NUM_LISTED] > 0) > most
    if counts[RUNNING] > 0 or full or (grows and counts[FREE] <= need):
        dissolve(state, limits, grows)
        return False
    counts[KEPT_BATCH] = NONE
    state.cursor[SLOT] = slot
    counts[FREE] -= need
    counts[PEAK] = max(counts[PEAK], limits.num_blocks - counts[FREE])
    return True


@inlined
def dissolve(state: State, limits: Limits, grows: bool) -> None:
    """Move the members of the batch that has just ended, if there is one, to the end of the running requests."""
    r = state.cursor[REPLICA]
    counts, running = state.replicas.counts[r], state.replicas.running[r]
    slot = counts[KEPT_BATCH]
    if slot == NONE:
        return
    features = state.batches.features[r, slot]
    _settle(state, limits, r, slot, grows)
    move(state.batches.residents[r, slot], 0, features[NUM_RESIDENTS], running, counts[RUNNING])
    counts[RUNNING] += features[NUM_RESIDENTS]
    move(state.batches.request[r, slot], 0, features[NUM_LISTED], running, counts[RUNNING])
    counts[RUNNING] += features[NUM_LISTED]
    features[NUM_RESIDENTS] = features[NUM_LISTED] = features[IN_USE] = 0
    counts[KEPT_BATCH] = NONE


@inlined
def retire_residents(state: State, cost: Cost, limits: Limits, grows: bool, static: bool) -> None:
    """End the batch at cursor: a token for each resident, then the prompts, which become resident when complete.

    A ``static`` batch waits to run as a whole, and keeps its memory until all its requests have finished.
    """
    r, slot = state.cursor[REPLICA], state.cursor[SLOT]
    requests, counts, features = state.requests, state.replicas.counts[r], state.batches.features[r, slot]
    request, tokens = state.batches.request[r, slot], state.batches.tokens[r, slot]
    now, seconds, begun = state.replicas.times[r, CLOCK], state.batches.seconds[r, slot], 0
    detail, on_stage, host = detailed(requests), state.batches.on_stage[r, slot], 0.0
    if detail:
        host = host_seconds(cost, features[NUM_SEQS])
    if features[NUM_RESIDENTS] > 0:
        _take_tokens(state, cost, r, slot, now, host)
        if features[STEP] == features[FIRST_FINISH]:
            _finish_due(state, limits, r, slot, grows, static)
    features[ALIGNED] = 1
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
            add_sums(state, r, slot, member, -1.0)
            state.batches.residents[r, slot, features[NUM_RESIDENTS]] = member
            features[NUM_RESIDENTS] += 1
            _add_resident(state, limits, r, slot, member, grows)
            continue
        finish(state, r, member, now)
        if not static:
            release(requests.blocks, counts, member)
    features[NUM_LISTED] = begun
    if features[NUM_RESIDENTS] + begun == 0:
        features[IN_USE] = 0
        if static:
            for i in range(features[NUM_HOLDERS]):
                release(requests.blocks, counts, request[i])
    elif static:
        state.replicas.running[r, counts[RUNNING]] = slot
        counts[RUNNING] += 1
    else:
        counts[KEPT_BATCH] = slot


@inlined
def _take_tokens(state: State, cost: Cost, r: int, slot: int, now: float, host: float) -> None:
    """Give each resident of the batch a token at ``now``, s; the batch had ``host`` s of host time."""
    features, number = state.batches.features[r, slot], state.batches.features[r, slot, NUM_RESIDENTS]
    last_token_at, residents = state.requests.last_token_at, state.batches.residents[r, slot]
    sums, on_stage, detail = state.batches.sums[r, slot], state.batches.on_stage[r, slot], detailed(state.requests)
    since, run = state.batches.last_end[r, slot], number
    if detail:
        sums[SUM_HOST] += host
        sums[SUM_OTHER] += other_seconds(cost, features, on_stage)
    if features[ALIGNED]:
        sums[SUM_WAIT] += (now - since) - on_stage
    else:
        # The gap is nearly always the same for all residents: count runs of equal gaps.
        since, run = now, 0
        for i in range(number):
            previous = last_token_at[residents[i]]
            if detail:
                state.requests.parts[residents[i], DECODE_WAIT] += (now - previous) - on_stage
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
def _finish_due(state: State, limits: Limits, r: int, slot: int, grows: bool, static: bool) -> None:
    """Finish the residents whose last step has ended at the clock; the others keep their order."""
    requests, counts, features = state.requests, state.replicas.counts[r], state.batches.features[r, slot]
    residents, now, left = state.batches.residents[r, slot], state.replicas.times[r, CLOCK], 0
    _settle(state, limits, r, slot, grows)
    for i in range(features[NUM_RESIDENTS]):
        member = residents[i]
        if requests.processed[member] < requests.total[member]:
            residents[left] = member
            left += 1
            continue
        finish(state, r, member, now)
        if not static:
            release(requests.blocks, counts, member)
    features[NUM_RESIDENTS] = left
    _sum_up(state, limits, r, slot, grows)


@inlined
def _settle(state: State, limits: Limits, r: int, slot: int, grows: bool) -> None:
    """Store what each resident has processed, the blocks it holds and its times, and start again at step 0."""
    requests, features = state.requests, state.batches.features[r, slot]
    now = state.replicas.times[r, CLOCK]
    for i in range(features[NUM_RESIDENTS]):
        member = state.batches.residents[r, slot, i]
        requests.processed[member] += features[STEP]
        add_sums(state, r, slot, member, 1.0)
        requests.last_token_at[member] = now
        if grows:
            # What it needed when its last iteration was formed.
            held = blocks_for(requests.processed[member] - 1, limits.block_size)
            requests.blocks[member] = max(requests.blocks[member], held)
    features[STEP] = 0
    reset_sums(state, r, slot)


@inlined
def reset_sums(state: State, r: int, slot: int) -> None:
    """Set the sums since step 0 to 0 s."""
    for column in range(NUM_SUMS):
        state.batches.sums[r, slot, column] = 0.0


@inlined
def add_sums(state: State, r: int, slot: int, member: int, sign: float) -> None:
    """Add the sums of the batch to those of a resident, or subtract them for a member that joins (``sign`` -1)."""
    requests, sums = state.requests, state.batches.sums[r, slot]
    requests.execution_time[member] += sign * sums[SUM_WORK]
    if detailed(requests):
        requests.parts[member, DECODE_WAIT] += sign * sums[SUM_WAIT]
        requests.parts[member, DECODE_HOST] += sign * sums[SUM_HOST]
        requests.parts[member, OTHER_WORK] += sign * sums[SUM_OTHER]


@inlined
def _sum_up(state: State, limits: Limits, r: int, slot: int, grows: bool) -> None:
    """Sum up the residents at step 0."""
    features = state.batches.features[r, slot]
    features[STEP] = features[DECODE_KV] = features[LONGEST_KV] = 0
    features[FIRST_FINISH] = NEVER
    if grows:
        for phase in range(limits.block_size):
            state.batches.growth[r, slot, phase] = 0
    for i in range(features[NUM_RESIDENTS]):
        _add_resident(state, limits, r, slot, state.batches.residents[r, slot, i], grows)


@inlined
def _add_resident(state: State, limits: Limits, r: int, slot: int, member: int, grows: bool) -> None:
    """Add a resident to the sums of the batch; its ``processed`` is as of step 0."""
    features, processed = state.batches.features[r, slot], int(state.requests.processed[member])
    now = processed + features[STEP]
    features[DECODE_KV] += now
    features[LONGEST_KV] = max(features[LONGEST_KV], now)
    features[FIRST_FINISH] = min(features[FIRST_FINISH], state.requests.total[member] - processed)
    if grows:
        # A block is full whenever all tokens but the last fill whole blocks.
        state.batches.growth[r, slot, (1 - processed) % limits.block_size] += 1

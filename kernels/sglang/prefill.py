"""The prefill batches of SGLang: which requests they take, how many tokens of each, and which decodes join them."""

from .._jit import apart, inlined
from ..engine.state import HIT, HIT_AGAIN, LAST_PART, PART, QUERIED, QUERIED_AGAIN
from ..exits import Ending
from ..memory.blocks import blocks_for
from ..memory.queues import pop_head
from ..memory.radix import lock, unlock
from ..state import HEAD, NONE, OUTCOME, RUNNING, WAITING
from .budget import (
    GO,
    NO_MEMORY,
    NO_TOKENS,
    batch_memory_left,
    begin_budget,
    charge,
    memory_left,
    reserve,
    state_of_budget,
)
from .decode import drop_finished, fits, leave_out_last_tokens, take_next_slots
from .lives import add_life, lives_fit
from .serving import Serving
from .slots import look_up, make_room, take
from .state import CHUNK_TOKENS, CHUNKED, INPUT_TOKENS, IS_FULL, LIVES, NEXT_CHUNKED
from .waiting import arrange


@inlined
def may_prefill(at: Serving) -> bool:
    """Whether a prefill batch is to be tried."""
    return bool(at.own[CHUNKED] != NONE or (at.counts[WAITING] > 0 and not at.own[IS_FULL]))


@apart
def form_prefill(at: Serving) -> int:
    """Fill the batch at cursor with prompts; returns how many requests it lists, 0 when it cannot have any."""
    own, counts, rules = at.own, at.counts, at.rules
    if rules.counts_places_first and own[CHUNKED] == NONE and counts[RUNNING] >= at.max_running_requests:
        own[IS_FULL] = 1
        return 0
    begin_budget(at)
    own[LIVES] = own[NEXT_CHUNKED] = NONE
    arrange(at)
    size = 0
    if own[CHUNKED] != NONE:
        if not _go_on(at, int(own[CHUNKED])):
            return 0
        size = 1
    size = _admit(at, size)
    if size == 0:
        return 0
    own[CHUNKED] = own[NEXT_CHUNKED]
    _extend(at, size)
    return size


@apart
def add_decodes(at: Serving, size: int) -> int:
    """Let the running requests decode in the prefill batch at cursor; returns how many requests it lists then."""
    counts = at.counts
    drop_finished(at.running, counts, at.finished_at)
    if not at.rules.mixes_unchecked:
        leave_out_last_tokens(at)
        if not fits(at):
            return size
    size = take_next_slots(at, size)
    counts[RUNNING] = 0
    return size


@apart
def _go_on(at: Serving, request: int) -> bool:
    """Take the next chunk of a request; False when the engine crashes, as there is no token for it.

    Memory limits the chunk, unless none is left: then only the tokens do.
    """
    chunk = int(at.budget[CHUNK_TOKENS])
    tokens = int(at.known[request] - at.filled[request])
    limit = min(chunk, int(memory_left(at)))
    if limit <= 0:
        limit = chunk
    if limit <= 0:
        at.counts[OUTCOME] = Ending.CRASHED
        return False
    _choose(at, request, 0, min(tokens, limit), tokens <= limit)
    return True


@inlined
def _admit(at: Serving, size: int) -> int:
    """Take waiting requests in their order until one does not fit; returns how many the batch lists."""
    rules = at.rules
    own, counts = at.own, at.counts
    while counts[WAITING] > 0:
        if size >= at.max_running_requests - counts[RUNNING]:
            own[IS_FULL] = 1
        if own[IS_FULL] or (rules.stops_without_budget and state_of_budget(at) == NO_TOKENS):
            break
        code = _try(at, int(counts[HEAD]), size)
        if code == GO:
            pop_head(at.next, counts)
            size += 1
            code = state_of_budget(at)
        if code == NO_MEMORY:
            own[IS_FULL] = 1
        if code != GO:
            break
    return size


@inlined
def _try(at: Serving, request: int, size: int) -> int:
    """Add a waiting request to the batch and return GO, or leave it for want of NO_MEMORY or NO_TOKENS."""
    rules, page = at.rules, at.page
    known = int(at.known[request])
    pages, node = look_up(at, request, known - 1)
    tokens = known - pages * page
    by_lives = rules.ignore_eos and not rules.radix_cache
    code = _refusal_by_lives(at, request, tokens, size) if by_lives else _refusal(at, request, tokens, node, size)
    if code != GO:
        return code
    share, limit = tokens, int(at.budget[CHUNK_TOKENS])
    if rules.chunk > 0 and (tokens if by_lives else blocks_for(tokens, page) * page) > limit:
        share = limit if by_lives else limit // page * page
    if share <= 0:
        unlock(at.tree, node)
        return NO_TOKENS
    again = at.restarts[request] > 0
    at.engine[QUERIED_AGAIN if again else QUERIED] += known
    at.engine[HIT_AGAIN if again else HIT] += pages * page
    if not again:
        at.cached[request] = pages * page
    at.prefill[request] = known
    at.filled[request], at.in_tree[request], at.node[request] = pages * page, pages, node
    _choose(at, request, size, share, share == tokens)
    return GO


@inlined
def _refusal(at: Serving, request: int, tokens: int, node: int, size: int) -> int:
    """Why a request is left, or GO. Then its prefix is locked, so that less memory may be available."""
    rules, page = at.rules, at.page
    needed = tokens + reserve(at.limit, at.known, request)
    slots, unlimited = blocks_for(tokens, page) * page, rules.chunks_lift_input_limit and rules.chunk > 0
    too_long = slots >= at.budget[INPUT_TOKENS] and size > 0 and not unlimited
    if rules.tests_memory_once:
        needed += page
    elif needed >= memory_left(at):
        return NO_MEMORY
    elif too_long:
        return NO_TOKENS
    lock(at.tree, node)
    has_memory = needed < memory_left(at)
    if has_memory and not too_long:
        return GO
    unlock(at.tree, node)
    return NO_TOKENS if has_memory else NO_MEMORY


@apart
def _refusal_by_lives(at: Serving, request: int, tokens: int, size: int) -> int:
    """The same where the engine knows how long each request will be there."""
    page = at.page
    slots = blocks_for(tokens, page) * page
    if at.rules.tests_memory_once:
        slots += page
    batch_left = batch_memory_left(at)
    if slots > batch_left or slots > memory_left(at):
        return NO_MEMORY
    add_life(at, request, size)
    number = int(at.own[LIVES])
    return GO if lives_fit(at.lives, number, batch_left - slots) else NO_MEMORY


@inlined
def _choose(at: Serving, request: int, place: int, tokens: int, is_whole: bool) -> None:
    """List a request in the batch at cursor."""
    at.members[place], at.tokens[place] = request, tokens
    at.samples[place] = LAST_PART if is_whole else PART
    outputs = int(at.limit[request] - at.prompt[request]) if is_whole else 0
    charge(at, tokens, outputs)
    if not is_whole:
        at.own[NEXT_CHUNKED] = request


@inlined
def _extend(at: Serving, size: int) -> None:
    """Take the slots of the chosen tokens."""
    page = at.page
    members, tokens, filled = at.members, at.tokens, at.filled
    slots = size * page if page > 1 else 0
    for i in range(size):
        slots += int(tokens[i])
    make_room(at, slots)
    for i in range(size):
        member = members[i]
        before = int(filled[member])
        after = before + int(tokens[i])
        filled[member] = at.processed[member] = after
        if not take(at, blocks_for(after, page) - blocks_for(before, page)):
            return

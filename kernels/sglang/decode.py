"""The decodes of SGLang: each takes one more slot, and requests are retracted where there is no room for all."""

from .._jit import apart, inlined
from ..engine.state import DECODE
from ..state import RUNNING, Floats, Ints, Longs
from .serving import Serving
from .slots import give_back, make_room, take
from .state import DROPPED, FREE_PAGES, IS_FULL, RETRACTED
from .waiting import wait_last

DECODES_AHEAD = 20  # tokens for each request that stays, made room for at each retraction


@inlined
def form_decode(at: Serving) -> int:
    """Fill the batch at cursor with a token for each running request; returns how many there are."""
    counts, ratio, rules, running = at.counts, at.ratio, at.rules, at.running
    filter_running(running, counts, at.finished_at, at.own)
    before = counts[RUNNING]
    leave_out_last_tokens(at)
    if counts[RUNNING] == 0:
        return 0
    if fits(at):
        ratio[0] = max(ratio[0] - rules.ratio_step, rules.least_ratio)
    elif counts[RUNNING] < before:  # the slots of those left out will soon be free
        return 0
    else:
        _retract(at)
        at.own[IS_FULL] = 0
        ratio[0] = _expected_ratio(running, counts[RUNNING], at.known, at.prompt, at.limit)
    return take_next_slots(at, 0)


@inlined
def drop_finished(running: Ints, counts: Longs, finished_at: Floats) -> bool:
    """Remove the finished requests from the running ones; whether there were any."""
    number, left = counts[RUNNING], 0
    for i in range(number):
        if not finished_at[running[i]] >= 0.0:
            running[left] = running[i]
            left += 1
    counts[RUNNING] = left
    return bool(left < number)


@inlined
def filter_running(running: Ints, counts: Longs, finished_at: Floats, own: Longs) -> None:
    """Let finished requests leave the running ones, so that there may be room for a prefill.

    ``own``: Sglang.counts.
    """
    if drop_finished(running, counts, finished_at) or counts[RUNNING] == 0:
        own[IS_FULL] = 0


@inlined
def _leave_out(running: Ints, counts: Longs, known: Ints, sampled: Ints, limit: Ints, own: Longs) -> None:
    number, left = counts[RUNNING], 0
    for i in range(number):
        request = running[i]
        if known[request] + sampled[request] < limit[request]:
            running[left] = request
            left += 1
    counts[RUNNING] = left
    if left < number or left == 0:
        own[IS_FULL] = 0


@inlined
def leave_out_last_tokens(at: Serving) -> None:
    """Let the requests leave the running ones whose last token is in flight."""
    if at.rules.leaves_out_last_tokens:
        _leave_out(at.running, at.counts, at.known, at.sampled, at.limit, at.own)


@inlined
def count_new_pages(running: Ints, number: int, processed: Ints, page: int) -> int:
    """How many of ``number`` running requests begin a page with their next token."""
    if page == 1:
        return number
    pages = 0
    for i in range(number):
        pages += int(processed[running[i]] % page == 0)
    return pages


@inlined
def fits(at: Serving) -> bool:
    """Whether there is room for the next token of each running request, after an eviction if need be."""
    number, running = at.counts[RUNNING], at.running
    pages = count_new_pages(running, number, at.processed, at.page)
    make_room(at, pages * at.page)
    return bool(at.own[FREE_PAGES] >= pages)


@inlined
def take_next_slots(at: Serving, size: int) -> int:
    """List the running requests from place ``size`` on, each with the slot of its next token; returns the new size.

    Room is made as if each of them began a page.
    """
    counts, running = at.counts, at.running
    make_room(at, at.page * int(counts[RUNNING]))
    if take(at, count_new_pages(running, counts[RUNNING], at.processed, at.page)):
        for i in range(counts[RUNNING]):
            request = running[i]
            at.processed[request] += 1
            at.members[size + i], at.tokens[size + i] = request, 1
            at.samples[size + i] = DECODE
        size += counts[RUNNING]
    return size


@apart
def _retract(at: Serving) -> None:
    """Retract requests until the others fit, at least one, those with the fewest outputs and longest prompts first."""
    counts, running = at.counts, at.running
    _sort_by_outputs(running, counts[RUNNING], at.known, at.prompt)
    number = 0
    while counts[RUNNING] > 1 and (number == 0 or not fits(at)):
        counts[RUNNING] -= 1
        request = int(running[counts[RUNNING]])
        _drop(at.members_in_flight, at.samples_in_flight, at.size_in_flight, request)
        at.retracted[number] = request
        number += 1
        at.sampled[request] = 0
        give_back(at, request, False)
        make_room(at, DECODES_AHEAD * int(counts[RUNNING]))
        wait_last(counts, at.next, request)
    at.own[RETRACTED] = number


@apart
def _comes_before(known: Ints, prompt: Ints, one: int, other: int) -> bool:
    """Whether a request is more worth keeping than another."""
    outputs, of_other = known[one] - prompt[one], known[other] - prompt[other]
    return bool(outputs > of_other or (outputs == of_other and prompt[one] < prompt[other]))


@apart
def _sort_by_outputs(running: Ints, number: int, known: Ints, prompt: Ints) -> None:
    """Sort the running requests, stably; decodes are mostly in that order from the last time."""
    for i in range(1, number):
        request, j = running[i], i
        while j > 0 and _comes_before(known, prompt, request, running[j - 1]):
            running[j] = running[j - 1]
            j -= 1
        running[j] = request


@apart
def _drop(members: Ints, samples: Ints, number: int, request: int) -> None:
    """Let the batch in flight bring no token to a request that is retracted."""
    for i in range(number):
        if members[i] == request:
            samples[i] = DROPPED


@apart
def _expected_ratio(running: Ints, number: int, known: Ints, prompt: Ints, limit: Ints) -> float:
    """What the running requests have produced, and shall soon, of all that they may."""
    produced, most = 0, 1
    for i in range(number):
        request = running[i]
        produced += int(known[request] - prompt[request]) + DECODES_AHEAD
        most += int(limit[request] - prompt[request])
    return min(1.0, produced / most)

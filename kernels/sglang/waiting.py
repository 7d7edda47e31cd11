"""The waiting requests of SGLang: in order of arrival, with the retracted ones last, or with long matches first."""

from .._jit import apart
from ..state import COMING, HEAD, LAST_ARRIVED, NONE, TAIL, WAITING, Ints, Longs
from .serving import Serving
from .slots import look_up
from .state import MOST_SORTED, SHORT_MATCH, UNSORTED

REFRESH_EVERY = 32  # passes that do not sort
LAST = 1  # the key of requests that go to the end


@apart
def _end_with(counts: Longs, following: Ints, request: int) -> None:
    """Let a request be the last of the waiting ones, before those that are to arrive. ``following``: Requests.next."""
    following[request] = counts[COMING]
    counts[LAST_ARRIVED] = request
    if counts[COMING] == NONE:
        counts[TAIL] = request


@apart
def wait_last(counts: Longs, following: Ints, request: int) -> None:
    """Put a retracted request behind all that wait."""
    if counts[WAITING] == 0:
        counts[HEAD] = request
    else:
        following[counts[LAST_ARRIVED]] = request
    _end_with(counts, following, request)
    counts[WAITING] += 1


@apart
def arrange(at: Serving) -> None:
    """Sort the waiting requests under lpm; under fcfs look some of them up now and then. Each lookup uses the tree."""
    if at.counts[WAITING] == 0 or not at.rules.radix_cache:
        return
    if at.rules.by_longest_match and at.counts[WAITING] <= MOST_SORTED:
        _sort(at)
    elif at.rules.refreshes_waiting:
        if at.own[UNSORTED] % REFRESH_EVERY == 0:
            # The last of them first.
            for i in range(_list_first(at.counts, at.next, at.queue) - 1, -1, -1):
                request = int(at.queue[i])
                look_up(at, request, int(at.known[request]))
        at.own[UNSORTED] += 1


@apart
def _list_first(counts: Longs, following: Ints, queue: Longs) -> int:
    """Write the first waiting requests to a queue; returns how many."""
    request, number = int(counts[HEAD]), min(int(counts[WAITING]), MOST_SORTED)
    for i in range(number):
        queue[i] = request
        request = int(following[request])
    return number


@apart
def _sort(at: Serving) -> None:
    """Put the longest matches first. Of requests with the same new beginning, all but the first go to the end."""
    queue, keys, known, beginning = at.queue, at.keys, at.known, at.beginning
    number = _list_first(at.counts, at.next, queue)
    for i in range(number):
        request = int(queue[i])
        keys[i] = -look_up(at, request, int(known[request]))[0] * at.page
        if keys[i] >= -SHORT_MATCH and known[request] >= SHORT_MATCH:
            for j in range(i):
                other = int(queue[j])
                goes_first = keys[j] != LAST and keys[j] >= -SHORT_MATCH and known[other] >= SHORT_MATCH
                if goes_first and beginning[other] == beginning[request]:
                    keys[i] = LAST
                    break
    for i in range(number):
        if keys[i] != LAST:
            keys[i] = max(keys[i], at.rules.matches_leave_a_token - known[queue[i]])
    _sort_by_keys(queue, keys, number)
    at.counts[HEAD] = queue[0]
    for i in range(1, number):
        at.next[queue[i - 1]] = queue[i]
    _end_with(at.counts, at.next, int(queue[number - 1]))


@apart
def _sort_by_keys(queue: Longs, keys: Longs, number: int) -> None:
    """Sort a queue by ascending keys, stably."""
    for i in range(1, number):
        request, key, j = queue[i], keys[i], i
        while j > 0 and keys[j - 1] > key:
            queue[j], keys[j] = queue[j - 1], keys[j - 1]
            j -= 1
        queue[j], keys[j] = request, key

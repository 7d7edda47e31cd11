"""Whether all requests of SGLang can be served to their ends, where it knows that none of them stops early."""

from .._jit import apart
from ..state import NONE, RUNNING, Ints, Longs
from .serving import Serving
from .state import HELD_TOKENS, LEFT_OUTPUTS, LIVES


@apart
def _insert_before(lives: Longs, number: int, place: int, left: int, held: int) -> None:
    """Insert a row at a place, and move those from there on by one."""
    for i in range(number, place, -1):
        lives[i, LEFT_OUTPUTS], lives[i, HELD_TOKENS] = lives[i - 1, LEFT_OUTPUTS], lives[i - 1, HELD_TOKENS]
    lives[place, LEFT_OUTPUTS], lives[place, HELD_TOKENS] = left, held


@apart
def _add_sorted(lives: Longs, number: int, limit: Ints, known: Ints, request: int) -> int:
    """Add a request behind all that end no later, unless no output is left to it; returns the number of rows."""
    left = limit[request] - known[request]
    if left <= 0:
        return number
    place = number
    while place > 0 and lives[place - 1, LEFT_OUTPUTS] > left:
        place -= 1
    _insert_before(lives, number, place, left, known[request])
    return number + 1


@apart
def add_life(at: Serving, request: int, size: int) -> None:
    """Add a request that is tried; the first one of a batch brings in those that run and the ``size`` already chosen.

    It goes before the first that ends no earlier; the engine puts the last one to end next to last.
    """
    own, lives, running = at.own, at.lives, at.running
    limit, known = at.limit, at.known
    if own[LIVES] == NONE:
        number = _add_sorted(lives, 0, limit, known, request)
        for i in range(at.counts[RUNNING]):
            number = _add_sorted(lives, number, limit, known, int(running[i]))
        for i in range(size):
            number = _add_sorted(lives, number, limit, known, int(at.members[i]))
    else:
        number, left = int(own[LIVES]), int(limit[request] - known[request])
        place = 0
        while place < number and left > lives[place, LEFT_OUTPUTS]:
            place += 1
        if place == number:
            place = max(number - 1, 0)
        _insert_before(lives, number, place, left, int(known[request]))
        number += 1
    own[LIVES] = number


@apart
def lives_fit(lives: Longs, number: int, slots: int) -> bool:
    """Whether so many free slots, and those of requests that have ended before, last until each one ends."""
    for place in range(number):
        going = number - place
        if slots - lives[place, LEFT_OUTPUTS] * going <= going:
            return False
        slots += lives[place, HELD_TOKENS]
    return True

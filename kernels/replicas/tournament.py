"""A tournament among replicas: the one with the least key, the lowest id among equals, in O(log) per change."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._jit import inlined
from ..state import NONE

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]


@inlined
def replay(winners: Ints, keys: Floats, player: int, key: float) -> None:
    """Give a player a new key. winners[1] is the winner; the players are the second half of the tree.

    Who wins a match is hard to predict, so it is computed without a branch. Above a match that another player wins now
    as before, nothing changes.
    """
    if keys[player] == key:
        return
    keys[player] = key
    node = winners.size // 2 + player
    best: Any = player
    while node > 1:
        other: Any = np.int64(winners[node ^ 1])
        rival = keys[max(other, 0)]
        wins = (other != NONE) & ((rival < keys[best]) | ((rival == keys[best]) & (other < best)))
        best += (other - best) * np.int64(wins)
        node //= 2
        if best == winners[node] and best != player:
            break
        winners[node] = best


@inlined
def second(winners: Ints, keys: Floats, winner: int) -> float:
    """The least key of the players other than the winner; infinite where there is none."""
    least = math.inf
    node = winners.size // 2 + winner
    while node > 1:
        other = winners[node ^ 1]
        if other != NONE:
            least = min(least, keys[other])
        node //= 2
    return least

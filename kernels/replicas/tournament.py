"""A tournament among replicas: the one with the least key, the lowest id among equals, in O(log) per change."""

import math

import numpy as np
from numpy.typing import NDArray

from .._jit import inlined
from ..state import NONE

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]


@inlined
def replay(winners: Ints, keys: Floats, player: int, key: float) -> None:
    """Give a player a new key. winners[1] is the winner; the players are the second half of the tree."""
    keys[player] = key
    node = (winners.size // 2 + player) // 2
    while node > 0:
        left, right = winners[2 * node], winners[2 * node + 1]
        winners[node] = left if right == NONE or keys[left] <= keys[right] else right
        node //= 2


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

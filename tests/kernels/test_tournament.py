"""The tournament of replicas, whose parts can be called where kernels are interpreted."""

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastsim.kernels.replicas.tournament import replay, second
from fastsim.simulation.layout import _drawn_tree


@pytest.mark.skipif(not numba.config.DISABLE_JIT, reason="parts of kernels cannot be called")
@given(st.integers(1, 9), st.lists(st.tuples(st.integers(0, 8), st.sampled_from([0.0, 1.0, 2.0, 3.0, np.inf]))))
def test_the_least_key_wins_and_of_equal_ones_the_first(number: int, changes: list[tuple[int, float]]) -> None:
    winners, keys = _drawn_tree(number).copy(), np.zeros(number)
    for player, key in changes:
        replay(winners, keys, player % number, key)
        best = int(np.argmin(keys))
        assert (keys[player % number], winners[1]) == (key, best)
        assert second(winners, keys, best) == min([*keys[:best], *keys[best + 1 :]], default=np.inf)

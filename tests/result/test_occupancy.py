"""Occupancy, compared with counting requests tick by tick."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastsim.result.metrics.occupancy import mean, occupied, peak

SPANS = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 20), st.integers(0, 2)), max_size=25)


@given(SPANS)
def test_occupancy_equals_a_count_at_every_tick(rows: list[tuple[int, int, int]]) -> None:
    begin = np.array([float(a) for a, _, _ in rows])
    end = np.array([float(a + b) for a, b, _ in rows])
    replica = np.array([r for _, _, r in rows], int)
    ticks = np.arange(0, 60)
    present = (begin[:, None] <= ticks) & (ticks < end[:, None])  # [request, tick]
    assert peak(begin, end) == present.sum(axis=0).max(initial=0)
    edges = np.linspace(0, 60, 13)
    np.testing.assert_allclose(mean(begin, end, edges), present.sum(axis=0).reshape(12, 5).mean(axis=1), atol=1e-12)
    for r, seconds in enumerate(occupied(replica, begin, end, 3)):
        assert seconds == pytest.approx(present[replica == r].any(axis=0).sum())


def test_requests_that_never_end_stay() -> None:
    begin, end = np.array([0.0, 1.0, np.nan]), np.array([np.nan, 3.0, np.nan])
    assert peak(begin, end) == 2
    np.testing.assert_allclose(mean(begin, end, np.array([0.0, 2.0, 4.0])), [1.5, 1.5])
    assert peak(np.zeros(0), np.zeros(0)) == 0
    assert occupied(np.zeros(1, int), np.array([np.nan]), np.array([1.0]), 2).tolist() == [0, 0]

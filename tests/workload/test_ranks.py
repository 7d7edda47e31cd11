"""Rank correlations are those of scipy, and distances those of the definition."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import rankdata, spearmanr  # type: ignore[import-untyped]

from fastsim.workload.ranks import COUNTED, ascending, distance, neighbours_correlation, rank_correlation, ranks

VALUES = st.one_of(st.integers(-3, 3), st.integers(-COUNTED, COUNTED))


@given(st.lists(VALUES, min_size=3, max_size=40), st.booleans())
def test_ranks_are_those_of_scipy(values: list[int], floats: bool) -> None:
    first = np.array(values, np.float64 if floats else np.int64)
    assert (ranks(first) == rankdata(first)).all()
    if len(set(values[1:])) > 1 and len(set(values[:-1])) > 1:
        wanted = spearmanr(first[1:], first[:-1]).statistic
        assert neighbours_correlation(first.astype(np.float64)) == pytest.approx(wanted, abs=1e-12)
        assert rank_correlation(first[1:], first[:-1]) == pytest.approx(wanted, abs=1e-12)


@given(st.lists(st.one_of(st.integers(-3, 3), st.integers(-(2**63), 2**63 - 1)), max_size=40))
def test_an_order_is_that_of_a_stable_sort(values: list[int]) -> None:
    numbers = np.array(values, np.int64)
    for part in (numbers, numbers[np.abs(numbers) < 2**40]):
        assert (ascending(part) == np.argsort(part, kind="stable")).all()


def test_equal_values_have_no_correlation() -> None:
    assert rank_correlation(np.ones(5), np.arange(5)) == 0


@given(st.lists(VALUES, min_size=1, max_size=40), st.lists(VALUES, min_size=1, max_size=40))
def test_the_distance_is_the_largest_difference_of_the_distributions(first: list[int], second: list[int]) -> None:
    shares = [[sum(each <= value for each in of) / len(of) for value in first + second] for of in (first, second)]
    largest = max(abs(one - other) for one, other in zip(*shares, strict=True))
    assert distance(np.array(first), np.array(second, np.float64)) == largest

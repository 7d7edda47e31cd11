"""Hashes of blocks against lists of lists."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastsim.errors import WorkloadError
from fastsim.workload import BlockHashes, Workload

lists = st.lists(st.lists(st.integers(-3, 3), max_size=5), min_size=1, max_size=8)


def as_lists(hashes: BlockHashes) -> list[list[int]]:
    return [hashes[request].tolist() for request in range(len(hashes))]


@given(lists=lists, data=st.data())
def test_taken_and_shortened_as_lists_are(lists: list[list[int]], data: st.DataObject) -> None:
    hashes = BlockHashes.of(lists)
    assert as_lists(hashes) == lists
    rows = data.draw(st.lists(st.integers(0, len(lists) - 1), max_size=8))
    assert as_lists(hashes.take(np.array(rows, np.int64))) == [lists[row] for row in rows]
    counts = data.draw(st.lists(st.integers(0, 6), min_size=len(lists), max_size=len(lists)))
    shorter = [each[:count] for each, count in zip(lists, counts, strict=True)]
    assert as_lists(hashes.at_most(np.array(counts))) == shorter


@given(lists=lists)
def test_chained_hashes_are_equal_where_all_blocks_before_are(lists: list[list[int]]) -> None:
    chained = as_lists(BlockHashes.of(lists).chained())
    assert [*map(len, chained)] == [*map(len, lists)]
    for (one, of_one), (other, of_other) in combinations(zip(lists, chained, strict=True), 2):
        for place in range(min(len(one), len(other))):
            assert (of_one[place] == of_other[place]) == (one[: place + 1] == other[: place + 1])


@pytest.mark.parametrize(
    ("hashes", "said"),
    [
        (BlockHashes.of([[1], [2, 3, 4]]), r"data row 2: block_hashes: 3 hashes .* in 40 tokens \(at most 2\)"),
        (BlockHashes.of([[1]]), "block_hashes has 1 lists for 2 requests"),
        (BlockHashes.of([[1], []], 0), "block_size: 0 is not a number of tokens"),
    ],
)
def test_refused(hashes: BlockHashes, said: str) -> None:
    with pytest.raises(WorkloadError, match=said):
        Workload(np.array([0.0, 1.0]), np.array([16, 32]), np.array([1, 8]), block_hashes=hashes)

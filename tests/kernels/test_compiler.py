"""Kernels compute what their source says, and are compiled without what cannot run."""

import os
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from fastsim.kernels._jit import apart, inlined, kernel, merged
from fastsim.kernels._pointed import bound, pointed

COMPILED = (os.environ.get("NUMBA_DISABLE_JIT") or "0") == "0"


class Inner(NamedTuple):
    flags: NDArray[np.bool_]  # [N, 2]
    words: NDArray[np.int32]  # [N]
    number: int


class Outer(NamedTuple):
    inner: Inner
    table: NDArray[np.int64]  # [N, 3]
    cube: NDArray[np.float64]  # [N, 2, 3], not contiguous
    fixed: NDArray[np.float64]  # [N], read only
    stages: int


def new() -> Outer:
    fixed = np.linspace(0.5, 4.5, 5)
    fixed.flags.writeable = False
    words = np.arange(5, dtype=np.int32) * 7 - 9
    inner = Inner(np.zeros((5, 2), bool), words, 11)
    return Outer(inner, np.arange(15).reshape(5, 3), np.arange(60.0).reshape(5, 2, 6)[:, :, ::2], fixed, 1)


def one(outer: Outer) -> Outer:
    """The same, which has one stage."""
    return outer


bound(one, "stages", 1, 1)


@inlined
def _touch(outer: Outer, i: int, grows: bool) -> int:
    row, inner = outer.table[i], outer.inner
    row[-1] += inner.words[i] + i  # the row is not read again
    inner.flags[i, -1] = row[0] > 3
    inner.words[4 - i] = row.size + outer.cube.shape[1] * outer.stages
    outer.cube[i, 1][2] -= outer.fixed[-3]
    if grows:
        outer.cube[i, 0, -3] = len(outer.table)
    return int(inner.flags[i, 1]) + len(row)


@apart
def _apart(words: NDArray[np.int32], i: int) -> tuple[int, float]:
    return int(words[i]) << 1, words[-2] / 4


@merged
def _written_in(outer: Outer, total: float) -> float:
    last = outer.inner.words
    last[0] = 3  # as are those here
    return total + outer.inner.number


def plain(outer: Outer) -> float:
    total = 0.0
    for i in range(5):
        total += _touch(outer, i, i == 2) + _touch(outer, i, True)
        double, quarter = _apart(outer.inner.words, i)
        total += double * quarter
    outer.table[2, 0] = 40
    return _written_in(outer, total)


@kernel
def by_address(outer: Outer) -> float:
    return plain_part(pointed(outer))


@kernel
def by_value(outer: Outer) -> float:
    return plain_part(outer)


plain_part = merged(plain)


@pytest.mark.parametrize("run", [by_address, by_value], ids=["by_address", "by_value"])
def test_kernels_store_and_read_what_their_source_says(run: object) -> None:
    """Numba removes stores to arrays whose origin it cannot follow when it inlines an overload."""
    expected, given = new(), new()
    answer = interpreted(expected)
    assert run(given) == answer  # type: ignore[operator]
    for array, other in zip((*expected[1:4], *expected[0][:2]), (*given[1:4], *given[0][:2]), strict=True):
        np.testing.assert_array_equal(array, other)
    assert given.table[2, 0] == 40 and given.inner.words[0] == 3


def interpreted(outer: Outer) -> float:
    """The same by hand, as parts that are compiled cannot be called."""
    total = 0.0
    for i in range(5):
        for grows in (i == 2, True):
            row, inner = outer.table[i], outer.inner
            row[-1] += inner.words[i] + i
            inner.flags[i, -1] = row[0] > 3
            inner.words[4 - i] = 3 + 2 * outer.stages
            outer.cube[i, 1, 2] -= outer.fixed[-3]
            if grows:
                outer.cube[i, 0, 0] = 5
            total += int(inner.flags[i, 1]) + 3
        total += (int(outer.inner.words[i]) << 1) * (outer.inner.words[-2] / 4)
    outer.table[2, 0] = 40
    outer.inner.words[0] = 3
    return total + outer.inner.number


@inlined
def _unusable(outer: Outer) -> int:
    return outer.no_such_field  # type: ignore[attr-defined,no-any-return]


@inlined
def _either(outer: Outer, several: bool) -> int:
    if outer.stages > 1 or several or outer.table.ndim == 3:
        return _unusable(outer)
    return 5


@merged
def _stages(outer: Outer) -> int:
    if outer.stages != 1:
        return 0
    return 2


@kernel
def pruned(outer: Outer) -> int:
    alone = one(pointed(outer))
    if _stages(alone) == 0:
        return _unusable(alone)
    return _either(alone, False) + _stages(alone)


def test_what_cannot_run_is_not_compiled() -> None:
    assert pruned(new()) == 7


@pytest.mark.skipif(not COMPILED, reason="nothing is compiled")
def test_what_may_run_is_compiled() -> None:
    @kernel
    def whole(outer: Outer) -> int:
        return _either(pointed(outer), False)

    with pytest.raises(Exception, match="no_such_field"):
        whole(new())

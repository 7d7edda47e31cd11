"""The radix tree in arrays against that of SGLang's twin, under random uses."""

from __future__ import annotations

from itertools import accumulate

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.sglang.tree import Node, Tree

from fastsim.kernels._jit import kernel
from fastsim.kernels.memory import radix
from fastsim.kernels.memory.radix_tree import (
    EVICTABLE,
    LENGTH,
    LOCKS,
    NUM_NODE_COLUMNS,
    NUM_RADIX_COUNTS,
    PARENT,
    ROOT,
    USED,
    Identities,
    Radix,
)

MATCH, INSERT, LOCK, UNLOCK, EVICT = range(5)


@kernel
def use(tree: Radix, known: Identities, what: int, request: int, number: int) -> tuple[int, int]:
    """One use of the tree: Python cannot call its parts."""
    if what == MATCH:
        return radix.match(tree, known, request, number)
    if what == INSERT:
        return radix.insert(tree, known, request, number)
    if what == LOCK:
        radix.lock(tree, number)
    elif what == UNLOCK:
        radix.unlock(tree, number)
    else:
        return radix.evict(tree, number), 0
    return 0, 0


@kernel
def clear(tree: Radix) -> None:
    radix.clear(tree)


def empty(num_nodes: int) -> Radix:
    tree = Radix(
        nodes=np.zeros((num_nodes, NUM_NODE_COLUMNS), np.int32),
        identity=np.zeros(num_nodes, np.int64),
        stamp=np.zeros(num_nodes, np.int64),
        buckets=np.zeros(8, np.int32),  # few, so that identities collide
        heap=np.zeros(num_nodes, np.int64),
        counts=np.zeros(NUM_RADIX_COUNTS, np.int64),
    )
    clear(tree)
    return tree


@st.composite
def known(draw: st.DrawFn) -> tuple[Identities, list[int]]:
    """The sequences of some requests, and their pages."""
    span = draw(st.sampled_from([1, 1, 2, 5]))
    prefixes: dict[tuple[int, ...], int] = {}
    lists: list[list[int]] = []
    for _ in range(draw(st.integers(2, 8))):
        blocks = draw(st.lists(st.integers(0, 1), max_size=7))
        lists.append([prefixes.setdefault(tuple(blocks[: i + 1]), len(prefixes)) for i in range(len(blocks))])
    pages = [len(each) * span + draw(st.integers(0, 9)) for each in lists]
    private = [-1 - before for before in accumulate(pages, initial=0)][:-1]
    starts = np.array([0, *accumulate(map(len, lists))], np.int64)
    hashes = np.array([value for each in lists for value in each], np.int64)
    return Identities(starts, hashes, span, np.array(private, np.int64)), pages


def page(identities: Identities, request: int, place: int) -> int:
    """The identity of a page, as the kernel has it."""
    start, end = identities.hash_start[request : request + 2]
    block, within = divmod(place, identities.span)
    if block < end - start:
        return int(identities.hashes[start + block] * identities.span + within)
    return int(identities.private[request] - place)


def shape_of(tree: Radix) -> list[tuple[int, int, int]]:
    """Where each node begins and ends on its path, and its locks."""
    shape = []
    for node in range(1, tree.counts[USED]):
        if tree.nodes[node, PARENT] >= 0:
            above, begin = int(tree.nodes[node, PARENT]), 0
            while above != ROOT:
                begin += int(tree.nodes[above, LENGTH])
                above = int(tree.nodes[above, PARENT])
            shape.append((begin, begin + int(tree.nodes[node, LENGTH]), int(tree.nodes[node, LOCKS])))
    return sorted(shape)


def shape_of_twin(tree: Tree) -> list[tuple[int, int, int]]:
    shape = []
    for node in tree.nodes():
        begin = sum(len(each.pages) for each in tree.path(node)) - len(node.pages)
        shape.append((begin, begin + len(node.pages), node.num_locks))
    return sorted(shape)


@settings(deadline=None, max_examples=200)
@given(known(), st.data())
def test_every_use_equals_the_twin(requests: tuple[Identities, list[int]], data: st.DataObject) -> None:
    identities, pages = requests
    tree, twin = empty(200), Tree(1)
    held: list[tuple[int, Node]] = []
    for _ in range(data.draw(st.integers(1, 40))):
        what = data.draw(st.sampled_from([MATCH, INSERT, INSERT, LOCK, UNLOCK, EVICT]))
        request = data.draw(st.integers(0, len(pages) - 1))
        number = data.draw(st.integers(0, pages[request]))
        keys = [page(identities, request, place) for place in range(number)]
        if what == EVICT:
            assert use(tree, identities, EVICT, 0, number)[0] == twin.evict(number)
        elif what == UNLOCK:
            if held:
                ours, theirs = held.pop(data.draw(st.integers(0, len(held) - 1)))
                use(tree, identities, UNLOCK, 0, ours)
                twin.unlock(theirs)
        else:
            had, node = use(tree, identities, min(what, INSERT), request, number)
            wanted, theirs = twin.insert(keys) if what else twin.match(keys)
            assert had == wanted
            if what == LOCK:
                use(tree, identities, LOCK, 0, node)
                twin.lock(theirs)
                held.append((node, theirs))
        assert shape_of(tree) == shape_of_twin(twin)
        assert tree.counts[EVICTABLE] == twin.num_evictable

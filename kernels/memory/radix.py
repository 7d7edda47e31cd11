"""A radix tree of the prefixes whose KV is kept, in arrays: SGLang's RadixCache, where a block pool is vLLM's.

A node stands for a run of pages that follow those of its parent. It has no tokens of its own: it names a request whose
sequence has them, and the pages of that sequence. Two sequences have the same identity at a page exactly when all their
tokens up to its end are equal, so what two of them share is found by bisection, and a node by the identity of its first
page alone.

Each use of the tree has two stamps: one for the nodes that it passes, and a later one for the leaf that it adds. Nodes
with the same stamp lie on one path, so they never wait for eviction together. Leaves that no request uses are in a
heap by the stamp that they had when they came into it; stamps only grow, so a leaf that has been used since goes back.
"""

from .._jit import apart
from ..iterations.heap import pop, push
from ..state import NONE
from .radix_tree import (
    CHILDREN,
    EVICTABLE,
    FIRST,
    ID_BITS,
    ID_MASK,
    IN_HEAP,
    LENGTH,
    LOCKS,
    NEXT_ALIKE,
    NUM_NODE_COLUMNS,
    OWNER,
    PARENT,
    QUEUED,
    ROOT,
    UNUSED,
    USED,
    USES,
    Identities,
    Radix,
)


@apart
def clear(tree: Radix) -> None:
    """Forget all prefixes."""
    for column in range(NUM_NODE_COLUMNS):
        tree.nodes[ROOT, column] = 0
    tree.nodes[ROOT, PARENT] = NONE
    for bucket in range(tree.buckets.size):
        tree.buckets[bucket] = ROOT
    tree.counts[UNUSED] = NONE
    tree.counts[USED] = ROOT + 1
    tree.counts[EVICTABLE] = tree.counts[USES] = tree.counts[IN_HEAP] = 0


@apart
def page_identity(known: Identities, request: int, page: int) -> int:
    """The identity of a request's tokens up to the end of a page."""
    start, block = known.hash_start[request], page // known.span
    if block < known.hash_start[request + 1] - start:
        return int(known.hashes[start + block] * known.span + page % known.span)
    return int(known.private[request] - page)


@apart
def common_pages(known: Identities, one: int, other: int, first: int, length: int) -> int:
    """How many pages from ``first`` on, of ``length``, two requests have in common that share all before."""
    if one == other:
        return length
    low, high = 0, length  # so many are common, and so many at most
    while low < high:
        middle = (low + high + 1) // 2
        page = first + middle - 1
        if page_identity(known, one, page) == page_identity(known, other, page):
            low = middle
        else:
            high = middle - 1
    return low


@apart
def _find(tree: Radix, identity: int) -> int:
    """The node whose first page has an identity, ROOT when there is none."""
    node = tree.buckets[identity & (tree.buckets.size - 1)]
    while node != ROOT and tree.identity[node] != identity:
        node = tree.nodes[node, NEXT_ALIKE]
    return int(node)


@apart
def _index(tree: Radix, node: int, identity: int) -> None:
    """Let a node be found by the identity of its first page."""
    bucket = identity & (tree.buckets.size - 1)
    tree.identity[node] = identity
    tree.nodes[node, NEXT_ALIKE] = tree.buckets[bucket]
    tree.buckets[bucket] = node


@apart
def _drop_from_index(tree: Radix, node: int) -> None:
    bucket = tree.identity[node] & (tree.buckets.size - 1)
    if tree.buckets[bucket] == node:
        tree.buckets[bucket] = tree.nodes[node, NEXT_ALIKE]
        return
    before = tree.buckets[bucket]
    while tree.nodes[before, NEXT_ALIKE] != node:
        before = tree.nodes[before, NEXT_ALIKE]
    tree.nodes[before, NEXT_ALIKE] = tree.nodes[node, NEXT_ALIKE]


@apart
def _new_node(tree: Radix, parent: int, owner: int, first: int, length: int, stamp: int) -> int:
    node = int(tree.counts[UNUSED])
    if node == NONE:
        node = int(tree.counts[USED])
        tree.counts[USED] += 1
    else:
        tree.counts[UNUSED] = tree.nodes[node, NEXT_ALIKE]
    row = tree.nodes[node]
    row[PARENT], row[OWNER], row[FIRST], row[LENGTH] = parent, owner, first, length
    row[LOCKS] = row[CHILDREN] = row[QUEUED] = 0
    tree.stamp[node] = stamp
    return node


@apart
def _offer(tree: Radix, node: int) -> None:
    """Put a node in the heap if it may be evicted and is not there yet."""
    row = tree.nodes[node]
    if node != ROOT and row[LOCKS] == 0 and row[CHILDREN] == 0 and row[QUEUED] == 0:
        push(tree.heap, tree.counts[IN_HEAP], (tree.stamp[node] << ID_BITS) | node)
        tree.counts[IN_HEAP] += 1
        row[QUEUED] = 1


@apart
def _split(tree: Radix, known: Identities, lower: int, length: int) -> int:
    """Give the first pages of a node to a new node above it; the old one stays what requests have locked."""
    row = tree.nodes[lower]
    upper = _new_node(tree, row[PARENT], row[OWNER], row[FIRST], length, tree.stamp[lower])
    identity = tree.identity[lower]
    _drop_from_index(tree, lower)
    _index(tree, upper, identity)
    tree.nodes[upper, LOCKS], tree.nodes[upper, CHILDREN] = row[LOCKS], 1
    row[PARENT] = upper
    row[FIRST] += length
    row[LENGTH] -= length
    _index(tree, lower, page_identity(known, row[OWNER], row[FIRST]))
    return upper


@apart
def match(tree: Radix, known: Identities, request: int, pages: int) -> tuple[int, int]:
    """How many of a request's first pages the tree has, and the node in which they end. It may split one node."""
    tree.counts[USES] += 1
    stamp, node, place = 2 * tree.counts[USES], ROOT, 0
    while place < pages:
        child = _find(tree, page_identity(known, request, place))
        if child == ROOT:
            break
        tree.stamp[child] = stamp
        row = tree.nodes[child]
        length = min(int(row[LENGTH]), pages - place)
        common = common_pages(known, request, row[OWNER], place, length)
        place += common
        if common < row[LENGTH]:
            return place, _split(tree, known, child, common)
        node = child
    return place, node


@apart
def count_matching(tree: Radix, known: Identities, request: int, pages: int) -> int:
    """How many of a request's first pages the tree has, as ``match`` finds them. Nothing changes by that."""
    place = 0
    while place < pages:
        child = _find(tree, page_identity(known, request, place))
        if child == ROOT:
            break
        row = tree.nodes[child]
        common = common_pages(known, request, row[OWNER], place, min(int(row[LENGTH]), pages - place))
        place += common
        if common < row[LENGTH]:
            break
    return place


@apart
def insert(tree: Radix, known: Identities, request: int, pages: int) -> tuple[int, int]:
    """Add a request's first pages. How many of them the tree had before, and the node in which they end."""
    had, node = match(tree, known, request, pages)
    if had == pages:
        return had, node
    leaf = _new_node(tree, node, request, had, pages - had, 2 * tree.counts[USES] + 1)
    _index(tree, leaf, page_identity(known, request, had))
    tree.nodes[node, CHILDREN] += 1
    tree.counts[EVICTABLE] += pages - had
    _offer(tree, leaf)
    return had, leaf


@apart
def lock(tree: Radix, node: int) -> None:
    """Keep a node and those above it from eviction."""
    while node != ROOT:
        row = tree.nodes[node]
        if row[LOCKS] == 0:
            tree.counts[EVICTABLE] -= row[LENGTH]
        row[LOCKS] += 1
        node = int(row[PARENT])


@apart
def unlock(tree: Radix, node: int) -> None:
    """Take back a lock."""
    while node != ROOT:
        row = tree.nodes[node]
        row[LOCKS] -= 1
        if row[LOCKS] == 0:
            tree.counts[EVICTABLE] += row[LENGTH]
            _offer(tree, node)
        node = int(row[PARENT])


@apart
def evict(tree: Radix, pages: int) -> int:
    """Drop whole leaves, least recently used first, until at least so many pages are gone; how many are."""
    gone = 0
    while gone < pages and tree.counts[IN_HEAP] > 0:
        key = tree.heap[0]
        pop(tree.heap, tree.counts[IN_HEAP])
        tree.counts[IN_HEAP] -= 1
        node = int(key & ID_MASK)
        row = tree.nodes[node]
        row[QUEUED] = 0
        if key >> ID_BITS < tree.stamp[node]:
            _offer(tree, node)
        elif row[LOCKS] == 0 and row[CHILDREN] == 0:
            gone += int(row[LENGTH])
            _drop_from_index(tree, node)
            parent = int(row[PARENT])
            row[PARENT], row[NEXT_ALIKE] = NONE, tree.counts[UNUSED]
            tree.counts[UNUSED] = node
            tree.nodes[parent, CHILDREN] -= 1
            _offer(tree, parent)
    tree.counts[EVICTABLE] -= gone
    return gone

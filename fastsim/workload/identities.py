"""The hashes of blocks of requests that share texts, which are numbers of prefixes and so collide nowhere.

The tokens of different texts differ. So the texts that requests begin with form a tree, and a prefix is known by the
node of the tree in which it ends, and by its number of blocks. Each node numbers the blocks that end in it.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastsim.files.memory import check_memory
from fastsim.workload.blocks import BlockHashes
from fastsim.workload.prefixes import NONE, Texts

Integers = NDArray[np.int64]


class Pieces(NamedTuple):
    """A text of each of n tasks: the blocks that end in it, and the number of the first of them."""

    begin: Integers  # int64[n], the place of the first block
    end: Integers  # int64[n], the place after the last
    node: Integers  # int64[n], of the tree


class Turns(NamedTuple):
    """The requests of sessions, of which each belongs to a text: what has been said since the session began or forgot.

    ``text`` counts texts from 0 in order of the requests.
    """

    task: Integers  # int64[n]
    text: Integers  # int64[n]
    until: Integers  # int64[n], tokens of prompt and outputs
    shared: Integers  # int64[n], tokens of these, from the first, that another request may have too


def hashes(texts: Texts, context: Integers, turns: Turns, block_size: int) -> BlockHashes:
    """The hashes of requests: of all full blocks but those that are private to a request.

    ``context``: tokens after the texts that are common to a task, int64[num_tasks].
    """
    levels, start, nodes = _shared(texts, context, block_size)
    firsts = np.flatnonzero(np.diff(turns.text, prepend=-1))
    until = np.maximum.reduceat(turns.until, firsts)
    owner = turns.task[firsts]
    begin = start[owner] // block_size
    owned = [*(part[0] for part in nodes), until // block_size - begin]
    tasks = [*(part[1] for part in nodes), owner]
    level = np.repeat(np.arange(len(owned)), [len(part) for part in owned])
    order = np.lexsort((np.arange(len(level)), level, np.concatenate(tasks)))
    counts = np.concatenate(owned)[order]
    value = np.empty(len(order), np.int64)  # by node: the hash of its first block
    value[order] = np.cumsum(counts) - counts
    listed = turns.shared // block_size
    check_memory(int(listed.sum()), f"block_hashes: {int(listed.sum()):,} hashes", 40)
    last = Pieces(begin[turns.text], listed, turns.text + int(sum(len(part[0]) for part in nodes)))
    pieces = [Pieces(*(column[turns.task] for column in piece)) for piece in levels] + [last]
    begins = np.stack([piece.begin for piece in pieces], axis=1)
    ends = np.minimum(np.stack([piece.end for piece in pieces], axis=1), listed[:, None])
    counts = np.maximum(ends - begins, 0)
    firsts = np.stack([value[piece.node] for piece in pieces], axis=1)
    offsets = np.zeros(len(listed) + 1, np.int64)
    np.cumsum(counts.sum(axis=1), out=offsets[1:])
    flat = counts.ravel()
    values = np.repeat(firsts.ravel() - (np.cumsum(flat) - flat), flat)
    values += np.arange(len(values))
    return BlockHashes(values, offsets, block_size)


def _shared(
    texts: Texts, context: Integers, block_size: int
) -> tuple[list[Pieces], Integers, list[tuple[Integers, Integers]]]:
    """The nodes of the texts that tasks share.

    Return the pieces of each level; the tokens before what follows, int64[num_tasks]; and by level the blocks that end
    in each new node, and the first task that has it.
    """
    number = len(context)
    parent, start = np.full(number, NONE), np.zeros(number, np.int64)
    columns = [*zip(texts.text.T, texts.tokens.T, strict=True)]
    columns.append((np.where(context > 0, texts.text.max(initial=NONE) + 1 + np.arange(number), NONE), context))
    many = int(texts.text.max(initial=0)) + number + 2
    levels: list[Pieces] = []
    nodes: list[tuple[Integers, Integers]] = []
    known = 0
    for text, tokens in columns:
        begin, end = start // block_size, (start + tokens) // block_size
        has = np.flatnonzero(text != NONE)
        pairs = (parent[has] + 1) * many + text[has]
        _, first, inverse = np.unique(pairs, return_index=True, return_inverse=True)
        parent = parent.copy()
        parent[has] = inverse + known
        levels.append(Pieces(begin, end, np.maximum(parent, 0)))
        nodes.append(((end - begin)[has[first]], has[first]))
        known += len(first)
        start = start + tokens
    return levels, start, nodes

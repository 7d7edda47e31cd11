"""Hashes of blocks that recur as those of a trace do: as many of a request's first blocks, after as many requests."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastsim.workload.blocks import BlockHashes
from fastsim.workload.following import NONE
from fastsim.workload.history import History
from fastsim.workload.reuse import runs, used_since

ALIKE = 64  # requests of a trace with a similar number of blocks, among which a pattern is taken
MOSTLY = 0.5  # a shared prefix that is longer than this share of a request grows with it
FIXED = 0.02  # the share of requests with as many shared blocks from which on these do not grow

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Recurrence:
    """What the requests of a trace have in common with earlier ones, one value per request of the trace.

    Parameters
    ----------
    block_size : int
        Tokens of a block.
    of_prompts : bool
        Whether only blocks of prompts have hashes.
    full : int64[n]
        The full blocks of each prompt, or of prompt and outputs.
    listed : int64[n]
        How many of these have a hash.
    depth : int64[n]
        How many of these an earlier request had too.
    since : int64[n]
        The blocks that were used after the last of them; -1 where there is none.
    first : int64[n]
        The place of the first of them that was last used by the same request as the last of them.
    left : int64[n]
        The blocks of that earlier request that come after them.
    fixed : bool[n]
        Whether many requests share as many blocks, as they do of a system prompt.
    continues : bool[n]
        Whether that earlier request is the turn before in the same session.
    goes_on : bool[n]
        Whether a turn comes after it.
    follows : float
        The share of later turns that continue the turn before.
    """

    block_size: int
    of_prompts: bool
    full: Integers
    listed: Integers
    depth: Integers
    since: Integers
    first: Integers
    left: Integers
    fixed: NDArray[np.bool_]
    continues: NDArray[np.bool_]
    goes_on: NDArray[np.bool_]
    follows: float


def fit(hashes: BlockHashes, prompts: Integers, outputs: Integers, before: Integers) -> Recurrence:
    """Return how hashes recur in a trace; ``before``: int64[n], the turn before each request, or NONE."""
    listed, size = hashes.counts, hashes.block_size
    of_prompts = bool((listed <= prompts // size).all())
    source, target, first, length = runs(hashes)
    deepest = np.flatnonzero(np.diff(target, append=-1) != 0)
    at, earlier = target[deepest], source[deepest]
    depth, begin, left = np.zeros((3, len(hashes)), np.int64)
    since, last = np.full((2, len(hashes)), NONE)
    begin[at] = first[deepest]
    depth[at] = begin[at] + length[deepest]
    since[at] = used_since(source, target, length, (prompts + outputs) // size)[deepest]
    left[at] = listed[earlier] - depth[at]
    last[at] = earlier
    continues = (before != NONE) & (last == before)
    _, which, equal = np.unique(depth, return_inverse=True, return_counts=True)
    fixed = equal[which] >= max(3, FIXED * len(hashes))
    follows = float(continues.sum() / max(1, np.count_nonzero(before != NONE)))
    full = (prompts if of_prompts else prompts + outputs) // size
    return Recurrence(
        size, of_prompts, full, listed, depth, since, begin, left, fixed, continues, _go_on(before), follows
    )


def draw(
    like: Recurrence, prompts: Integers, outputs: Integers, before: Integers, rng: np.random.Generator
) -> BlockHashes:
    """Draw hashes for requests with these lengths, int64[n], and turns before them, int64[n], or NONE.

    Each request takes the pattern of a request of the trace that has about as many blocks, so that each is taken about
    equally often.
    """
    number = len(prompts)
    full = (prompts if like.of_prompts else prompts + outputs) // like.block_size
    continuing = (before != NONE) & (rng.random(number) < like.follows)
    goes_on = _go_on(before)
    patterns = _patterns(like, full, continuing, goes_on, rng)
    swaps = [Swaps(full, ~continuing & (goes_on == on)) for on in (False, True)]
    history = History((prompts + outputs) // like.block_size)
    for request in range(number):
        if not continuing[request]:
            swaps[int(goes_on[request])].make_possible(request, patterns, like.since, history.total)
        pattern = int(patterns[request])
        num_blocks, of = int(full[request]), int(like.full[pattern])
        listed, depth, left = (int(column[pattern]) for column in (like.listed, like.depth, like.left))
        source = NONE
        share = (listed - depth) / (of - depth) if of > depth else 1.0  # of the blocks that are new, those with a hash
        if continuing[request]:
            source = int(before[request])
            depth = round(int(history.length[source]) * depth / (depth + left))
        elif depth > MOSTLY * listed and not like.fixed[pattern]:
            depth = round(depth * num_blocks / of)
        depth = min(depth, num_blocks)
        listed = depth + round(share * (num_blocks - depth))
        if depth and request and source == NONE:
            since = int(like.since[pattern])
            if since >= history.total:
                since = int(rng.integers(history.total + 1))
            source = history.find(request, since, depth, int(like.first[pattern]), left)
        history.add(request, listed, source, depth)
    return BlockHashes(np.concatenate(history.lists), offsets(history.length), like.block_size)


def _go_on(before: Integers) -> NDArray[np.bool_]:
    """Whether a turn comes after each request, bool[n]."""
    goes_on = np.zeros(len(before), bool)
    goes_on[before[before != NONE]] = True
    return goes_on


class Swaps:
    """Exchanges patterns of requests with about as many blocks, ``full``: int64[n], where one is not yet possible.

    ``among``: bool[n], the requests that may exchange them.
    """

    def __init__(self, full: Integers, among: NDArray[np.bool_]) -> None:
        rows = np.flatnonzero(among)
        self._order = rows[np.argsort(full[rows], kind="stable")]
        self._place = np.zeros(len(full), np.int64)
        self._place[self._order] = np.arange(len(rows))

    def make_possible(self, request: int, patterns: Integers, since: Integers, total: int) -> None:
        """Give a request the pattern of a later one, if its own needs more blocks than the ``total`` so far."""
        if since[patterns[request]] < total:
            return
        place = int(self._place[request])
        near = self._order[max(0, place - ALIKE) : place + ALIKE + 1]
        near = near[(near > request) & (since[patterns[near]] < total)]
        if len(near):
            other = near[np.abs(self._place[near] - place).argmin()]
            patterns[[request, other]] = patterns[[other, request]]


def _patterns(
    like: Recurrence,
    full: Integers,
    continuing: NDArray[np.bool_],
    goes_on: NDArray[np.bool_],
    rng: np.random.Generator,
) -> Integers:
    """A request of the trace for each request, int64[n]: one that continues, and goes on, as that does."""
    patterns = np.empty(len(full), np.int64)
    for which in (True, False):
        for on in (True, False):
            rows = (continuing == which) & (goes_on == on)
            among = (like.continues == which) & (like.goes_on == on)
            patterns[rows] = _alike(like.full, among if among.any() else like.continues == which, full[rows], rng)
    return patterns


def _alike(known: Integers, among: NDArray[np.bool_], full: Integers, rng: np.random.Generator) -> Integers:
    """For each number of blocks, int64[m], a request ``among`` those of a trace with about as many, int64[m].

    Of a group of requests that are alike in this, the earlier ones get the earlier ones.
    """
    pool = np.flatnonzero(among)
    if not len(pool) or not len(full):
        return np.zeros(len(full), np.int64)
    pool = pool[np.lexsort((rng.random(len(pool)), known[pool]))]
    order = np.lexsort((rng.random(len(full)), full))
    places = ((np.arange(len(full)) + rng.random(len(full))) * (len(pool) / len(full))).astype(np.int64)
    group = places // ALIKE
    chosen = np.empty(len(full), np.int64)
    chosen[order[np.lexsort((order, group))]] = pool[places[np.lexsort((pool[places], group))]]
    return chosen


def offsets(counts: Integers) -> Integers:
    """Where lists of so many values begin, and where the last one ends."""
    return np.concatenate([[0], np.cumsum(counts)])

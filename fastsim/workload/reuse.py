"""What a prefix cache could reuse: the share of prompt tokens that it hits, for every size of the cache at once."""

from dataclasses import dataclass
from functools import cached_property
from math import inf
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastsim.workload.blocks import BlockHashes
from fastsim.workload.ranks import ascending

SIZES = (10**3, 10**4, 10**5, 10**6, 10**7)  # tokens of the caches that tables show
PER_DECADE = 10  # sizes of the curve that JSON holds, log-spaced

Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class HitCurve:
    """The prompt tokens that a prefix cache hits, by its size.

    The requests are looked up in order, each as if the one before it had finished. A request hits the longest prefix of
    its prompt's full blocks that the cache holds; then all its full blocks, of prompt and outputs, are in the cache.
    The block that was used longest ago is evicted first and, of blocks that the same request used last, the one
    furthest from the beginning. So a block is never in the cache without the blocks before it. Blocks without a hash
    are private to their request, but take up space like any other.

    Parameters
    ----------
    hits : int64[n]
        Hits of blocks that need a cache of at least 1 block, 2 blocks, and so on up to n blocks; cumulated.
    block_size : int
        Tokens of a block.
    num_prompt_tokens : int
        The prompt tokens of all requests.
    """

    hits: Integers
    block_size: int
    num_prompt_tokens: int

    def share(self, num_tokens: float = inf) -> float:
        """Return the share of prompt tokens that a cache of ``num_tokens`` hits; by default of an unbounded cache."""
        blocks = int(min(num_tokens / self.block_size, len(self.hits)))
        return float(self.hits[blocks - 1]) * self.block_size / self.num_prompt_tokens if blocks else 0.0

    @cached_property
    def sizes(self) -> list[int]:
        """Sizes of a cache, tokens, from 1000 up to the one that hits as much as an unbounded cache."""
        enough = (int(np.searchsorted(self.hits, self.hits[-1])) + 1) * self.block_size if len(self.hits) else 0
        decades = np.arange(3 * PER_DECADE, PER_DECADE * np.log10(max(enough, 1000)) + 1e-9) / PER_DECADE
        return [*np.rint(10**decades).astype(int).tolist(), *([enough] if enough > 1000 else [])]

    def as_dict(self) -> dict[str, Any]:
        """The curve in figures that JSON can hold."""
        points = [{"cache_tokens": size, "share": self.share(size)} for size in self.sizes]
        return {"unbounded": self.share(), "by_cache_size": points}


def in_turns(
    times: NDArray[np.float64], hashes: BlockHashes, prompts: Integers, outputs: Integers
) -> tuple[BlockHashes, Integers, Integers]:
    """Return the hashes and lengths in order of ``times``, float64[num_requests]: sessions take turns."""
    if not (times[1:] < times[:-1]).any():
        return hashes, prompts, outputs
    order = np.argsort(times, kind="stable")
    return hashes.take(order), prompts[order], outputs[order]


def hit_curve(hashes: BlockHashes, num_prompt_tokens: Integers, num_output_tokens: Integers) -> HitCurve:
    """Return what a prefix cache hits of requests with these hashes and lengths, which are int64[num_requests] each."""
    size = hashes.block_size
    blocks = (num_prompt_tokens + num_output_tokens) // size
    source, target, first, length = runs(hashes)
    looked_up = np.minimum(length, num_prompt_tokens[target] // size - first)  # the rest lies in the outputs
    ranks = used_since(source, target, length, blocks)
    kept = looked_up > 0
    ranks, looked_up = ranks[kept], looked_up[kept]
    # The blocks of a run lie next to each other in the order of eviction, so each needs one block more than the last.
    most = int((ranks + looked_up).max(initial=0))
    rises = np.bincount(ranks, minlength=most + 1) - np.bincount(ranks + looked_up, minlength=most + 1)
    return HitCurve(np.cumsum(np.cumsum(rises))[:most], size, int(num_prompt_tokens.sum()))


def runs(hashes: BlockHashes) -> tuple[Integers, Integers, Integers, Integers]:
    """Return the runs of blocks that requests have in common with earlier ones, in four arrays, int64[num_runs] each.

    A run is a stretch of blocks of a request that were last used by the same earlier request. The arrays are that
    earlier request, the request itself, the place of the run's first block in it, and the number of blocks.
    """
    hashes = hashes.chained()
    request = np.repeat(np.arange(len(hashes)), hashes.counts)
    order = ascending(hashes.values)
    before = np.full(len(order), -1)
    same = hashes.values[order[1:]] == hashes.values[order[:-1]]
    before[order[1:][same]] = request[order[:-1][same]]
    begins = np.ones(len(order), bool)
    begins[1:] = (before[1:] != before[:-1]) | (request[1:] != request[:-1])
    at = np.flatnonzero(begins)
    length = np.diff(np.append(at, len(order)))
    used = before[at] >= 0
    at, length = at[used], length[used]
    return before[at], request[at], at - hashes.offsets[request[at]], length


def used_since(source: Integers, target: Integers, length: Integers, blocks: Integers) -> Integers:
    """Return the blocks used later than the first block of each run when its request is looked up, int64[num_runs].

    ``blocks``: int64[num_requests], the full blocks of each request; the other arguments are those of ``runs``. Of the
    blocks of ``source``, those that it was still the last to use begin with this one. So later used are the ``blocks``
    of all requests between source and target, less those that a request before target took over from one after source.
    """
    used = np.concatenate([[0], np.cumsum(blocks)])
    between: Integers = used[target] - used[source + 1]
    return between - _taken(source, target, length)


def _taken(source: Integers, target: Integers, length: Integers) -> Integers:
    """The blocks of all runs with a later source and an earlier target, for each run, int64[num_runs].

    Targets are compared bit by bit, as in a merge sort: of two runs whose targets agree in all higher bits, the run
    whose bit is 0 counts for the other, if its source is later.
    """
    taken = np.zeros(len(source), np.int64)
    latest_first = np.lexsort((-target, -source))  # runs of one source do not count for each other
    for bit in range(int(target.max(initial=0)).bit_length()):
        order = latest_first[ascending(target[latest_first] >> (bit + 1))]
        half = target[order] >> bit
        counted = np.where(half & 1 == 0, length[order], 0)
        before = np.cumsum(counted) - counted
        begins = np.flatnonzero(np.diff(half >> 1, prepend=-1))
        within = before - np.repeat(before[begins], np.diff(begins, append=len(order)))
        taken[order] += np.where(half & 1 == 1, within, 0)
    return taken

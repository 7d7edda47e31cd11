"""The hashes of the blocks of tokens that requests consist of, which tell what a prefix cache could reuse."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from fastsim.errors import WorkloadError

BLOCK_SIZE = 16  # tokens, where a file does not say it
MAX_BLOCK_SIZE = 2**20


@dataclass(frozen=True, eq=False)
class BlockHashes:
    """A list of hashes per request, one for each full block of its prompt and outputs.

    Two requests have the same value at place k exactly when their first k + 1 blocks are equal. What a list leaves out
    is private to the request.

    Parameters
    ----------
    values : int64[num_hashes]
        The lists, one after the other.
    offsets : int64[num_requests + 1]
        Where each list begins in ``values``, and where the last one ends.
    block_size : int
        Tokens of a block. By default 16.
    """

    values: NDArray[np.int64]
    offsets: NDArray[np.int64]
    block_size: int = BLOCK_SIZE

    @classmethod
    def of(cls, lists: Sequence[Sequence[int]], block_size: int = BLOCK_SIZE) -> Self:
        """Make the hashes of requests from a list for each of them."""
        flat = [value for each in lists for value in each]
        return cls(np.array(flat, np.int64), _offsets([len(each) for each in lists]), block_size)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, request: int) -> NDArray[np.int64]:
        return self.values[self.offsets[request] : self.offsets[request + 1]]

    @property
    def counts(self) -> NDArray[np.int64]:
        """The number of hashes of each request, int64[num_requests]."""
        return np.diff(self.offsets)

    def take(self, rows: NDArray[np.int64]) -> Self:
        """The hashes of some requests, in this order."""
        return type(self)(*self._cut(self.offsets[rows], self.counts[rows]), self.block_size)

    def at_most(self, counts: NDArray[np.int64]) -> Self:
        """At most ``counts`` hashes of each request, int64[num_requests]."""
        if (self.counts <= counts).all():
            return self
        return type(self)(*self._cut(self.offsets[:-1], np.minimum(self.counts, counts)), self.block_size)

    def chained(self) -> Self:
        """Hashes of prefixes, where these here are those of single blocks: equal only if all before are equal too."""
        different, blocks = np.unique(self.values, return_inverse=True)
        chained = np.empty_like(self.values)
        before = np.zeros(len(self), np.int64)  # by request: the number of the prefix that it has so far
        number = 0
        requests = np.arange(len(self))
        for place in range(int(self.counts.max(initial=0))):
            requests = requests[self.counts[requests] > place]
            at = self.offsets[requests] + place
            pairs = before[requests] * len(different) + blocks[at]
            _, same = np.unique(pairs, return_inverse=True)
            chained[at] = before[requests] = same + number
            number += int(same.max()) + 1
        return type(self)(chained, self.offsets, self.block_size)

    def describe(self) -> dict[str, int]:
        """The size of a block in tokens, the number of hashes, and how many of these differ."""
        different = len(np.unique(self.values))
        return {"block_size": self.block_size, "num_hashes": len(self.values), "num_different": different}

    def _cut(self, begins: NDArray[np.int64], counts: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The values of lists that begin at ``begins`` and have ``counts`` values, and their new offsets."""
        offsets = _offsets(counts)
        places = np.arange(offsets[-1]) + np.repeat(begins - offsets[:-1], counts)
        return self.values[places], offsets


def check_hashes(hashes: BlockHashes, num_tokens: NDArray[np.int64], place: str) -> BlockHashes:
    """Return ``hashes`` read-only. Raises WorkloadError unless every request has at most a hash per full block."""
    size, counts = hashes.block_size, hashes.counts
    if not 1 <= size <= MAX_BLOCK_SIZE:
        raise WorkloadError(f"{place}: block_size: {size} is not a number of tokens from 1 to {MAX_BLOCK_SIZE:,}")
    if len(hashes) != len(num_tokens):
        raise WorkloadError(f"{place}: block_hashes has {len(hashes):,} lists for {len(num_tokens):,} requests")
    bad = counts > num_tokens // size
    if bad.any():
        row = int(bad.argmax())
        raise WorkloadError(
            f"{place}: data row {row + 1}: block_hashes: {counts[row]:,} hashes are more than the full blocks of "
            f"{size} tokens in {num_tokens[row]:,} tokens (at most {num_tokens[row] // size:,})"
        )
    arrays = [array.view() for array in (hashes.values, hashes.offsets)]
    for array in arrays:
        array.flags.writeable = False
    return BlockHashes(arrays[0], arrays[1], size)


def _offsets(counts: Any) -> NDArray[np.int64]:
    offsets = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=offsets[1:])
    return offsets

"""The blocks of requests that are drawn one by one, and which request was the last to use each."""

import numpy as np
from numpy.typing import NDArray

from fastsim.workload.following import NONE

NEAR = 8  # a request is first looked for within this part of the requests since
TRIES = 4  # and then three more times, each time in a stretch that is four times as wide

Integers = NDArray[np.int64]


class History:
    """The blocks of all requests so far, and which request used each of them last.

    ``num_blocks``: int64[n], the full blocks of each request, with hash or without.
    """

    def __init__(self, num_blocks: Integers) -> None:
        number = len(num_blocks)
        self.lists: list[Integers] = []
        self.length = np.zeros(number, np.int64)  # blocks with a hash
        self.start = np.zeros(number, np.int64)  # the blocks from here on were last used by the request itself
        self.total = 0  # blocks in use
        self._num_blocks = num_blocks
        self._user = np.zeros(int(num_blocks.sum()), np.int64)  # by hash
        self._next = 0
        self._tree = [0] * (number + 1)  # a Fenwick tree of the blocks that each request was the last to use

    def find(self, request: int, since: int, depth: int, first: int, left: int) -> int:
        """The request that was the last to use its blocks from ``first`` to ``depth``, and has ``left`` more.

        Of those, one with about ``since`` blocks used after it; where there is none nearby, the one with most blocks.
        """
        aim = max(0, min(self._at(self.total - since), request) - 1)
        reach = (request - aim) // NEAR + 2
        for _ in range(TRIES):
            low, high = max(0, aim - reach), min(request, aim + reach + 1)
            length, start = self.length[low:high], self.start[low:high]
            fits = (start < depth) & (length >= depth)
            if fits.any():
                unlike = (np.abs(length - depth - left) + np.abs(start - first)) / (depth + left)
                unlike += np.abs(np.arange(low, high) - aim) / reach
                return low + int(np.where(fits, unlike, np.inf).argmin())
            reach *= 4
        return low + int(length.argmax())

    def add(self, request: int, num_blocks: int, source: int, depth: int) -> None:
        """Add a request whose first ``depth`` blocks are those of ``source``, as far as that has them."""
        old = self.lists[source][:depth] if source != NONE else np.zeros(0, np.int64)
        users = self._user[old]
        for end in np.append(np.flatnonzero(np.diff(users)), len(old) - 1).tolist() if len(old) else ():
            user = int(users[end])
            self._count(user, int(self.start[user]) - end - 1)
            self.start[user] = end + 1
        new = np.arange(self._next, self._next + num_blocks - len(old))
        self._next += len(new)
        self.lists.append(np.concatenate([old, new]))
        self.length[request] = num_blocks
        self._user[self.lists[-1]] = request
        self._count(request, int(self._num_blocks[request]))

    def _count(self, request: int, num_blocks: int) -> None:
        self.total += num_blocks
        at = request + 1
        while at < len(self._tree):
            self._tree[at] += num_blocks
            at += at & -at

    def _at(self, num_blocks: int) -> int:
        """How many requests, from the first on, were the last to use ``num_blocks`` blocks at most."""
        at, step = 0, 1 << len(self._tree).bit_length()
        while step:
            if at + step < len(self._tree) and self._tree[at + step] <= num_blocks:
                at += step
                num_blocks -= self._tree[at]
            step >>= 1
        return at

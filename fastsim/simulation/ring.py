"""A ring of hashes, by which the router ``session`` gives each session to a replica.

A replica has 160 points on the ring, and a session goes to the replica with the first point beyond its own hash. So a
replica more takes sessions from all others, and gives none of theirs to another. The ring is that of uhashring, which
the session router of vLLM's production stack uses, with the numbers of replicas as the names of its nodes.
"""

from functools import lru_cache
from hashlib import md5

import numpy as np
from numpy.typing import NDArray

POINTS = 160  # of a replica


def owners(session_id: NDArray[np.int64], num_replicas: int) -> NDArray[np.int32]:
    """The replica of each request, int32[n], by its session, int64[n]."""
    points, replicas = _ring(num_replicas)
    sessions, places = np.unique(session_id, return_inverse=True)
    hashes = np.array([_hash(str(session)) for session in sessions.tolist()], np.uint64)
    owner: NDArray[np.int32] = replicas[np.searchsorted(points, hashes, side="right") % points.size]
    return owner[places]


@lru_cache(maxsize=64)
def _ring(num_replicas: int) -> tuple[NDArray[np.uint64], NDArray[np.int32]]:
    """The points of all replicas in ascending order, and the replica of each."""
    replicas = np.repeat(np.arange(num_replicas, dtype=np.int32), POINTS)
    hashes = [_hash(f"{replica}-{i}") for replica in range(num_replicas) for i in range(POINTS)]
    points = np.array(hashes, np.uint64)
    order = np.argsort(points, kind="stable")
    return points[order], replicas[order]


def _hash(name: str) -> int:
    """The first 64 of the 128 bits of the MD5 of a name."""
    return int.from_bytes(md5(name.encode(), usedforsecurity=False).digest()[:8], "big")

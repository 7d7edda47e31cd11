"""The routers of the kernels by number, and the settings that some of them go by."""

from typing import NamedTuple

# Limits.router. ROUTED: the shell has put every request into the stream of its replica. LEAST_OUTSTANDING and
# LEAST_WAITING: the next request goes to the replica with the fewest requests present or waiting. CUSTOM: a function of
# the user's routes each request once every replica has been advanced to the horizon. ROUND_ROBIN and ASSIGNED, where
# requests follow others: the next request goes to the next replica in turn, or to the one that the shell has assigned.
# LEAST_KV, PREFIX_AWARE and WEIGHTED look at the KV blocks of every replica (replicas/look.py).
ROUTED, LEAST_OUTSTANDING, LEAST_WAITING, CUSTOM, ROUND_ROBIN, ASSIGNED, LEAST_KV, PREFIX_AWARE, WEIGHTED = range(9)


# Routing.pools: which pool a request goes to. BY_LOAD: the router compares the replicas of all pools. BY_PROMPT: the
# first pool that takes prompts as long as the request's. BY_COST: the cheapest pool that has room.
BY_LOAD, BY_PROMPT, BY_COST = range(3)


class Routing(NamedTuple):
    """The settings of the routers PREFIX_AWARE and WEIGHTED, and how a pool is chosen."""

    cache_threshold: float  # share of a prompt: only where more of it is cached, its request follows the cache
    balance_abs_threshold: float  # requests: where outstanding ones differ by more, and ...
    balance_rel_threshold: float  # ... the most are more than this times the fewest, caches do not count
    kv_aware_threshold: float  # tokens: only where at most so many are not cached, a request follows the cache
    prefix_weight: float  # of the share of the prompt that is cached
    kv_weight: float  # of the share of the KV blocks that are free
    queue_weight: float  # of how short the queue is: 1 for the shortest one, 0 for the longest
    pools: int  # BY_LOAD, BY_PROMPT or BY_COST


class Share(NamedTuple):
    """The replicas of a pool, and the requests that they take."""

    first: int  # its replicas are [first, last)
    last: int
    weight: float  # of a replica: its load counts as so many times less
    longest: int  # BY_PROMPT: prompt tokens of the longest request that it takes
    most: int  # BY_COST: requests of a replica from which on it has no room
    prefills: bool  # for other pools
    asked: int  # BY_COST: the pool that is asked at this pool's place, as the cheapest is asked first


NO_ROUTING = Routing(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, BY_LOAD)
ALONE = Share(0, 0, 1.0, 0, 0, False, 0)

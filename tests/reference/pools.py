"""How a router chooses among the replicas of several pools."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from reference.routers import Replica, Router


@dataclass(frozen=True)
class Pool:
    """The replicas [first, last), and which requests they take."""

    first: int
    last: int
    weight: float  # of a replica
    longest: int  # prompt tokens
    most: int  # requests of a replica from which on it has no room
    price: float


@dataclass
class OfPool:
    """The pool comes first, then a replica of it by ``router``; without a rule, a replica of any pool."""

    pools: Sequence[Pool]
    rule: Literal["load", "prompt_length", "cost"]
    router: Router

    def __call__(self, replicas: Sequence[Replica], num_prompt_tokens: int) -> int:
        pool = None
        if self.rule == "prompt_length":
            pool = next((pool for pool in self.pools if num_prompt_tokens <= pool.longest), self.pools[-1])
        elif self.rule == "cost":
            cheapest_first = sorted(self.pools, key=lambda pool: pool.price)
            pool = next((pool for pool in cheapest_first if self.has_room(replicas, pool, num_prompt_tokens)), None)
        return self.router(replicas if pool is None else replicas[pool.first : pool.last], num_prompt_tokens)

    def has_room(self, replicas: Sequence[Replica], pool: Pool, num_prompt_tokens: int) -> bool:
        best = replicas[self.router(replicas[pool.first : pool.last], num_prompt_tokens)]
        waits = isinstance(self.router, LeastWaiting)
        return (best.num_waiting if waits else best.num_outstanding) < pool.most


@dataclass(frozen=True)
class LeastOutstanding:
    """The fewest requests for the weight of a replica."""

    weights: Sequence[float]

    def __call__(self, replicas: Sequence[Replica], num_prompt_tokens: int) -> int:
        return min(replicas, key=lambda replica: replica.num_outstanding / self.weights[replica.id]).id


@dataclass(frozen=True)
class LeastWaiting:
    """The shortest queue for the weight of a replica."""

    weights: Sequence[float]

    def __call__(self, replicas: Sequence[Replica], num_prompt_tokens: int) -> int:
        return min(replicas, key=lambda replica: replica.num_waiting / self.weights[replica.id]).id

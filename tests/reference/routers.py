"""How a router chooses one of several engines for a request that arrives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Replica:
    """What a router sees of an engine, for a request."""

    id: int
    num_outstanding: int  # routed to it and not finished
    num_waiting: int  # of these, without memory
    free: float  # share of its KV blocks
    num_cached: int  # tokens of the request that a prefix cache holds


# Given what it sees, and the number of prompt tokens of the request, a router returns the number of an engine.
Router = Callable[[Sequence[Replica], int], int]


def least_outstanding(replicas: Sequence[Replica], num_prompt_tokens: int) -> int:
    return min(replicas, key=lambda replica: replica.num_outstanding).id


def least_waiting(replicas: Sequence[Replica], num_prompt_tokens: int) -> int:
    return min(replicas, key=lambda replica: replica.num_waiting).id


def least_kv(replicas: Sequence[Replica], num_prompt_tokens: int) -> int:
    return min(replicas, key=lambda replica: (-replica.free, replica.num_outstanding)).id


@dataclass
class RoundRobin:
    num_routed: int = 0

    def __call__(self, replicas: Sequence[Replica], num_prompt_tokens: int) -> int:
        self.num_routed += 1
        return (self.num_routed - 1) % len(replicas)


@dataclass(frozen=True)
class PrefixAware:
    """The rule of SGLang's cache_aware, with the blocks that engines really hold instead of a router's own tree."""

    cache_threshold: float
    balance_abs_threshold: float
    balance_rel_threshold: float
    kv_aware_threshold: float  # of the kvaware router of vLLM's production stack

    def __call__(self, replicas: Sequence[Replica], num_prompt_tokens: int) -> int:
        lightest = min(replicas, key=lambda replica: replica.num_outstanding)
        fewest, most = lightest.num_outstanding, max(replica.num_outstanding for replica in replicas)
        if most - fewest > self.balance_abs_threshold and most > self.balance_rel_threshold * fewest:
            return lightest.id
        best = min(replicas, key=lambda replica: (-replica.num_cached, replica.num_outstanding))
        is_hit = best.num_cached / num_prompt_tokens > self.cache_threshold
        rest = num_prompt_tokens - best.num_cached
        return best.id if is_hit and rest <= self.kv_aware_threshold else lightest.id


@dataclass(frozen=True)
class Weighted:
    """The sum of scores of llm-d: of the prefix, of the KV cache's use, and of the queue."""

    prefix_weight: float
    kv_weight: float
    queue_weight: float

    def __call__(self, replicas: Sequence[Replica], num_prompt_tokens: int) -> int:
        queues = [replica.num_waiting for replica in replicas]
        shortest, longest = min(queues), max(queues)

        def score(replica: Replica) -> float:
            prefix = replica.num_cached / num_prompt_tokens
            queue = (longest - replica.num_waiting) / (longest - shortest) if longest > shortest else 1.0
            return self.prefix_weight * prefix + self.kv_weight * replica.free + self.queue_weight * queue

        return min(replicas, key=lambda replica: (-score(replica), replica.num_outstanding)).id

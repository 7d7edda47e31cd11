"""Where experts are: how often each is chosen, how many copies it has, and what the busiest GPU gets."""

import heapq
import random
from functools import cache
from itertools import pairwise

DRAWS = 64  # of places, over which the share of the busiest GPU is a mean


@cache
def popularity(num_experts: int, top_k: int, skew: float) -> tuple[float, ...]:
    """Probability with which a token chooses each expert; they add up to ``top_k``, and none exceeds 1.

    The one of rank r is chosen in proportion to r ** -skew. Without skew one value holds for all.
    """
    if skew == 0:
        return (top_k / num_experts,)
    shares = [rank**-skew for rank in range(1, num_experts + 1)]
    certain = 0  # experts whose share would exceed 1: every token chooses them
    while shares[certain] * (top_k - certain) > sum(shares[certain:]):
        certain += 1
    rest = sum(shares[certain:])
    return (1.0,) * certain + tuple(share * (top_k - certain) / rest for share in shares[certain:])


@cache
def loads(num_experts: int, top_k: int, skew: float, redundant: int = 0) -> tuple[float, ...]:
    """How often a token comes to each expert, each copy counted apart.

    One by one, ``redundant`` copies go to the expert whose copies have most to do, as EPLB gives them.
    """
    chosen = popularity(num_experts, top_k, skew)
    if not redundant:
        return chosen
    busiest = [(-load, load, 1) for load in chosen * (num_experts // len(chosen))]
    heapq.heapify(busiest)
    for _ in range(redundant):
        _, load, copies = busiest[0]
        heapq.heapreplace(busiest, (-load / (copies + 1), load, copies + 1))
    return tuple(load / copies for _, load, copies in sorted(busiest) for _ in range(copies))


@cache
def imbalance(num_experts: int, top_k: int, skew: float, gpus: int, eplb: bool = False, redundant: int = 0) -> float:
    """Tokens of the busiest of ``gpus`` over the mean.

    As a model numbers its experts, popular ones are anywhere: the mean over places that are drawn at random. EPLB
    (deepseek-ai/EPLB, as vLLM has it) copies the busiest, and gives the experts, those with most to do first, to the
    GPU with least to do that has room; it knows what each will have to do. It is never worse than no balancing.

    Examples
    --------
    >>> from fastsim.deployment.operators.placement import imbalance
    >>> [round(one, 2) for one in (imbalance(128, 8, 0.5, 8), imbalance(128, 8, 0.5, 8, eplb=True))]
    [1.32, 1.05]
    """
    if not skew or gpus == 1:
        return 1.0
    chosen, draw = list(popularity(num_experts, top_k, skew)), random.Random(0)
    cuts = [num_experts * gpu // gpus for gpu in range(gpus + 1)]
    total = 0.0
    for _ in range(DRAWS):
        draw.shuffle(chosen)
        total += max(sum(chosen[first:last]) for first, last in pairwise(cuts))
    as_numbered = max(1.0, total / DRAWS * gpus / top_k)
    if not eplb:
        return as_numbered
    room = (num_experts + redundant) // gpus
    least = [(0.0, gpu, 0) for gpu in range(gpus)]  # what each has to do, and its experts
    most = 0.0
    for load in sorted(loads(num_experts, top_k, skew, redundant), reverse=True):
        done, gpu, experts = heapq.heappop(least)
        most = max(most, done + load)
        if experts + 1 < room:
            heapq.heappush(least, (done + load, gpu, experts + 1))
    return min(as_numbered, max(1.0, most * gpus / top_k))

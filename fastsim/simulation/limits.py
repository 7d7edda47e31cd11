"""The limits of a deployment by pool, as kernels read them, and the largest of all, for which arrays have room."""

import math

from fastsim.deployment.check_router import filled
from fastsim.deployment.resolved import Resolved
from fastsim.deployment.schedulers import is_function
from fastsim.deployment.sections import Router
from fastsim.kernels.replicas import routers
from fastsim.kernels.replicas.routers import ALONE, ASSIGNED, CUSTOM, NO_ROUTING, ROUND_ROBIN, ROUTED, Routing, Share
from fastsim.kernels.sglang.state import NO_SGLANG
from fastsim.kernels.state import Limits
from fastsim.predictors.affine import has_ticks
from fastsim.simulation.apart import link_of
from fastsim.simulation.engine import engine_limits
from fastsim.simulation.ranks import rank_limits
from fastsim.simulation.sglang import sglang_limits, shared_limits
from fastsim.workload import Workload

ROUTERS = {
    "least_outstanding": routers.LEAST_OUTSTANDING,
    "least_waiting": routers.LEAST_WAITING,
    "least_kv": routers.LEAST_KV,
    "prefix_aware": routers.PREFIX_AWARE,
    "weighted": routers.WEIGHTED,
}
POOLS = {"load": routers.BY_LOAD, "prompt_length": routers.BY_PROMPT, "cost": routers.BY_COST}


def limits_of(resolved: Resolved, workload: Workload | None = None) -> tuple[Limits, ...]:
    """Return the limits of each pool on batches and memory, as the kernel reads them; of one pool without pools.

    Where requests of ``workload`` follow others, no router can choose replicas beforehand.
    """
    router = CUSTOM if is_function(resolved.router) else ROUTERS.get(resolved.router, ROUTED)
    given = resolved.deployment.router
    if router == ROUTED and resolved.num_engines > 1 and workload is not None and workload.following is not None:
        # In turn through all replicas, or through those of the pool that takes prompts of its length.
        router = ROUND_ROBIN if resolved.router == "round_robin" and given.pools == "load" else ASSIGNED
    shares = _shares(resolved) if resolved.pools else [ALONE]
    if resolved.is_apart and router == ROUTED:
        router = ROUND_ROBIN
    routing, link = _routing(given, bool(resolved.pools)), link_of(resolved)
    return tuple(
        _of_kind(kind, router, routing, share)._replace(link=link)
        for kind, share in zip(resolved.kinds, shares, strict=True)
    )


def largest(limits: tuple[Limits, ...]) -> Limits:
    """Return limits with the room that each pool needs: arrays are laid out for these."""
    if len(limits) == 1:
        return limits[0]
    first, fewest = limits[0], min(each.num_blocks for each in limits)
    rules = first.engine
    # SGLang cuts max_tokens so that a request fits by itself, here in the smallest pool.
    length = min(rules.max_model_len, fewest * first.block_size) if first.sglang != NO_SGLANG else rules.max_model_len
    return first._replace(
        num_blocks=max(each.num_blocks for each in limits),
        max_num_seqs=max(each.max_num_seqs for each in limits),
        engine=rules._replace(
            max_model_len=length,
            prefix_caching=max(each.engine.prefix_caching for each in limits),
            depth=max(each.engine.depth for each in limits),
        ),
        sglang=first.sglang._replace(radix_cache=max(each.sglang.radix_cache for each in limits)),
    )


def _of_kind(resolved: Resolved, router: int, routing: Routing, share: Share) -> Limits:
    """The limits of replicas that are alike."""
    scheduler, memory = resolved.scheduler, resolved.memory
    # The share that vLLM V1 keeps free is one of all blocks, the null block among them.
    null_block = scheduler.release is not None
    watermark_blocks = int(scheduler.watermark * (memory.num_blocks + null_block))
    engine = engine_limits(scheduler, resolved.max_model_len, not has_ticks(resolved))
    sglang = sglang_limits(scheduler)
    if scheduler.sglang is not None:
        engine = shared_limits(sglang, resolved.max_model_len)
    return Limits(
        num_stages=resolved.pipeline_parallel_size,
        num_blocks=memory.num_blocks,
        block_size=scheduler.block_size,
        watermark_blocks=watermark_blocks,
        blocks_per_sequence=memory.blocks_per_sequence,
        max_num_seqs=scheduler.max_num_seqs,
        micro_batch_size=resolved.micro_batch_size,
        max_batch_size=resolved.max_batch_size,
        max_num_batched_tokens=scheduler.max_num_batched_tokens,
        chunk_size=scheduler.chunk_size,
        max_waiting_iters=scheduler.max_waiting_iters,
        router=router,
        engine=engine,
        routing=routing,
        sglang=sglang,
        share=share,
        ranks=rank_limits(resolved),
    )


def _shares(resolved: Resolved) -> list[Share]:
    """The replicas of each pool, and the requests that they take."""
    prices = [(each.resolved.price.dollars if each.resolved.price else 0.0) for each in resolved.pools]
    hourly = [price * each.resolved.gpus_per_replica for price, each in zip(prices, resolved.pools, strict=True)]
    asked = sorted(range(len(hourly)), key=lambda place: hourly[place])
    return [
        Share(
            first=each.first,
            last=each.first + each.pool.num_replicas,
            weight=each.pool.weight,
            longest=each.pool.max_prompt_tokens or 0,
            most=each.pool.max_outstanding or each.resolved.scheduler.max_num_seqs,
            prefills=each.pool.role == "prefill",
            asked=asked[place],
        )
        for place, each in enumerate(resolved.pools)
    ]


def _routing(router: Router, has_pools: bool) -> Routing:
    """The settings of a router, as the kernel reads them."""
    own = {name: math.inf if value is None else float(value) for name, value in filled(router).items()}
    renamed = {"prefix_cache_weight": "prefix_weight", "kv_cache_utilization_weight": "kv_weight"}
    settings = {renamed.get(name, name): value for name, value in own.items()}
    return NO_ROUTING._replace(pools=POOLS[router.pools] if has_pools else routers.BY_LOAD, **settings)

"""Fills every default of a deployment, and refuses what cannot run."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fastsim.catalog import load
from fastsim.catalog.hardware import Device, Node
from fastsim.catalog.model import Model
from fastsim.deployment import engine_times, parallelism, stages
from fastsim.deployment.calibrated import calibrated, calibration_notes, calibration_of
from fastsim.deployment.check import check, precision_notes, predictor_notes, warnings
from fastsim.deployment.check_router import check_router, filled, router_notes
from fastsim.deployment.check_scheduler import check_scheduler, scheduler_notes
from fastsim.deployment.choices import MOST_REPLICAS, Sampling
from fastsim.deployment.description import Deployment
from fastsim.deployment.memory import plan as plan_module
from fastsim.deployment.memory.loaded import padding_of
from fastsim.deployment.memory.reserve import UP_TO_0_16
from fastsim.deployment.memory.sizes import Layout, MemoryPlan
from fastsim.deployment.operators import placement
from fastsim.deployment.pools import check_alike, check_given, pool_notes, resolved_pools
from fastsim.deployment.pools import filled as filled_pools
from fastsim.deployment.precisions import as_published, kv_precision_of, weights_of
from fastsim.deployment.prices import price_of
from fastsim.deployment.resolved import PoolOf, Resolved
from fastsim.deployment.schedulers import Settings
from fastsim.deployment.settings import absolute, described, policy_of, settings_of, utilization_of
from fastsim.deployment.sglang.settings import with_tokens
from fastsim.errors import ConfigError, DoesNotFitError, did_you_mean

PREDICTORS = ("default", "aic", "affine", "vidur:DIR", "profile:DIR", "tables:DIR")


def resolve(deployment: Deployment) -> Resolved:
    """Fill every default of a deployment, and refuse a deployment that cannot run.

    Some defaults depend on other fields. ``quantization`` is the precision in which the model is published, module by
    module; another one is that of every module. ``kv_cache_dtype`` is the one for which the checkpoint is calibrated,
    ``node`` the first node of the catalog that holds the device, ``max_model_len`` the number of tokens that the model
    was trained for. The ``engine`` is vllm-0.33 unless the scheduler has a policy other than vllm_v1, and has defaults
    of its own, by release and GPU (``fastsim catalog engines``), ``front_end_ms`` among them. Of the other policies
    ``max_num_seqs`` is 128, ``watermark`` 0.01, ``block_size`` 16 tokens (1 for lightllm), ``chunk_size`` 512 tokens,
    ``max_waiting_iters`` 10, and ``max_num_batched_tokens`` the larger of 4096 and ``max_model_len``, so that every
    prompt can be scheduled, as in vLLM v0. ``num_blocks`` is the number of KV blocks that fit in the memory of a
    replica. Names take the spelling of the catalog, and relative paths become absolute.

    Parameters
    ----------
    deployment : Deployment
        The description, in which fields may be None.

    Returns
    -------
    Resolved
        The description with every field filled (``deployment``), the model, device and node that it names, and the
        plan of the memory (``memory``).

    Raises
    ------
    errors.CatalogError
        When no catalog knows the model, device or node.
    errors.ConfigError
        When fields contradict each other.
    errors.DoesNotFitError
        When the weights, or one sequence of ``max_model_len`` tokens, do not fit in memory.

    Examples
    --------
    >>> resolved = fastsim.resolve(fastsim.Deployment(model="llama-2-7b", device="a100"))
    >>> resolved.node.name, resolved.max_model_len, resolved.memory.num_blocks
    ('a100_dgx', 4096, 7578)
    """
    given = Deployment.load(deployment)  # model_copy(update=...) does not validate
    if given.pools:
        return _with_pools(given)
    if given.kv_transfer is not None:
        raise ConfigError(
            "kv_transfer: KV goes from pools of role prefill to those of role decode; name these in pools"
        )
    model, device = load.load_model(given.model), load.load_device(given.device)
    given = calibrated(as_published(given, model))
    node = _node(given, device)
    stages.check(model.name, model.num_layers, given.pipeline_parallel_size, given.pipeline_layers)
    if given.pipeline_layers is not None:
        given = given.model_copy(update={"pipeline_parallel_size": len(given.pipeline_layers)})
    length = given.max_model_len or model.max_position_embeddings
    settings = settings_of(given, policy_of(given), model, device, length)
    check(given, settings, model, node)
    check_scheduler(given, settings)
    check_router(given.router, settings)
    given = given.model_copy(update={"gpu_memory_utilization": utilization_of(given, settings)})
    predictor = given.predictor.model_copy(update={"source": _source(given.predictor.source)})
    layout = _layout(given, settings, length, model, device)
    memory = _plan(layout, settings, model, device, node)
    settings = with_tokens(settings, memory.kv_tokens, length, given.scheduler.max_running_requests)
    complete: dict[str, Any] = {
        "model": model.name if load.is_model(model.name) else str(Path(model.name).absolute()),
        "device": device.name if device.name in load.names("devices") else _absolute_file(given.device),
        "node": node.name,
        "engine": _engine(settings),
        "front_end_ms": _front_end_ms(given, settings),
        "sampling": _sampling(given, model),
        "max_model_len": length,
        "scheduler": given.scheduler.model_copy(update=described(settings, memory.num_blocks)),
        "router": given.router.model_copy(update=filled(given.router) | {"policy": absolute(given.router.policy)}),
        "predictor": predictor,
    }
    return Resolved(
        deployment=given.model_copy(update=complete),
        model=model,
        device=device,
        node=node,
        sampling=_sampling(given, model),
        dtype=given.dtype,
        quantization=given.quantization or "none",
        kv_cache_dtype=given.kv_cache_dtype,
        tensor_parallel_size=given.tensor_parallel_size,
        pipeline_parallel_size=given.pipeline_parallel_size,
        data_parallel_size=given.data_parallel_size,
        pipeline_layers=given.pipeline_layers or stages.cut(model.num_layers, given.pipeline_parallel_size),
        enable_expert_parallel=given.enable_expert_parallel,
        all2all_backend=given.all2all_backend,
        moe_imbalance=_imbalance(given, model),
        moe_skew=given.moe_skew,
        num_redundant_experts=given.num_redundant_experts,
        enforce_eager=given.enforce_eager,
        num_replicas=given.num_replicas,
        router=absolute(given.router.policy),
        max_model_len=length,
        gpu_memory_utilization=utilization_of(given, settings),
        scheduler=settings,
        layout=layout,
        memory=memory,
        predictor=predictor,
        seed=given.seed,
        price=price_of(device, given.prices),
        warnings=(
            *precision_notes(model, given.quantization or "none"),
            *scheduler_notes(given, settings),
            *router_notes(given.router),
            *pool_notes(given),
            *calibration_notes(calibration_of(given), _engine(settings), complete["model"], complete["device"]),
            *predictor_notes(predictor, settings, given.pipeline_parallel_size),
            *warnings(settings, length, layout.num_blocks is not None, model, device, memory),
        ),
    )


def _with_pools(given: Deployment) -> Resolved:
    """The same of a deployment with pools: each is resolved by itself."""
    check_given(given)
    pools = resolved_pools(given, resolve)
    check_alike(pools, given)
    return _joined(given, pools)


def _joined(given: Deployment, pools: tuple[PoolOf, ...]) -> Resolved:
    """The deployment whose pools are these."""
    first = pools[0].resolved
    router = given.router.model_copy(update=filled(given.router) | {"policy": absolute(given.router.policy)})
    said = [*pool_notes(given)]
    for place, each in enumerate(pools):
        said += [f"pools[{place}]: {note}" for note in each.resolved.warnings]
    complete = {"pools": filled_pools(pools), "num_replicas": 1, "router": router, "kv_transfer": given.kv_transfer}
    return replace(
        first,
        deployment=first.deployment.model_copy(update=complete),
        num_replicas=sum(each.resolved.num_replicas for each in pools),
        warnings=tuple(said),
        pools=pools,
    )


def with_copies(resolved: Resolved, number: int) -> Resolved:
    """The same deployment with another number of replicas, which nothing else in it depends on.

    With pools their replicas keep their ratio, and ``number`` is ``Resolved.copies``. Raises ConfigError for a number
    that a deployment cannot have.
    """
    if resolved.pools:
        before = resolved.copies
        return of_pools(resolved, [each.resolved.num_replicas // before * number for each in resolved.pools])
    deployment = resolved.deployment.model_copy(update={"num_replicas": number})
    if not 1 <= number <= MOST_REPLICAS:
        return resolve(deployment)  # which refuses it
    return replace(resolved, deployment=deployment, num_replicas=number)


def of_pools(resolved: Resolved, numbers: Sequence[int]) -> Resolved:
    """The same deployment with pools of these numbers of replicas; a pool of none is left out.

    Raises ConfigError for numbers that a deployment cannot have.
    """
    pools: list[PoolOf] = []
    for each, number in zip(resolved.pools, numbers, strict=True):
        if number:
            first = sum(other.pool.num_replicas for other in pools)
            pool = each.pool.model_copy(update={"num_replicas": number})
            pools.append(PoolOf(pool, with_copies(each.resolved, number), first))
    given = resolved.deployment.model_copy(update={"pools": filled_pools(pools)})
    check_given(given)
    return _joined(given, tuple(pools))


def _node(deployment: Deployment, device: Device) -> Node:
    if deployment.node is None:
        number = deployment.tensor_parallel_size * deployment.pipeline_parallel_size * deployment.data_parallel_size
        return load.default_node(device, number)
    node = load.load_node(deployment.node)
    if node.device not in (None, device.name):
        nodes = [load.load_node(name) for name in load.names("nodes")]
        valid = ", ".join(other.name for other in nodes if other.device in (None, device.name))
        raise ConfigError(f"node: {node.name!r} holds {node.device}, not {device.name} (valid: {valid})")
    return node


def _source(source: str) -> str:
    kind, _, folder = source.partition(":")
    if source in ("default", "aic", "affine"):
        return source
    if f"{kind}:DIR" not in PREDICTORS:
        kind_of = f"{kind}:DIR" if ":" in source else source
        raise ConfigError(f"predictor.source: {source!r} is unknown; {did_you_mean(kind_of, PREDICTORS)}")
    if not folder:
        raise ConfigError(f"predictor.source: {source!r} names no folder (e.g. {kind}:my_folder)")
    return f"{kind}:{Path(folder).expanduser().absolute()}"


def _imbalance(given: Deployment, model: Model) -> float:
    """Tokens of the busiest GPU over the mean: as measured, else what the popularity of experts makes it."""
    if given.moe_imbalance is not None:
        return given.moe_imbalance
    if not given.enable_expert_parallel or not model.num_experts:
        return 1.0
    gpus = given.tensor_parallel_size * given.data_parallel_size
    eplb = given.enable_eplb, given.num_redundant_experts
    return placement.imbalance(model.num_experts, model.num_experts_per_tok, given.moe_skew, gpus, *eplb)


def _layout(given: Deployment, scheduler: Settings, length: int, model: Model, device: Device) -> Layout:
    return Layout(
        tensor_parallel_size=given.tensor_parallel_size,
        pipeline_parallel_size=given.pipeline_parallel_size,
        max_model_len=length,
        gpu_memory_utilization=utilization_of(given, scheduler),
        planner=given.memory.planner,
        block_size=scheduler.block_size,
        watermark=scheduler.watermark,
        max_num_seqs=scheduler.max_num_seqs,
        # A policy without a token budget runs at least one longest prompt at a time.
        max_iteration_tokens=max(scheduler.token_budget or length, scheduler.max_num_seqs),
        num_blocks=_blocks_given(given, scheduler),
        precision=weights_of(model, given.quantization or "none"),
        kv_precision=kv_precision_of(given.kv_cache_dtype),
        expert_parallel=given.enable_expert_parallel,
        redundant_experts=given.num_redundant_experts,
        pipeline_layers=given.pipeline_layers,
        padding=padding_of(device.compute_capability),
        null_blocks=int(scheduler.release is not None),
        reserve=scheduler.release.reserve if scheduler.release else UP_TO_0_16,
        counts_graphs=_counts_graphs(given, scheduler),
        data_parallel_size=given.data_parallel_size,
        static_pool=scheduler.sglang is not None,
    )


def _counts_graphs(given: Deployment, scheduler: Settings) -> bool:
    return scheduler.release is not None and scheduler.release.graph_memory_counts and not given.enforce_eager


def _engine(scheduler: Settings) -> str | None:
    """The name of the release whose rules hold."""
    if scheduler.sglang is not None:
        return scheduler.sglang.release.name
    return None if scheduler.release is None else scheduler.release.name


def _sampling(given: Deployment, model: Model) -> Sampling:
    return given.sampling or ("top_k_top_p" if model.asks_top_k_top_p else "random")


def _front_end_ms(given: Deployment, scheduler: Settings) -> float:
    if given.front_end_ms is not None:
        return given.front_end_ms
    return engine_times.front_end_ms(_engine(scheduler), given.predictor.source, given.predictor.compose)


def _blocks_given(given: Deployment, scheduler: Settings) -> int | None:
    tokens = given.scheduler.max_total_num_tokens
    return given.scheduler.num_blocks if tokens is None else tokens // scheduler.block_size


def _plan(layout: Layout, scheduler: Settings, model: Model, device: Device, node: Node) -> MemoryPlan:
    try:
        return plan_module.plan(model, device, layout)
    except DoesNotFitError as error:
        way_out = parallelism.advice(model, device, node, layout, scheduler.policy.pipelines)
        raise DoesNotFitError(f"{error}; {way_out}") from None


def _absolute_file(name: str) -> str:
    return str(Path(name).expanduser().absolute())

"""A deployment that can run: its description with every default filled.

``resolve`` refuses what cannot run; predictors, kernels and results see resolved deployments only.
"""

from dataclasses import dataclass
from pathlib import Path

from fastsim.catalog import load
from fastsim.catalog.hardware import Device, Node
from fastsim.catalog.model import Model
from fastsim.deployment import parallelism
from fastsim.deployment.description import Deployment, is_function
from fastsim.deployment.memory import plan as plan_module
from fastsim.deployment.memory.sizes import Layout, MemoryPlan
from fastsim.deployment.operators.decoder import Operators, operators
from fastsim.errors import ConfigError, DoesNotFitError, did_you_mean

__all__ = ["Deployment", "Resolved", "resolve"]

PREDICTORS = ("default", "aic", "vidur:DIR", "profile:DIR", "tables:DIR")


@dataclass(frozen=True, slots=True)
class Resolved:
    """A deployment that can run, and all that its names stand for."""

    deployment: Deployment  # no None left
    model: Model
    device: Device
    node: Node
    memory: MemoryPlan
    warnings: tuple[str, ...]

    @property
    def micro_batch_size(self) -> int:
        """Requests in one batch: the cap shared among the pipeline stages."""
        return self.deployment.scheduler.max_num_seqs // self.deployment.pipeline_parallel_size

    @property
    def max_batch_size(self) -> int:
        """Requests in a batch of Orca or FasterTransformer: what fits at full length, up to the cap."""
        return min(self.memory.max_batch_size, self.deployment.scheduler.max_num_seqs)

    @property
    def precision(self) -> str:
        """Of the weights of the layers, in the words of operators and forests."""
        quantization = self.deployment.quantization
        return "bf16" if quantization in (None, "none") else str(quantization)

    @property
    def kv_precision(self) -> str:
        """Of the KV cache."""
        return "fp8" if self.deployment.kv_cache_dtype == "fp8" else "bf16"

    @property
    def operators(self) -> Operators:
        """What the layers of all stages are made of, on one GPU each."""
        deployment = self.deployment
        return operators(
            self.model,
            deployment.tensor_parallel_size,
            precision=self.precision,
            kv_precision=self.kv_precision,
            expert_parallel=deployment.enable_expert_parallel,
            all_to_all=deployment.all2all_backend == "deepep",
            imbalance=deployment.moe_imbalance,
        )

    @property
    def num_gpus(self) -> int:
        """GPUs of the whole cluster."""
        deployment = self.deployment
        return deployment.num_replicas * deployment.tensor_parallel_size * deployment.pipeline_parallel_size


def resolve(deployment: Deployment) -> Resolved:
    """Fill every default and refuse what cannot run.

    Defaults that depend on others: quantization, what the model is published in ("none": 16 bits); node, the
    catalog's first of the device; max_model_len, what the model was made for; block_size 16 (lightllm 1);
    chunk_size 512; max_num_batched_tokens, the larger of 4096 and max_model_len, so that every prompt can be
    scheduled (vLLM v0's rule); max_waiting_iters 10; num_blocks, what the planner finds. Names become the
    catalog's spelling, relative paths absolute. Raises CatalogError, ConfigError or DoesNotFitError.
    """
    deployment = Deployment.load(deployment)  # model_copy(update=...) does not validate
    model, device = load.load_model(deployment.model), load.load_device(deployment.device)
    node = _node(deployment, device)
    _check(deployment, model, node)
    filled = _fill(deployment, model, device, node)
    plan = _plan(filled, model, device, node)
    scheduler = filled.scheduler.model_copy(update={"num_blocks": plan.num_blocks})
    resolved = filled.model_copy(update={"scheduler": scheduler})
    given = deployment.scheduler.num_blocks is not None
    return Resolved(resolved, model, device, node, plan, tuple(_warnings(resolved, given, model, device, plan)))


def _check(deployment: Deployment, model: Model, node: Node) -> None:
    pipeline, scheduler = deployment.pipeline_parallel_size, deployment.scheduler
    if not model.num_experts:
        for field, unset in (("enable_expert_parallel", False), ("moe_imbalance", 1)):
            if getattr(deployment, field) != unset:
                raise ConfigError(
                    f"{field}: {getattr(deployment, field)} needs experts, and {model.name} has none (valid: {unset})"
                )
    if not deployment.enable_expert_parallel:
        if deployment.all2all_backend == "deepep":
            raise ConfigError("all2all_backend: 'deepep' needs enable_expert_parallel (valid: allgather_reducescatter)")
        if deployment.moe_imbalance != 1:
            raise ConfigError(f"moe_imbalance: {deployment.moe_imbalance} needs enable_expert_parallel (valid: 1)")
    parallelism.check(model, node, deployment.tensor_parallel_size, pipeline, deployment.enable_expert_parallel)
    _check_vidur(deployment, model)
    if scheduler.max_num_seqs < pipeline:
        raise ConfigError(
            f"scheduler.max_num_seqs: {scheduler.max_num_seqs} leaves pipeline stages without a request "
            f"(valid: pipeline_parallel_size {pipeline} or more)"
        )
    if scheduler.policy == "lightllm" and scheduler.block_size not in (None, 1):
        raise ConfigError(f"scheduler.block_size: lightllm cannot have {scheduler.block_size} (valid: 1)")
    if scheduler.policy == "lightllm" and pipeline > 1:
        raise ConfigError(f"pipeline_parallel_size: lightllm cannot have {pipeline} (valid: 1)")


def _check_vidur(deployment: Deployment, model: Model) -> None:
    """Vidur's formulas have no term for anything but layers that are all alike, dense and in 16 bits."""
    quantization = deployment.quantization or model.quantization
    unknown = {
        "experts": model.num_experts > 0,
        "latent attention": model.kv_lora_rank > 0,
        f"quantization {quantization}": quantization not in (None, "none"),
        "an fp8 KV cache": deployment.kv_cache_dtype == "fp8",
    }
    why = next((name for name, found in unknown.items() if found), None)
    for field, value in (
        ("memory.planner", deployment.memory.planner),
        ("predictor.compose", deployment.predictor.compose),
        ("predictor.source", deployment.predictor.source.partition(":")[0]),
    ):
        if value == "vidur" and why is not None:
            raise ConfigError(f"{field}: 'vidur' knows nothing of {why} (valid: fastsim)")


def _node(deployment: Deployment, device: Device) -> Node:
    if deployment.node is None:
        return load.default_node(device)
    node = load.load_node(deployment.node)
    if node.device not in (None, device.name):
        nodes = [load.load_node(name) for name in load.names("nodes")]
        valid = ", ".join(one.name for one in nodes if one.device in (None, device.name))
        raise ConfigError(f"node: {node.name!r} holds {node.device}, not {device.name} (valid: {valid})")
    return node


def _fill(deployment: Deployment, model: Model, device: Device, node: Node) -> Deployment:
    given, predictor = deployment.scheduler, deployment.predictor
    max_model_len = deployment.max_model_len or model.max_position_embeddings
    scheduler = {
        "max_num_batched_tokens": given.max_num_batched_tokens or max(4096, max_model_len),
        "chunk_size": given.chunk_size or 512,
        "block_size": given.block_size or (1 if given.policy == "lightllm" else 16),
        "policy": _function(given.policy),
        "max_waiting_iters": 10 if given.max_waiting_iters is None else given.max_waiting_iters,
    }
    in_catalog, is_listed = model.name in load.names("models"), device.name in load.names("devices")
    filled = {
        "model": model.name if in_catalog else str(Path(model.name).absolute()),
        "quantization": deployment.quantization or model.quantization or "none",
        "device": device.name if is_listed else str(Path(deployment.device).expanduser().absolute()),
        "node": node.name,
        "max_model_len": max_model_len,
        "scheduler": given.model_copy(update=scheduler),
        "router": deployment.router.model_copy(update={"policy": _function(deployment.router.policy)}),
        "predictor": predictor.model_copy(update={"source": _source(predictor.source)}),
    }
    return deployment.model_copy(update=filled)


def _source(source: str) -> str:
    kind, _, folder = source.partition(":")
    if source in ("default", "aic"):
        return source
    if f"{kind}:DIR" not in PREDICTORS:
        raise ConfigError(f"predictor.source: {source!r} is unknown; {did_you_mean(source, PREDICTORS)}")
    if not folder:
        raise ConfigError(f"predictor.source: {source!r} names no folder (e.g. {kind}:my_folder)")
    return f"{kind}:{Path(folder).expanduser().absolute()}"


def _plan(filled: Deployment, model: Model, device: Device, node: Node) -> MemoryPlan:
    scheduler = filled.scheduler
    assert filled.max_model_len and scheduler.block_size
    layout = Layout(
        tensor_parallel_size=filled.tensor_parallel_size,
        pipeline_parallel_size=filled.pipeline_parallel_size,
        max_model_len=filled.max_model_len,
        gpu_memory_utilization=filled.gpu_memory_utilization,
        planner=filled.memory.planner,
        block_size=scheduler.block_size,
        watermark=scheduler.watermark,
        max_num_seqs=scheduler.max_num_seqs,
        max_iteration_tokens=_most_tokens(filled),
        num_blocks=scheduler.num_blocks,
        precision="bf16" if filled.quantization in (None, "none") else filled.quantization,
        kv_precision="fp8" if filled.kv_cache_dtype == "fp8" else "bf16",
        expert_parallel=filled.enable_expert_parallel,
    )
    try:
        return plan_module.plan(model, device, layout)
    except DoesNotFitError as error:
        way_out = parallelism.advice(model, device, node, layout, scheduler.policy != "lightllm")
        raise DoesNotFitError(f"{error}; {way_out}") from None


def _function(policy: str) -> str:
    return str(Path(policy).absolute()) if is_function(policy) else policy


def _most_tokens(filled: Deployment) -> int:
    """Tokens of the largest iteration; Orca and FasterTransformer have no limit, so one longest prompt."""
    scheduler = filled.scheduler
    assert filled.max_model_len and scheduler.chunk_size and scheduler.max_num_batched_tokens
    match scheduler.policy:
        case "sarathi":
            tokens = scheduler.chunk_size
        case "orca" | "faster_transformer":
            tokens = filled.max_model_len
        case _:
            tokens = scheduler.max_num_batched_tokens
    return max(tokens, scheduler.max_num_seqs)


def _warnings(resolved: Deployment, blocks_given: bool, model: Model, device: Device, plan: MemoryPlan) -> list[str]:
    scheduler, length, found = resolved.scheduler, resolved.max_model_len, []
    assert length and scheduler.block_size and scheduler.max_num_batched_tokens
    if length > model.max_position_embeddings:
        trained = model.max_position_embeddings
        found.append(f"max_model_len: {length} is beyond the {trained} tokens that {model.name} was made for")
    if model.sliding_window is not None and length > model.sliding_window:
        window = model.sliding_window
        found.append(f"model: {model.name} attends to {window} tokens; its KV cache is kept for all of {length}")
    if (tokens := plan.num_blocks * scheduler.block_size) < length:
        blocks = f"{plan.num_blocks} blocks hold {tokens} tokens"
        found.append(f"scheduler.num_blocks: {blocks}, fewer than max_model_len {length}")
    if scheduler.policy in ("vllm", "lightllm") and (limit := scheduler.max_num_batched_tokens) < length:
        below = f"{limit} is below max_model_len {length}"
        found.append(f"scheduler.max_num_batched_tokens: {below}; longer prompts can never be scheduled")
    if blocks_given and (need := plan.kv_gib + plan.weights_gib) > device.memory_gib:
        blocks = f"{plan.num_blocks} blocks and the weights are {need:.1f} GiB"
        found.append(f"scheduler.num_blocks: {blocks}, {device.name} has {device.memory_gib:g}")
    return found

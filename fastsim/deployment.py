"""What is simulated: a frozen description, and its resolved copy with every default filled.

``resolve`` refuses what cannot run; predictors, kernels and results see resolved deployments only.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from fastsim import catalog, memory, parallelism
from fastsim.catalog import Device, Model, Node
from fastsim.documents import Document, read, validate, with_overrides
from fastsim.errors import ConfigError, DoesNotFitError, did_you_mean
from fastsim.memory import Layout, MemoryPlan
from fastsim.operators import Operators, operators

Policy = Literal["vllm", "sarathi", "orca", "lightllm", "faster_transformer"]
RouterPolicy = Literal["round_robin", "random", "least_outstanding", "least_waiting", "pinned"]
Planner = Literal["fastsim", "vidur"]
Compose = Literal["fastsim", "vidur"]
Dtype = Literal["bfloat16", "float16"]
Quantization = Literal["none", "fp8", "fp8_block", "int8_wo", "int4_wo", "nvfp4"]
KvCacheDtype = Literal["auto", "fp8"]
AllToAll = Literal["allgather_reducescatter", "deepep"]

PREDICTORS = ("default", "tables:DIR")
LATER_PREDICTORS = ("aic", "vidur", "profile")
DEFAULT_FILE = Path(__file__).parent / "data" / "default.yaml"


def _setting(meaning: str, valid: str, example: Any, **limits: Any) -> Any:
    """A field: its meaning, and what completes the messages "... is not ``valid`` (e.g. ``example``)"."""
    return Field(description=meaning, examples=[example], json_schema_extra={"valid": valid}, **limits)


def _count(meaning: str, example: int, default: int | None, most: int, least: int = 1) -> Any:
    valid = f"a positive integer up to {most}" if least else f"an integer from 0 to {most}"
    return _setting(meaning, valid, example, default=default, ge=least, le=most)


def _name(meaning: str, example: str, **default: Any) -> Any:
    return _setting(meaning, "a name", example, min_length=1, max_length=4096, **default)


class _Settings(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)


class Router(_Settings):
    """Which replica a request goes to."""

    policy: RouterPolicy = _setting("how a replica is chosen", "a router", "random", default="round_robin")


class Memory(_Settings):
    """Who says how many KV blocks there are."""

    planner: Planner = _setting(
        "fastsim (as vLLM profiles) or vidur (its formula, for parity)",
        "a planner",
        "vidur",
        default="fastsim",
    )


class Scheduler(_Settings):
    """How a replica forms its batches. A limit that the policy does not have is ignored."""

    policy: Policy = _setting("scheduling policy", "a policy", "vllm", default="sarathi")
    max_num_seqs: int = _count("requests that run at once, over all pipeline stages", 128, 128, 2**16)
    max_num_batched_tokens: int | None = _count("tokens of an iteration: vllm, lightllm", 4096, None, 2**24)
    chunk_size: int | None = _count("tokens of an iteration: sarathi", 512, None, 2**24)
    block_size: int | None = _count("tokens of a KV block", 16, None, 2**16)
    watermark: float = _setting(
        "share of the KV blocks that admission leaves free",
        "a fraction from 0 to below 1",
        0.01,
        default=0.01,
        ge=0,
        lt=1,
    )
    max_waiting_iters: int | None = _count("decodes between prefills: lightllm", 10, None, 2**31 - 1, least=0)
    num_blocks: int | None = _count("KV blocks of a replica; null: as planned", 8192, None, 2**31 - 1)


class Predictor(_Settings):
    """Where operator times come from, and how they are composed to the time of an iteration."""

    source: str = _name("default, or tables:DIR", "default", default="default")
    compose: Compose = _setting(
        "fastsim, or vidur (its rounding and aggregation, for parity)", "a way", "vidur", default="fastsim"
    )


class Deployment(_Settings):
    """A model on a cluster: the contract of deployment files. None means: ``resolve`` fills it."""

    model: str = _name("catalog name, or a path to a Hugging Face config.json", "meta-llama/Llama-2-7b-hf")
    device: str = _name("catalog name of the GPU", "a100")
    node: str | None = _name("catalog name; decides the links between GPUs", "a100_dgx", default=None)
    dtype: Dtype = _setting(
        "type of activations, and of weights that are not quantised", "a type", "bfloat16", default="bfloat16"
    )
    quantization: Quantization | None = _setting(
        "precision of the weights of the layers; null: as the model is published", "a precision", "fp8", default=None
    )
    kv_cache_dtype: KvCacheDtype = _setting("auto (as dtype) or fp8", "a type", "fp8", default="auto")
    tensor_parallel_size: int = _count("GPUs that share a layer", 2, 1, 1024)
    pipeline_parallel_size: int = _count("stages that share the layers", 2, 1, 1024)
    enable_expert_parallel: bool = _setting(
        "the GPUs of a stage share the experts, not each expert", "true or false", True, default=False
    )
    all2all_backend: AllToAll = _setting(
        "how tokens meet their experts: all on every GPU, or exchanged (deepep)",
        "a way",
        "deepep",
        default="allgather_reducescatter",
    )
    moe_imbalance: float = _setting(
        "tokens of the busiest GPU over the mean, under expert parallelism",
        "a number from 1 up",
        1.2,
        default=1.0,
        ge=1,
        le=1024,
    )
    num_replicas: int = _count("copies of the model", 4, 1, 100_000)
    router: Router = _setting("router", "a group of settings", {"policy": "random"}, default=Router())
    max_model_len: int | None = _count("tokens of prompt and output", 4096, None, 2**24)
    gpu_memory_utilization: float = _setting(
        "share of the GPU memory in use", "a fraction above 0 up to 1", 0.9, default=0.9, gt=0, le=1
    )
    memory: Memory = _setting("memory", "a group of settings", {"planner": "vidur"}, default=Memory())
    scheduler: Scheduler = _setting("scheduler", "a group of settings", {"policy": "vllm"}, default=Scheduler())
    predictor: Predictor = _setting("predictor", "a group of settings", {"compose": "vidur"}, default=Predictor())
    seed: int = _count("of every random draw", 0, 0, 2**63 - 1, least=0)

    @classmethod
    def load(
        cls,
        source: "str | Path | Mapping[str, Any] | Deployment | None" = None,
        overrides: Sequence[str] = (),
    ) -> Self:
        """A deployment from a file, a mapping or the shipped default (None), with ``a.b=value`` overrides.

        The config.json of a result gives the deployment that was simulated; ``-`` reads YAML from standard input.
        Raises ConfigError with the first few faults, each by its place, value and a valid value.
        """
        if isinstance(source, Deployment):
            document = Document(source.model_dump(warnings=False))
        elif isinstance(source, Mapping):
            document = Document(dict(source))
        else:
            document = read(DEFAULT_FILE if source is None else source)
            if isinstance(document.values.get("deployment"), dict):  # the config.json of a result
                document = replace(document, values=document.values["deployment"])
        return validate(cls, with_overrides(document, overrides, cls))


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
    model, device = catalog.load_model(deployment.model), catalog.load_device(deployment.device)
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
    if deployment.all2all_backend == "deepep" and not deployment.enable_expert_parallel:
        raise ConfigError("all2all_backend: 'deepep' needs enable_expert_parallel (valid: allgather_reducescatter)")
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
    ):
        if value == "vidur" and why is not None:
            raise ConfigError(f"{field}: 'vidur' knows nothing of {why} (valid: fastsim)")


def _node(deployment: Deployment, device: Device) -> Node:
    if deployment.node is None:
        return catalog.default_node(device)
    node = catalog.load_node(deployment.node)
    if node.device not in (None, device.name):
        nodes = [catalog.load_node(name) for name in catalog.names("nodes")]
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
        "max_waiting_iters": 10 if given.max_waiting_iters is None else given.max_waiting_iters,
    }
    in_catalog = model.name in catalog.names("models")
    filled = {
        "model": model.name if in_catalog else str(Path(model.name).absolute()),
        "quantization": deployment.quantization or model.quantization or "none",
        "device": device.name,
        "node": node.name,
        "max_model_len": max_model_len,
        "scheduler": given.model_copy(update=scheduler),
        "predictor": predictor.model_copy(update={"source": _source(predictor.source)}),
    }
    return deployment.model_copy(update=filled)


def _source(source: str) -> str:
    kind, _, folder = source.partition(":")
    if source == "default":
        return source
    if kind == "tables" and folder:
        return f"tables:{Path(folder).absolute()}"
    if kind == "tables":
        raise ConfigError(f"predictor.source: {source!r} names no folder (e.g. tables:my_tables)")
    if kind in LATER_PREDICTORS:
        available = ", ".join(PREDICTORS)
        raise ConfigError(f"predictor.source: {source!r} is not part of this version (available: {available})")
    raise ConfigError(f"predictor.source: {source!r} is unknown; {did_you_mean(source, PREDICTORS)}")


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
        return memory.plan(model, device, layout)
    except DoesNotFitError as error:
        way_out = parallelism.advice(model, device, node, layout, scheduler.policy != "lightllm")
        raise DoesNotFitError(f"{error}; {way_out}") from None


def _most_tokens(filled: Deployment) -> int:
    """Tokens of the largest iteration; Orca and FasterTransformer have no limit, so one longest prompt."""
    scheduler = filled.scheduler
    assert filled.max_model_len and scheduler.chunk_size and scheduler.max_num_batched_tokens
    match scheduler.policy:
        case "sarathi":
            tokens = scheduler.chunk_size
        case "vllm" | "lightllm":
            tokens = scheduler.max_num_batched_tokens
        case _:
            tokens = filled.max_model_len
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

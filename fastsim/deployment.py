"""What is simulated: a frozen description, and its resolved copy with every default filled.

``resolve`` refuses what cannot run; the predictors, the kernels and the results see resolved deployments only.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field

from fastsim import catalog, memory
from fastsim.catalog import Device, Model, Node
from fastsim.documents import Document, read, validate, with_overrides
from fastsim.errors import ConfigError, DoesNotFitError, InputError, did_you_mean
from fastsim.memory import Layout, MemoryPlan

Policy = Literal["vllm", "sarathi", "orca", "lightllm", "faster_transformer"]
RouterPolicy = Literal["round_robin", "random", "least_outstanding", "least_waiting", "pinned"]
Planner = Literal["fastsim", "vidur"]
Compose = Literal["fastsim", "vidur"]

PREDICTORS = ("default", "tables:DIR")
LATER_PREDICTORS = ("aic", "vidur:", "profile:")
DEFAULT_FILE = Path(__file__).parent / "data" / "default.yaml"

# description: what follows "is not" in a message; examples: a valid value.
Name = Annotated[str, Field(min_length=1, max_length=4096, description="a name")]
Parallelism = Annotated[int, Field(gt=0, le=1024, description="a positive integer", examples=[2])]
Tokens = Annotated[int, Field(gt=0, le=2**24, description="a positive integer up to 2^24")]


class _Settings(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)


class Router(_Settings):
    """Which replica a request goes to."""

    policy: RouterPolicy = Field("round_robin", description="a router", examples=["round_robin"])


class Memory(_Settings):
    """Who says how many KV blocks there are: fastsim (as vLLM profiles), or vidur (its formula, for parity)."""

    planner: Planner = Field("fastsim", description="a planner", examples=["fastsim"])


class Scheduler(_Settings):
    """How a replica forms its batches; limits that a policy does not have are ignored."""

    policy: Policy = Field("sarathi", description="a scheduling policy", examples=["sarathi"])
    max_num_seqs: int = Field(
        128, gt=0, le=2**16, description="a positive integer up to 65536", examples=[128]
    )  # requests that run at once; under pipeline parallelism all micro-batches together
    max_num_batched_tokens: Tokens | None = Field(None, examples=[4096])  # of an iteration: vllm, lightllm
    chunk_size: Tokens | None = Field(None, examples=[512])  # tokens of an iteration: sarathi
    block_size: int | None = Field(
        None, gt=0, le=2**16, description="a positive integer up to 65536", examples=[16]
    )  # tokens
    watermark: float = Field(0.01, ge=0, lt=1, description="a fraction from 0 to below 1", examples=[0.01])
    max_waiting_iters: int | None = Field(
        None, ge=0, le=2**31 - 1, description="an integer from 0", examples=[10]
    )  # lightllm: decode iterations between prefills
    num_blocks: int | None = Field(
        None, gt=0, le=2**31 - 1, description="a positive integer", examples=[8192]
    )  # None: the memory planner decides


class Predictor(_Settings):
    """Where operator times come from, and how they are composed to the time of an iteration."""

    source: Name = Field("default", description="a predictor", examples=["default"])  # default | tables:DIR
    compose: Compose = Field("fastsim", description="a composition", examples=["fastsim"])


class Deployment(_Settings):
    """A model on a cluster: the contract of deployment files. None means: ``resolve`` fills it."""

    model: Name = Field(examples=["meta-llama/Llama-2-7b-hf"])  # or a path to a Hugging Face config.json
    device: Name = Field(examples=["a100"])
    node: Name | None = Field(None, examples=["a100_dgx"])
    tensor_parallel_size: Parallelism = 1
    pipeline_parallel_size: Parallelism = 1
    num_replicas: int = Field(
        1, gt=0, le=100_000, description="a positive integer up to 100000", examples=[4]
    )
    router: Router = Field(Router(), description="a group of settings", examples=[{"policy": "random"}])
    max_model_len: Tokens | None = Field(None, examples=[4096])  # tokens of prompt and output
    gpu_memory_utilization: float = Field(
        0.9, gt=0, le=1, description="a fraction above 0 and up to 1", examples=[0.9]
    )
    memory: Memory = Field(Memory(), description="a group of settings", examples=[{"planner": "fastsim"}])
    scheduler: Scheduler = Field(
        Scheduler(), description="a group of settings", examples=[{"policy": "sarathi"}]
    )
    predictor: Predictor = Field(
        Predictor(), description="a group of settings", examples=[{"source": "default"}]
    )
    seed: int = Field(0, ge=0, lt=2**63, description="an integer from 0", examples=[0])

    @classmethod
    def load(
        cls,
        source: "str | Path | Mapping[str, Any] | Deployment | None" = None,
        overrides: Sequence[str] = (),
    ) -> Self:
        """A deployment from a file, a mapping or the shipped default (None), with ``a.b=value`` overrides.

        ``-`` reads YAML from standard input. Raises ConfigError with the first few faults, each by file, line,
        setting, value and a valid value.
        """
        if isinstance(source, Deployment):
            document = Document(source.model_dump())
        elif isinstance(source, Mapping):
            document = Document(dict(source))
        else:
            document = read(DEFAULT_FILE if source is None else source)
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
        """Requests that Orca and FasterTransformer keep in a batch: what fits at full length, up to the cap."""
        return min(self.memory.max_batch_size, self.deployment.scheduler.max_num_seqs)

    @property
    def num_gpus(self) -> int:
        """GPUs of the whole cluster."""
        deployment = self.deployment
        return deployment.num_replicas * deployment.tensor_parallel_size * deployment.pipeline_parallel_size


def resolve(deployment: Deployment) -> Resolved:
    """Fill every default and refuse what cannot run.

    Defaults that depend on others: node, the catalog's first of the device; max_model_len, the context the model
    was trained for; block_size 16 (lightllm 1); chunk_size 512; max_num_batched_tokens, the larger of 4096 and
    max_model_len, so that every prompt can be scheduled (vLLM v0's rule); max_waiting_iters 10; num_blocks, what
    the memory planner finds. Names become the catalog's spelling, relative paths absolute. Raises CatalogError,
    ConfigError or DoesNotFitError.
    """
    deployment = Deployment.load(deployment)  # model_copy(update=...) does not validate
    model, device = catalog.load_model(deployment.model), catalog.load_device(deployment.device)
    node = _node(deployment, device)
    _check_parallelism(deployment, model, node)
    filled = _fill(deployment, model, device, node)
    plan = _plan(filled, model, device, node)
    scheduler = filled.scheduler.model_copy(update={"num_blocks": plan.num_blocks})
    resolved = filled.model_copy(update={"scheduler": scheduler})
    return Resolved(
        resolved, model, device, node, plan, tuple(_warnings(resolved, deployment, model, device, plan))
    )


def _node(deployment: Deployment, device: Device) -> Node:
    if deployment.node is None:
        return catalog.default_node(device)
    node = catalog.load_node(deployment.node)
    if node.device not in (None, device.name):
        fitting = [
            name for name in catalog.names("nodes") if catalog.load_node(name).device in (None, device.name)
        ]
        raise ConfigError(
            f"node: {node.name!r} is made of {node.device}, not of {device.name} (valid: {', '.join(fitting)})"
        )
    return node


def _check_parallelism(deployment: Deployment, model: Model, node: Node) -> None:
    tp, pp = deployment.tensor_parallel_size, deployment.pipeline_parallel_size
    sizes = [size for size in _tensor_sizes(model) if size <= node.num_devices]
    if tp > node.num_devices:
        raise ConfigError(
            f"tensor_parallel_size: {tp} is more than the {node.num_devices} GPUs of a {node.name} node "
            f"(valid: {', '.join(map(str, sizes))})"
        )
    if tp not in sizes:
        what = (
            f"{model.num_attention_heads} attention heads, {model.num_key_value_heads} KV heads and "
            f"intermediate_size {model.intermediate_size}"
        )
        raise ConfigError(
            f"tensor_parallel_size: {tp} does not divide the {what} of {model.name} "
            f"(valid: {', '.join(map(str, sizes))})"
        )
    if model.num_layers % pp:
        raise ConfigError(
            f"pipeline_parallel_size: {pp} does not divide the {model.num_layers} layers of {model.name} "
            f"(valid: {', '.join(map(str, _divisors(model.num_layers)))})"
        )
    scheduler = deployment.scheduler
    if scheduler.max_num_seqs < pp:
        raise ConfigError(
            f"scheduler.max_num_seqs: {scheduler.max_num_seqs} leaves a pipeline stage without a request "
            f"(valid: pipeline_parallel_size {pp} or more)"
        )
    if scheduler.policy == "lightllm" and scheduler.block_size not in (None, 1):
        raise ConfigError(
            f"scheduler.block_size: {scheduler.block_size} is not possible with lightllm (valid: 1)"
        )
    if scheduler.policy == "lightllm" and pp > 1:
        raise ConfigError(f"pipeline_parallel_size: {pp} is not possible with lightllm (valid: 1)")


def _tensor_sizes(model: Model) -> list[int]:
    """Sizes that split the heads and the MLP evenly; with more ranks than KV heads, these are replicated."""
    kv = model.num_key_value_heads
    return [
        size
        for size in _divisors(model.num_attention_heads)
        if (kv % size == 0 or size % kv == 0) and model.intermediate_size % size == 0
    ]


def _divisors(number: int) -> list[int]:
    return [size for size in range(1, min(number, 1024) + 1) if number % size == 0]


def _fill(deployment: Deployment, model: Model, device: Device, node: Node) -> Deployment:
    given = deployment.scheduler
    max_model_len = deployment.max_model_len or model.max_position_embeddings
    block_size = given.block_size or (1 if given.policy == "lightllm" else 16)
    waiting = 10 if given.max_waiting_iters is None else given.max_waiting_iters
    scheduler = given.model_copy(
        update={
            "max_num_batched_tokens": given.max_num_batched_tokens or max(4096, max_model_len),
            "chunk_size": given.chunk_size or 512,
            "block_size": block_size,
            "max_waiting_iters": waiting,
        }
    )
    source = _source(deployment.predictor.source)
    update = {
        "model": model.name if model.name in catalog.names("models") else str(Path(model.name).absolute()),
        "device": device.name,
        "node": node.name,
        "max_model_len": max_model_len,
        "scheduler": scheduler,
        "predictor": deployment.predictor.model_copy(update={"source": source}),
    }
    return deployment.model_copy(update=update)


def _source(source: str) -> str:
    kind, colon, folder = source.partition(":")
    if source == "default":
        return source
    if kind == "tables" and folder:
        return f"tables:{Path(folder).expanduser().absolute()}"
    available = f"available: {', '.join(PREDICTORS)}"
    if kind in {later.rstrip(":") for later in LATER_PREDICTORS}:
        raise ConfigError(f"predictor.source: {source!r} is not part of this version; {available}")
    if kind == "tables":
        raise ConfigError(f"predictor.source: {source!r} names no folder (e.g. tables:my_tables)")
    raise ConfigError(f"predictor.source: {source!r} is unknown; {did_you_mean(source, PREDICTORS)}")


def _plan(deployment: Deployment, model: Model, device: Device, node: Node) -> MemoryPlan:
    scheduler = deployment.scheduler
    assert deployment.max_model_len and scheduler.block_size  # filled
    layout = Layout(
        tensor_parallel_size=deployment.tensor_parallel_size,
        pipeline_parallel_size=deployment.pipeline_parallel_size,
        max_model_len=deployment.max_model_len,
        gpu_memory_utilization=deployment.gpu_memory_utilization,
        planner=deployment.memory.planner,
        block_size=scheduler.block_size,
        watermark=scheduler.watermark,
        max_num_seqs=scheduler.max_num_seqs,
        max_iteration_tokens=_most_tokens(deployment),
        num_blocks=scheduler.num_blocks,
    )
    try:
        return memory.plan(model, device, layout)
    except DoesNotFitError as error:
        tensor_sizes = [size for size in _tensor_sizes(model) if size <= node.num_devices]
        pipeline_sizes = [1] if scheduler.policy == "lightllm" else _divisors(model.num_layers)
        pair = memory.parallelism_that_fits(model, device, layout, tensor_sizes, [1]) or (
            memory.parallelism_that_fits(model, device, layout, tensor_sizes, pipeline_sizes)
        )
        if pair is None:
            advice = "no parallelism fits; take a device with more memory or raise gpu_memory_utilization"
        else:
            tp, pp = pair
            advice = f"fits with tensor_parallel_size {tp}" + (
                f" and pipeline_parallel_size {pp}" if pp > 1 else ""
            )
        raise DoesNotFitError(f"{error}; {advice}") from None


def _most_tokens(deployment: Deployment) -> int:
    """Tokens of the largest iteration. Orca and FasterTransformer have no limit: one longest prompt is taken."""
    scheduler = deployment.scheduler
    assert deployment.max_model_len and scheduler.chunk_size and scheduler.max_num_batched_tokens  # filled
    match scheduler.policy:
        case "sarathi":
            return max(scheduler.chunk_size, scheduler.max_num_seqs)
        case "vllm" | "lightllm":
            return max(scheduler.max_num_batched_tokens, scheduler.max_num_seqs)
        case _:
            return max(deployment.max_model_len, scheduler.max_num_seqs)


def _warnings(
    resolved: Deployment, given: Deployment, model: Model, device: Device, plan: MemoryPlan
) -> "list[str]":
    scheduler, length = resolved.scheduler, resolved.max_model_len or 0
    found = []
    if length > model.max_position_embeddings:
        found.append(
            f"max_model_len: {length} is beyond the {model.max_position_embeddings} tokens {model.name} was made for"
        )
    if model.sliding_window is not None and length > model.sliding_window:
        found.append(
            f"model: {model.name} attends to a window of {model.sliding_window} tokens; all {length} are simulated"
        )
    capacity = plan.num_blocks * (scheduler.block_size or 1)
    if capacity < length:
        found.append(
            f"scheduler.num_blocks: {plan.num_blocks} hold {capacity} tokens, fewer than max_model_len {length}"
        )
    tokens = scheduler.max_num_batched_tokens or 0
    if scheduler.policy in ("vllm", "lightllm") and tokens < length:
        found.append(
            f"scheduler.max_num_batched_tokens: {tokens} is below max_model_len {length}; "
            "longer prompts can never be scheduled"
        )
    if given.scheduler.num_blocks is not None and plan.kv_gib + plan.weights_gib > device.memory_gib:
        found.append(
            f"scheduler.num_blocks: {plan.num_blocks} need {plan.kv_gib:.1f} GiB of each GPU; {device.name} has "
            f"{device.memory_gib:g} and the weights take {plan.weights_gib:.1f}"
        )
    return found

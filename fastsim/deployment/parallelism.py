"""Tensor and pipeline parallel sizes that a model allows, and the smallest that make it fit."""

from dataclasses import replace

from fastsim.catalog.hardware import Device, Node
from fastsim.catalog.model import Model
from fastsim.deployment.memory.plan import starts
from fastsim.deployment.memory.sizes import Layout
from fastsim.errors import ConfigError

MOST_STAGES = 16  # of a pipeline that is proposed


def shared_widths(model: Model, expert_parallel: bool) -> dict[str, int]:
    """Widths that tensor parallelism must divide evenly, by name; KV heads are replicated where there are too few."""
    widths = {"attention heads": model.num_attention_heads}
    kinds = {model.has_experts(layer) for layer in range(model.num_layers) if model.has_mlp(layer)}
    if False in kinds:
        widths["intermediate size"] = model.intermediate_size
    if True in kinds and expert_parallel:
        widths["experts"] = model.num_experts
    elif True in kinds:
        widths["expert intermediate size"] = model.moe_intermediate_size
    if model.linear:
        widths["heads of the linear mixer"] = model.linear.heads
    if True in kinds and model.shared_expert_intermediate_size:
        widths["shared expert intermediate size"] = model.shared_expert_intermediate_size
    return widths


def tensor_sizes(model: Model, node: Node, expert_parallel: bool = False) -> list[int]:
    """Sizes that split heads, MLP and experts evenly; where there are too few KV heads, these are replicated.

    Sizes go up to one node, and then to several whole nodes.
    """
    kv = 1 if model.kv_lora_rank else model.num_key_value_heads
    widths = shared_widths(model, expert_parallel).values()
    several = [number * node.num_devices for number in (2, 4, 8, 16)]
    return [
        size
        for size in [*range(1, node.num_devices + 1), *several]
        if all(width % size == 0 for width in widths) and (kv % size == 0 or size % kv == 0)
    ]


def pipeline_sizes(model: Model) -> list[int]:
    """Sizes that give every stage the same number of layers."""
    return [size for size in range(1, model.num_layers + 1) if model.num_layers % size == 0]


def check(model: Model, node: Node, tensor: int, expert_parallel: bool = False) -> None:
    """Raise ConfigError for a tensor parallel size that the model or the node does not allow."""
    valid = tensor_sizes(model, node, expert_parallel)
    if tensor > node.num_devices and tensor % node.num_devices:
        raise ConfigError(
            f"tensor_parallel_size: {tensor} is more than the {node.num_devices} GPUs of {node.name}, and does not "
            f"fill several whole nodes (valid: {_listed(valid)})"
        )
    if tensor not in valid:
        widths = shared_widths(model, expert_parallel)
        heads = widths.pop("attention heads")
        kv = [] if model.kv_lora_rank else [f"{model.num_key_value_heads} KV heads"]
        counted = [f"{width} experts" if name == "experts" else f"{name} {width}" for name, width in widths.items()]
        shapes = ", ".join([f"{heads} attention heads", *kv, *counted][:-1]) + " and " + [*kv, *counted][-1]
        raise ConfigError(
            f"tensor_parallel_size: {tensor} does not divide the {shapes} of {model.name} (valid: {_listed(valid)})"
        )


def advice(model: Model, device: Device, node: Node, layout: Layout, may_pipeline: bool) -> str:
    """Say how a model that does not fit would fit: the smallest tensor parallel size of a node, else the fewest GPUs
    in a pipeline of nodes, else the smallest tensor parallel size of several nodes.
    """

    def fits(tensor: int, pipeline: int) -> bool:
        split = replace(layout, tensor_parallel_size=tensor, pipeline_parallel_size=pipeline, pipeline_layers=None)
        return starts(model, device, split)

    tensors = tensor_sizes(model, node, layout.expert_parallel)
    pipelines = range(1, min(MOST_STAGES, model.num_layers) + 1) if may_pipeline else [1]
    pairs = [(tensor, pipeline) for pipeline in pipelines for tensor in tensors]
    # Pipelines are proposed only where no tensor parallel size is enough, and all-reduces between nodes only where no
    # pipeline is.
    pairs.sort(key=lambda pair: (pair[0] > node.num_devices, pair[1] > 1, pair[0] * pair[1], pair[1]))
    fitting = next((pair for pair in pairs if fits(*pair)), None)
    if fitting is None:
        return "no parallelism makes it fit; take a device with more memory, or a shorter max_model_len"
    more = f" and pipeline_parallel_size={fitting[1]}" if fitting[1] > 1 else ""
    return f"it fits with tensor_parallel_size={fitting[0]}{more}"


def _listed(sizes: list[int]) -> str:
    return ", ".join(map(str, sizes))

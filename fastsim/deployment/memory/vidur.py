"""The memory of a GPU as Vidur plans it."""

from math import ceil

from fastsim.catalog.hardware import Device
from fastsim.catalog.model import Model

from .reserve import BYTES
from .sizes import GIB, Layout


def vidur_params_per_device(model: Model, layout: Layout) -> int:
    """Weights on one GPU as Vidur's ParamCounter counts them: without embedding, LM head, norms and biases."""
    tp, hidden = layout.tensor_parallel_size, model.hidden_size
    heads = model.num_attention_heads // tp
    attention = hidden * model.head_dim * (2 * heads + 2 * ceil(model.num_key_value_heads / tp))
    mlp = (3 if model.gated_mlp else 2) * hidden * model.intermediate_size // tp
    return model.num_layers // layout.pipeline_parallel_size * (attention + mlp)


def vidur_max_batch_size(model: Model, device: Device, layout: Layout) -> int:
    """Sequences of max_model_len that fit by Vidur's MemoryPlanner, which counts the KV cache of *all* layers on each
    GPU.
    """
    usable = device.memory_gib * GIB * layout.gpu_memory_utilization
    free = usable - BYTES * vidur_params_per_device(model, layout)
    return int(free // _vidur_sequence_bytes(model, layout))


def _vidur_sequence_bytes(model: Model, layout: Layout) -> int:
    heads = ceil(model.num_key_value_heads / layout.tensor_parallel_size)
    return 2 * BYTES * model.head_dim * heads * layout.max_model_len * model.num_layers


def _vidur_blocks_per_sequence(layout: Layout) -> int:
    return max(1, layout.max_model_len // layout.block_size)

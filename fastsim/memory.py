"""How many KV blocks fit: our planner, and Vidur's for parity. Weights and KV cache are those of the operators."""

from dataclasses import dataclass
from math import ceil
from typing import Literal

from fastsim.catalog.hardware import Device
from fastsim.catalog.model import Model
from fastsim.errors import DoesNotFitError
from fastsim.operators import Operators, operators

GIB = 2**30
BYTES = 2  # of a bf16 or fp16 element

# Fitted to the KV blocks that vLLM 0.15 reported for nine models on H100 80GB (tests/test_memory.py).
CONTEXT_GIB = 1.0  # CUDA context, libraries and allocator slack, and memory the driver keeps for itself
COMMUNICATION_GIB = 0.35  # NCCL and all-reduce buffers under tensor parallelism; aiconfigurator: 342-392 MiB
LOGIT_COPIES = 9  # of float32[max_num_seqs, vocab_size]: logits, sorted values and int64 indices, probabilities,
# cumulated probabilities, scattered logits, noise: what a vLLM sampler with top-k and top-p holds at once


@dataclass(frozen=True, slots=True)
class Layout:
    """What the planner needs to know of a deployment."""

    tensor_parallel_size: int
    pipeline_parallel_size: int
    max_model_len: int  # tokens
    gpu_memory_utilization: float
    planner: Literal["fastsim", "vidur"]
    block_size: int  # tokens
    watermark: float
    max_num_seqs: int
    max_iteration_tokens: int  # most tokens of one iteration, as vLLM's profile run has them
    num_blocks: int | None = None  # given by the user, else planned
    precision: str = "bf16"  # of the weights (operators.WEIGHT_BYTES)
    kv_precision: str = "bf16"
    expert_parallel: bool = False


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """KV blocks of one replica, and the memory of its fullest GPU."""

    num_blocks: int
    max_batch_size: int  # sequences of max_model_len that fit at once: the batch limit of Orca and FasterTransformer
    blocks_per_sequence: int  # of max_model_len tokens
    watermark_blocks: int
    weights_gib: float
    kv_gib: float
    reserve_gib: float  # what may be neither weights nor KV cache
    block_bytes: int  # of one block on one GPU: the layers of a stage


def plan(model: Model, device: Device, layout: Layout) -> MemoryPlan:
    """Plan the memory of one replica. Raises DoesNotFitError when no KV block is left.

    The watermark is vLLM v0's: ``int(watermark * num_blocks)`` blocks stay free when a request is admitted.
    """
    return _plan_vidur(model, device, layout) if layout.planner == "vidur" else _plan(model, device, layout)


def blocks_that_fit(model: Model, device: Device, layout: Layout) -> int:
    """KV blocks of a replica by the memory alone, zero or less when even the weights do not fit."""
    if layout.planner == "vidur":
        batch = vidur_max_batch_size(model, device, layout)
        return _vidur_blocks_per_sequence(layout) * batch * layout.pipeline_parallel_size
    stages = range(layout.pipeline_parallel_size)
    return min(_free_bytes(model, device, layout, stage) for stage in stages) // block_bytes(model, layout)


def block_bytes(model: Model, layout: Layout) -> int:
    """Bytes of one KV block on one GPU: what its stage's layers keep of each token, for its rank's heads."""
    return _stage(model, layout, 0).kv_bytes_per_token() * layout.block_size


def weight_bytes(model: Model, layout: Layout, stage: int) -> int:
    """Bytes of the weights on one GPU of a stage: layers, on the first the embedding, on the last the head.

    Matrices are divided by the tensor parallel size; KV heads are replicated when there are more ranks than
    heads, as vLLM does; norms, routers and what compresses a latent KV are not divided. Embedding and head are in
    16 bits. Learned position embeddings are left out.
    """
    found = _stage(model, layout, stage)
    total = found.weight_bytes()
    vocabulary = BYTES * found.embedding.weights
    first, last = stage == 0, stage == layout.pipeline_parallel_size - 1
    if first:
        total += vocabulary
    if last:
        total += BYTES * found.final_norm.weights + (0 if first and model.tie_word_embeddings else vocabulary)
    return total


def _stage(model: Model, layout: Layout, stage: int) -> Operators:
    """Operators of the layers of a stage."""
    number = model.num_layers // layout.pipeline_parallel_size
    return operators(
        model,
        layout.tensor_parallel_size,
        precision=layout.precision,
        kv_precision=layout.kv_precision,
        expert_parallel=layout.expert_parallel,
        layers=range(stage * number, (stage + 1) * number),
    )


def reserve_bytes(model: Model, layout: Layout, stage: int) -> int:
    """Bytes on one GPU that are neither weights nor KV cache.

    As vLLM's profile run leaves them: the context; buffers of collectives; for every token of the largest
    iteration its hidden state, its residual and what the gate and up projections give, of a layer of experts also
    their outputs; on the last stage the float32 logits of max_num_seqs sequences, in as many copies as sampling
    holds.
    """
    tp = layout.tensor_parallel_size
    reserve = CONTEXT_GIB + (COMMUNICATION_GIB if tp > 1 else 0)
    projections = 2 if model.gated_mlp else 1
    width = projections * model.intermediate_size // tp
    if model.num_experts:
        expert = 2 * model.moe_intermediate_size // (1 if layout.expert_parallel else tp) + model.hidden_size
        width = model.num_experts_per_tok * expert
    activations = BYTES * layout.max_iteration_tokens * (2 * model.hidden_size + width)
    last = stage == layout.pipeline_parallel_size - 1
    logits = 4 * LOGIT_COPIES * layout.max_num_seqs * model.vocab_size if last else 0
    return int(reserve * GIB) + activations + logits


def _free_bytes(model: Model, device: Device, layout: Layout, stage: int) -> int:
    usable = int(device.memory_gib * GIB * layout.gpu_memory_utilization)
    return usable - weight_bytes(model, layout, stage) - reserve_bytes(model, layout, stage)


def _plan(model: Model, device: Device, layout: Layout) -> MemoryPlan:
    size, fitting = block_bytes(model, layout), blocks_that_fit(model, device, layout)
    if fitting <= 0:
        raise DoesNotFitError(_why_not(model, device, layout))
    stages = range(layout.pipeline_parallel_size)
    fullest = min(stages, key=lambda stage: _free_bytes(model, device, layout, stage))
    num_blocks = fitting if layout.num_blocks is None else layout.num_blocks
    per_sequence = ceil(layout.max_model_len / layout.block_size)
    return MemoryPlan(
        num_blocks=num_blocks,
        max_batch_size=max(1, num_blocks // (per_sequence * layout.pipeline_parallel_size)),
        blocks_per_sequence=per_sequence,
        watermark_blocks=int(layout.watermark * num_blocks),
        weights_gib=weight_bytes(model, layout, fullest) / GIB,
        kv_gib=num_blocks * size / GIB,
        reserve_gib=reserve_bytes(model, layout, fullest) / GIB,
        block_bytes=size,
    )


def _why_not(model: Model, device: Device, layout: Layout) -> str:
    stages = range(layout.pipeline_parallel_size)
    fullest = min(stages, key=lambda stage: _free_bytes(model, device, layout, stage))
    weights = weight_bytes(model, layout, fullest) / GIB
    reserve = reserve_bytes(model, layout, fullest) / GIB
    usable = device.memory_gib * layout.gpu_memory_utilization
    missing = (block_bytes(model, layout) - _free_bytes(model, device, layout, fullest)) / GIB
    share = f"{layout.gpu_memory_utilization:g} of {device.memory_gib:g}"
    return (
        f"model: {model.name} needs {weights:.1f} GiB of weights and {reserve:.1f} GiB to work in per GPU, "
        f"{device.name} offers {usable:.1f} GiB ({share}): {max(missing, 0.1):.1f} GiB are missing"
    )


def vidur_params_per_device(model: Model, layout: Layout) -> int:
    """Weights of one GPU as Vidur counts them (its ParamCounter): no embedding, LM head, norms or biases."""
    tp, hidden = layout.tensor_parallel_size, model.hidden_size
    heads = model.num_attention_heads // tp
    attention = hidden * model.head_dim * (2 * heads + 2 * ceil(model.num_key_value_heads / tp))
    mlp = (3 if model.gated_mlp else 2) * hidden * model.intermediate_size // tp
    return model.num_layers // layout.pipeline_parallel_size * (attention + mlp)


def vidur_max_batch_size(model: Model, device: Device, layout: Layout) -> int:
    """Vidur's MemoryPlanner: sequences of max_model_len that fit, counting the KV cache of *all* layers."""
    usable = device.memory_gib * GIB * layout.gpu_memory_utilization
    free = usable - BYTES * vidur_params_per_device(model, layout)
    return int(free // _vidur_sequence_bytes(model, layout))


def _vidur_sequence_bytes(model: Model, layout: Layout) -> int:
    heads = ceil(model.num_key_value_heads / layout.tensor_parallel_size)
    return 2 * BYTES * model.head_dim * heads * layout.max_model_len * model.num_layers


def _vidur_blocks_per_sequence(layout: Layout) -> int:
    return max(1, layout.max_model_len // layout.block_size)


def _plan_vidur(model: Model, device: Device, layout: Layout) -> MemoryPlan:
    """Vidur's plan: a block pool of ``(max_model_len // block_size) * max_batch * stages``."""
    batch = vidur_max_batch_size(model, device, layout)
    weights = BYTES * vidur_params_per_device(model, layout) / GIB
    usable = device.memory_gib * layout.gpu_memory_utilization
    if batch <= 0:
        sequence = _vidur_sequence_bytes(model, layout) / GIB
        raise DoesNotFitError(
            f"model: {model.name} needs per GPU {weights:.1f} GiB of weights and {sequence:.1f} GiB for one "
            f"sequence of max_model_len {layout.max_model_len}, {device.name} offers {usable:.1f} GiB: "
            f"{max(weights + sequence - usable, 0.1):.1f} GiB are missing"
        )
    fitting = blocks_that_fit(model, device, layout)
    num_blocks = fitting if layout.num_blocks is None else layout.num_blocks
    size = block_bytes(model, layout)
    return MemoryPlan(
        num_blocks=num_blocks,
        max_batch_size=batch,
        blocks_per_sequence=_vidur_blocks_per_sequence(layout),
        watermark_blocks=int(layout.watermark * num_blocks),
        weights_gib=weights,
        kv_gib=num_blocks * size / GIB,
        reserve_gib=device.memory_gib - usable,
        block_bytes=size,
    )

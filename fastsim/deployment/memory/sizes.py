"""Sizes in the memory of a GPU: weights, one KV block, and what is reserved beside them."""

from dataclasses import dataclass
from typing import Literal

from fastsim.catalog.model import Model
from fastsim.catalog.quantization import Quantization, uniform
from fastsim.deployment import stages
from fastsim.deployment.operators.decoder import Operators, operators

from . import reserve
from .loaded import TRITON, Padding, added_bytes
from .reserve import BYTES, UP_TO_0_16, Reserve

GIB = 2**30


@dataclass(frozen=True, slots=True)
class Layout:
    """The part of a deployment that decides how its memory is used."""

    tensor_parallel_size: int
    pipeline_parallel_size: int
    max_model_len: int  # tokens
    gpu_memory_utilization: float
    planner: Literal["fastsim", "vidur"]
    block_size: int  # tokens
    watermark: float
    max_num_seqs: int
    max_iteration_tokens: int  # most tokens of one iteration, which vLLM's profile run processes
    num_blocks: int | None = None  # given by the user, else planned
    precision: str | Quantization = "bf16"  # of each module's weights, or of all of them
    kv_precision: str = "bf16"
    expert_parallel: bool = False
    redundant_experts: int = 0
    pipeline_layers: tuple[int, ...] | None = None  # of each stage; None: as vLLM cuts them
    padding: Padding = TRITON  # of experts in mxfp4
    null_blocks: int = 0  # planned blocks that hold no tokens: vLLM V1 keeps one
    reserve: Reserve = UP_TO_0_16  # what the engine takes beside weights and KV cache
    counts_graphs: bool = False  # whether CUDA graphs are a part of that
    data_parallel_size: int = 1  # ranks that divide the experts
    static_pool: bool = False  # weights and KV cache get a share of the memory that is free before, as in SGLang


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """The KV blocks of one replica, and the memory of its fullest GPU."""

    num_blocks: int
    max_batch_size: int  # sequences of max_model_len that fit at once: the batch limit of Orca and FasterTransformer
    blocks_per_sequence: int  # of max_model_len tokens
    watermark_blocks: int
    weights_gib: float
    kv_gib: float
    reserve_gib: float  # holds neither weights nor KV cache
    block_bytes: int  # of one KV block on one GPU
    kv_tokens: int  # of requests of max_model_len that fit at once: what vLLM logs as the size of its KV cache


def block_bytes(model: Model, layout: Layout, stage: int = 0) -> int:
    """Bytes of one KV block on one GPU of a stage: keys and values of ``block_size`` tokens, for its layers and
    heads.
    """
    return stage_operators(model, layout, stage).kv_bytes_per_token() * layout.block_size


def weight_bytes(model: Model, layout: Layout, stage: int) -> int:
    """Bytes of the weights on one GPU of a stage: its layers, the embedding on the first stage, the head on the last.

    Tensor parallelism divides the matrices. Where there are more ranks than KV heads, these are replicated, as in vLLM.
    Norms, routers, learned and rotary positions and the compression of a latent KV cache are not divided. The embedding
    is in 16 bits, and so are the encoders of images and sound, which the first stage holds. What an engine adds when it
    loads them counts too.
    """
    ops = stage_operators(model, layout, stage)
    weights = (
        uniform(layout.precision, model.num_experts > 0) if isinstance(layout.precision, str) else layout.precision
    )
    total = ops.weight_bytes() + added_bytes(model, ops, weights, _layers(model, layout, stage), layout.padding)
    vocabulary = BYTES * ops.embedding.weights
    first, last = stage == 0, stage == layout.pipeline_parallel_size - 1
    if first:
        total += vocabulary + BYTES * model.position_embeddings * model.hidden_size
        total += BYTES * -(-(model.tower_parameters + model.layer_embeddings) // layout.tensor_parallel_size)
    if ops.attentions:
        total += rope_bytes(model)
    if last:
        head = int(ops.lm_head.weight_bytes())
        total += BYTES * ops.final_norm.weights + (0 if first and model.tie_word_embeddings else head)
    return total


def rope_bytes(model: Model) -> int:
    """Bytes of the cosines and sines of all positions, which rotary embeddings look up; all layers share them."""
    if model.position_embeddings:
        return 0
    return BYTES * model.max_position_embeddings * (model.qk_rope_head_dim or model.head_dim)


def stage_operators(model: Model, layout: Layout, stage: int) -> Operators:
    """The operators of the layers of a stage."""
    return operators(
        model,
        layout.tensor_parallel_size,
        precision=layout.precision,
        kv_precision=layout.kv_precision,
        expert_parallel=layout.expert_parallel,
        layers=_layers(model, layout, stage),
        data_parallel_size=layout.data_parallel_size,
        redundant=layout.redundant_experts,
    )


def _layers(model: Model, layout: Layout, stage: int) -> range:
    cut = layout.pipeline_layers or stages.cut(model.num_layers, layout.pipeline_parallel_size)
    return stages.ranges(cut)[stage]


def reserve_bytes(model: Model, layout: Layout, stage: int) -> int:
    """Bytes on one GPU that can hold neither weights nor KV cache, as vLLM's profile run finds them.

    They are what CUDA takes, the buffers of collectives, what experts work in, and the peak of a run of the largest
    iteration: that of its layers, or on the last stage that of the sampler, if it is higher. Where CUDA graphs count,
    they are the last part. SGLang runs nothing before it plans: where ``static_pool`` they are what its share of the
    free memory is less than the same share of all.
    """
    if layout.static_pool:
        alone = layout.tensor_parallel_size == 1 and layout.pipeline_parallel_size == 1
        taken = reserve.SGLANG_CONTEXT_GIB + (0 if alone else reserve.SGLANG_COMMUNICATION_GIB)
        return int((taken * layout.gpu_memory_utilization + reserve.SGLANG_LOADED_GIB) * GIB)
    ops, tokens = stage_operators(model, layout, stage), layout.max_iteration_tokens
    peak = reserve.layer_bytes(model, ops, tokens)
    if stage == layout.pipeline_parallel_size - 1:
        peak = max(peak, reserve.sampler_bytes(layout.reserve, model, ops, layout.max_num_seqs, tokens))
    peak += reserve.workspace_bytes(layout.reserve, model, ops, tokens)
    if layout.counts_graphs:
        peak += reserve.graph_bytes(len(_layers(model, layout, stage)), layout.max_num_seqs)
    return peak + reserve.held_bytes(layout.reserve, layout.tensor_parallel_size, layout.pipeline_parallel_size)

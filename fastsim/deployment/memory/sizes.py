"""Sizes in the memory of a GPU: weights, one KV block, and what is reserved beside them."""

from dataclasses import dataclass
from typing import Literal

from fastsim.catalog.model import Model
from fastsim.catalog.quantization import Quantization
from fastsim.deployment import stages
from fastsim.deployment.operators.decoder import Operators, operators

GIB = 2**30
BYTES = 2  # of a bf16 or fp16 element

# Fitted to the KV blocks that vLLM 0.15 reported for nine models on H100 80GB (tests/deployment/test_memory.py).
CONTEXT_GIB = 1.0  # CUDA context, libraries and allocator slack, and memory the driver keeps for itself
COMMUNICATION_GIB = 0.35  # NCCL and all-reduce buffers under tensor parallelism; aiconfigurator: 342-392 MiB
LOGIT_COPIES = 9  # of float32[max_num_seqs, vocab_size]: logits, sorted values and int64 indices, probabilities,
# cumulated probabilities, scattered logits, noise: what a vLLM sampler with top-k and top-p holds at once


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
    pipeline_layers: tuple[int, ...] | None = None  # of each stage; None: as vLLM cuts them


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


def block_bytes(model: Model, layout: Layout, stage: int = 0) -> int:
    """Bytes of one KV block on one GPU of a stage: keys and values of ``block_size`` tokens, for its layers and
    heads.
    """
    return _stage(model, layout, stage).kv_bytes_per_token() * layout.block_size


def weight_bytes(model: Model, layout: Layout, stage: int) -> int:
    """Bytes of the weights on one GPU of a stage: its layers, the embedding on the first stage, the head on the last.

    Tensor parallelism divides the matrices. Where there are more ranks than KV heads, these are replicated, as in vLLM.
    Norms, routers, learned positions and the compression of a latent KV cache are not divided. The embedding is in 16
    bits, and so are the encoders of images and sound, which the first stage holds.
    """
    ops = _stage(model, layout, stage)
    total = ops.weight_bytes()
    vocabulary = BYTES * ops.embedding.weights
    first, last = stage == 0, stage == layout.pipeline_parallel_size - 1
    if first:
        total += vocabulary + BYTES * model.position_embeddings * model.hidden_size
        total += BYTES * -(-model.tower_parameters // layout.tensor_parallel_size)
    if last:
        head = int(ops.lm_head.weight_bytes())
        total += BYTES * ops.final_norm.weights + (0 if first and model.tie_word_embeddings else head)
    return total


def _stage(model: Model, layout: Layout, stage: int) -> Operators:
    """The operators of the layers of a stage."""
    cut = layout.pipeline_layers or stages.cut(model.num_layers, layout.pipeline_parallel_size)
    return operators(
        model,
        layout.tensor_parallel_size,
        precision=layout.precision,
        kv_precision=layout.kv_precision,
        expert_parallel=layout.expert_parallel,
        layers=stages.ranges(cut)[stage],
    )


def reserve_bytes(model: Model, layout: Layout, stage: int) -> int:
    """Bytes on one GPU that can hold neither weights nor KV cache, as vLLM's profile run finds them.

    They are the CUDA context; the buffers of collectives; for every token of the largest iteration its hidden state,
    its residual and the outputs of the gate and up projections (for a layer of experts also the experts' outputs); and
    on the last stage the float32 logits of max_num_seqs sequences, in as many copies as sampling holds. The states of
    linear mixers are kept for max_num_seqs sequences.
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
    states = layout.max_num_seqs * _stage(model, layout, stage).state_bytes_per_sequence()
    return int(reserve * GIB) + activations + logits + states

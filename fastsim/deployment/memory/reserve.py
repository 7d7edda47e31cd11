"""The memory of a GPU that can hold neither weights nor KV cache, as an engine's profile run finds it.

What an engine takes changed with releases of vLLM, so the constants are records, each fitted to logs of its releases in
tests/deployment/test_reserve.py, which prints the error of each log. vLLM 0.17 needs a third of the sampler's memory,
and 0.18 takes more in CUDA's libraries and collectives.
"""

from dataclasses import dataclass, replace

from fastsim.catalog.model import Model
from fastsim.deployment.operators.decoder import Operators

BYTES = 2  # of a bf16 or fp16 element
STATE_COPIES = 1.4  # of the hidden states of the largest batch, which are kept while the sampler runs
# SGLang divides what is free once CUDA and the groups of GPUs are set up, 0.7 GiB less than torch sees on one GPU and
# 1.7 to 2.5 GiB less on several (logs of eight servers on H100 and H200); what it holds after it has loaded the weights
# is 0.1 GiB more than they are. Activations and CUDA graphs are in the share that mem_fraction_static leaves.
SGLANG_CONTEXT_GIB = 0.7
SGLANG_COMMUNICATION_GIB = 1.2
SGLANG_LOADED_GIB = 0.1
BLOCK_FP8 = "fp8_block"
# CUDA graphs of a GPU, which vLLM captures for up to 51 sizes of batches, by the layers of its stage: fitted to what
# vLLM 0.19 estimates in its logs and does not take off the KV cache, as releases from 0.21 on do.
GRAPHS_GIB, GRAPHS_GIB_PER_LAYER = 0.16, 0.018
MAX_SIZES, MAX_CAPTURED = 51, 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Reserve:
    """What releases of an engine take on a GPU beside weights and KV cache.

    Attributes
    ----------
    context_gib : what CUDA's libraries take once the engine has measured the free memory.
    tensor_parallel_gib : buffers of NCCL and of the all-reduces of tensor parallelism.
    pipeline_gib : buffers of NCCL where only pipeline stages share a model.
    logit_copies : of float32[max_num_seqs, vocab_size] at the peak of the sampler.
    block_fp8_copies : of the same, which experts in block fp8 hold beside the sampler.
    expert_workspaces : of float16[tokens of the largest batch, experts of a token, hidden size], which the kernels of
        experts hold.
    """

    context_gib: float
    tensor_parallel_gib: float
    pipeline_gib: float
    logit_copies: float
    block_fp8_copies: float
    expert_workspaces: float


# The sampler with top-k and top-p holds logits in 16 and in 32 bits, sorted values and their int64 indices,
# probabilities, cumulated probabilities, masks, scattered logits and noise. Experts in block fp8 were seen to hold more
# beside it, in the one log that is known of them (vLLM 0.9, Qwen3-235B on 4 H100). It is counted in logits, as SGLang
# with a quarter of the sequences held little of it.
UP_TO_0_16 = Reserve(
    context_gib=0.4,
    tensor_parallel_gib=0.35,
    pipeline_gib=0.35,
    logit_copies=9.1,
    block_fp8_copies=3.0,
    expert_workspaces=0,
)
# From here on the sampler no longer sorts.
OF_0_17 = Reserve(
    context_gib=0.15,
    tensor_parallel_gib=0.35,
    pipeline_gib=0.35,
    logit_copies=3.66,
    block_fp8_copies=0,
    expert_workspaces=2,
)
FROM_0_18 = replace(OF_0_17, context_gib=0.25, tensor_parallel_gib=1.85, pipeline_gib=0)


def sampler_bytes(taken: Reserve, model: Model, ops: Operators, max_num_seqs: int, max_iteration_tokens: int) -> int:
    """Bytes at the peak of the sampler, which runs on the last stage; ``ops``: of the stage."""
    in_block_fp8 = any(each.precision == BLOCK_FP8 for each in ops.all_experts)
    copies = taken.logit_copies + (taken.block_fp8_copies if in_block_fp8 else 0)
    logits = 4 * max_num_seqs * model.vocab_size
    return int(copies * logits + STATE_COPIES * BYTES * max_iteration_tokens * model.hidden_size)


def layer_bytes(model: Model, ops: Operators, max_iteration_tokens: int) -> int:
    """Bytes at the peak of a stage's layers: hidden states and residual, and what the widest of the layers computes.

    That is the output of the gate and up projections and of the activation behind them; of a layer of experts, for
    every expert that a token is sent to, and the outputs of the experts as well.
    """
    widths = [0.0]
    widths += [1.5 * gemm.n for gemm in ops.gemms if gemm.name.startswith("mlp_up")]
    for experts in ops.all_experts:
        each = 3 * experts.width() + model.hidden_size
        widths.append(experts.top_k * each)
    return int(BYTES * max_iteration_tokens * (2 * model.hidden_size + max(widths)))


def workspace_bytes(taken: Reserve, model: Model, ops: Operators, max_iteration_tokens: int) -> int:
    """Bytes that the kernels of experts hold at all times; those in mxfp4, by the log of gpt-oss-20b, hold none."""
    top_k = max((experts.top_k for experts in ops.all_experts if experts.precision != "mxfp4"), default=0)
    return int(taken.expert_workspaces * BYTES * max_iteration_tokens * top_k * model.hidden_size)


def held_bytes(taken: Reserve, tensor_parallel_size: int, pipeline_parallel_size: int) -> int:
    """Bytes of CUDA's libraries and of the buffers of collectives."""
    held = taken.context_gib
    if tensor_parallel_size > 1:
        held += taken.tensor_parallel_gib
    elif pipeline_parallel_size > 1:
        held += taken.pipeline_gib
    return int(held * 2**30)


def graph_bytes(num_layers: int, max_num_seqs: int) -> int:
    """Bytes of the CUDA graphs of a stage, by the number of sizes that are captured: 1, 2, 4, then multiples of 8 below
    256, then of 16, up to twice max_num_seqs and at most 512.
    """
    most = min(2 * max_num_seqs, MAX_CAPTURED)
    sizes = sum(size <= most for size in (1, 2, 4)) + min(most, 248) // 8 + max(0, most - 240) // 16
    return int((GRAPHS_GIB + GRAPHS_GIB_PER_LAYER * num_layers) * sizes / MAX_SIZES * 2**30)

"""The work of the GPUs in a run: FLOPs of the model, and bytes of weights and KV cache, by pipeline stage."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastsim.arrays import Columns, Floats
from fastsim.deployment.resolved import Resolved

Integers = NDArray[np.integer]

# The peak that each precision computes at, by its name in the catalog. Other precisions compute at the peak of bf16,
# since weights of int8_wo and int4_wo are widened to it first.
PEAK = {"fp8": "fp8", "fp8_block": "fp8", "mxfp8": "fp8", "int4_fp8": "fp8", "nvfp4": "fp4", "int8": "int8"}


@dataclass(frozen=True, slots=True)
class Work:
    """What a run processed on each replica, int64[replicas] each.

    The sums are over every request in every batch, which processes n of its tokens there after p others.
    """

    tokens: Integers  # sums of n
    pairs: Integers  # sums of n * p
    squares: Integers  # sums of n * n
    sampled: Integers  # output tokens


def compute_seconds_of_all(resolved: Resolved, done: Work) -> Floats:
    """Return the same as ``compute_seconds``, of each replica by the pool that it is of."""
    if not resolved.pools:
        return compute_seconds(resolved, done)
    parts = [
        compute_seconds(kind, Work(done.tokens[own], done.pairs[own], done.squares[own], done.sampled[own]))
        for kind, own in resolved.by_kind
    ]
    return np.concatenate(parts)


def compute_seconds(resolved: Resolved, done: Work) -> Floats:
    """Return the time that the FLOPs of matrices and attention take at a GPU's peak, float64[replicas, stages], s.

    Attention is causal: a token attends to all tokens before it, and counts half for itself. Sliding windows are
    ignored, as in the operator times.
    """
    device, stages = resolved.device, resolved.pipeline_parallel_size
    computed = np.zeros((len(done.tokens), stages))

    def seconds(flops: Floats, precision: str) -> Floats:
        """Return the time of FLOPs at the peak of a precision."""
        peak = device.tflops.get(PEAK.get(precision, "bf16"), device.tflops["bf16"])
        return flops / (peak * 1e12)

    attended = done.pairs + (done.squares + done.tokens) / 2
    tokens = done.tokens.astype(float)
    for stage in range(stages):
        on_stage = resolved.stage_operators(stage)
        for gemm in on_stage.gemms:
            computed[:, stage] += seconds(gemm.count * gemm.flops(1) * tokens, gemm.precision)
        for experts in on_stage.all_experts:
            computed[:, stage] += seconds(experts.count * experts.flops(1) * tokens, experts.precision)
        if mixing := on_stage.recurrence:
            computed[:, stage] += seconds(mixing.count * mixing.flops(1) * tokens, "bf16")
        for attention in on_stage.attentions:
            dims = attention.head_dim + (attention.value_dim or attention.head_dim)
            computed[:, stage] += seconds(attention.count * 2.0 * attention.heads * dims * attended, "bf16")
    computed[:, -1] += seconds(on_stage.lm_head.flops(1) * done.sampled.astype(float), on_stage.lm_head.precision)
    return computed


def weight_bytes(resolved: Resolved, sizes: Integers, batches: Integers) -> float:
    """Return the bytes of weights that one GPU of each stage reads, summed over stages.

    ``sizes`` and ``batches``, int[n], say that ``batches[i]`` batches had ``sizes[i]`` tokens. Each batch reads every
    matrix once, and of the experts those that get a token (``Experts.reached``).
    """
    num_batches, total = float(batches.sum()), 0.0
    for stage in range(resolved.pipeline_parallel_size):
        on_stage = resolved.stage_operators(stage)
        experts = on_stage.experts
        routed = sum(each.count * each.weight_bytes() for each in on_stage.all_experts)
        total += num_batches * (on_stage.weight_bytes() - routed)
        if experts:
            ran = batches > 0
            reached = [experts.reached(size) for size in sizes[ran].tolist()]
            total += routed * float(batches[ran] @ np.array(reached))
    return total + num_batches * on_stage.lm_head.weight_bytes()


def kv_bytes(resolved: Resolved, read: float, written: float) -> float:
    """Return the bytes of KV cache that one GPU of each stage moves, summed over stages.

    ``read`` and ``written`` are numbers of tokens.
    """
    stages = range(resolved.pipeline_parallel_size)
    return sum(resolved.stage_operators(stage).kv_bytes_per_token() for stage in stages) * (read + written)


def context_read(columns: Columns, done: Work, num_chunks: int, num_prefill_tokens: int) -> float:
    """Return the tokens of KV cache that attention reads: those before each decode, and those before each chunk.

    The result is exact for decodes without restarts; all chunks are taken to have the same length.

    Parameters
    ----------
    columns : mapping of str to array[n]
        The columns of requests.parquet, by name.
    done : Work
        The work of the run.
    num_chunks, num_prefill_tokens : int
        Chunks of prompts processed, and the prompt tokens in them.
    """
    num_prompt_tokens = columns["num_prompt_tokens"].astype(float)
    num_gaps = columns["num_output_tokens"].astype(float) - 1
    before_decodes = float((num_gaps * num_prompt_tokens + num_gaps * (num_gaps - 1) / 2).sum())
    pairs_of_chunks = max(0.0, float(done.pairs.sum()) - before_decodes)
    return before_decodes + (pairs_of_chunks * num_chunks / num_prefill_tokens if num_prefill_tokens else 0.0)

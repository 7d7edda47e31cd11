"""What the GPUs had to do: FLOPs of the model and bytes of weights and KV cache, by pipeline stage."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastsim.deployment.operators.decoder import Operators, operators
from fastsim.deployment.resolved import Resolved

Floats = NDArray[np.float64]
Integers = NDArray[np.integer]

# The peak a precision is held against, in the words of the catalog; weights of int8_wo and int4_wo are widened first.
PEAK = {"fp8": "fp8", "fp8_block": "fp8", "nvfp4": "fp4"}


@dataclass(frozen=True, slots=True)
class Done:
    """What a run processed, int64[replicas].

    With n tokens of a request in a batch after p ones: ``tokens`` sums n, ``pairs`` n * p, ``squares`` n * n.
    ``sampled``: output tokens.
    """

    tokens: Integers
    pairs: Integers
    squares: Integers
    sampled: Integers


def compute_seconds(resolved: Resolved, done: Done) -> Floats:
    """float64[replicas, stages], s: what the FLOPs of matrices and attention take at a GPU's peak.

    Causal attention: a token meets those before it, itself half. Sliding windows are left out, as elsewhere.
    """
    device, stages = resolved.device, resolved.pipeline_parallel_size
    found = np.zeros((len(done.tokens), stages))

    def seconds(flops: Floats, precision: str) -> Floats:
        peak = device.tflops.get(PEAK.get(precision, "bf16"), device.tflops["bf16"])
        return flops / (peak * 1e12)

    met = done.pairs + (done.squares + done.tokens) / 2
    tokens = done.tokens.astype(float)
    for stage in range(stages):
        parts = stage_operators(resolved, stage)
        for gemm in parts.gemms:
            found[:, stage] += seconds(gemm.count * gemm.flops(1) * tokens, gemm.precision)
        if parts.experts:
            found[:, stage] += seconds(parts.experts.count * parts.experts.flops(1) * tokens, parts.experts.precision)
        for attention in parts.attentions:
            dims = attention.head_dim + (attention.value_dim or attention.head_dim)
            found[:, stage] += seconds(attention.count * 2.0 * attention.heads * dims * met, "bf16")
    found[:, -1] += seconds(parts.lm_head.flops(1) * done.sampled.astype(float), "bf16")
    return found


def weight_bytes(resolved: Resolved, sizes: Integers, batches: Integers) -> float:
    """Bytes of weights that one GPU of each stage reads for ``batches[i]`` batches of ``sizes[i]`` tokens.

    Each batch reads every matrix once; of the experts those that get a token when all are as likely.
    """
    number, total = float(batches.sum()), 0.0
    for stage in range(resolved.pipeline_parallel_size):
        parts = stage_operators(resolved, stage)
        experts = parts.experts
        routed = experts.count * experts.weight_bytes() if experts else 0.0
        total += number * (parts.weight_bytes() - routed)
        if experts:
            idle = (1 - experts.top_k / experts.num_experts) ** sizes
            total += routed * float(batches @ (1 - idle))
    return total + number * parts.lm_head.weight_bytes()


def kv_bytes(resolved: Resolved, read: float, written: float) -> float:
    """Bytes of KV cache that one GPU of each stage moves for so many tokens read and written."""
    stages = range(resolved.pipeline_parallel_size)
    return sum(stage_operators(resolved, stage).kv_bytes_per_token() for stage in stages) * (read + written)


def context_read(columns: Mapping[str, NDArray[Any]], done: Done, chunks: int, prefill_tokens: int) -> float:
    """Tokens of KV cache that attention reads: what precedes each decode, and each chunk, once per chunk.

    Exact for decodes without restarts; chunks are taken to be alike.
    """
    prompts, gaps = columns["num_prompt_tokens"].astype(float), columns["num_output_tokens"].astype(float) - 1
    decodes = float((gaps * prompts + gaps * (gaps - 1) / 2).sum())
    before_chunks = max(0.0, float(done.pairs.sum()) - decodes)
    return decodes + (before_chunks * chunks / prefill_tokens if prefill_tokens else 0.0)


def stage_operators(resolved: Resolved, stage: int) -> Operators:
    """Operators of the layers of a stage, on one GPU."""
    number = resolved.layers_per_stage
    return operators(
        resolved.model,
        resolved.tensor_parallel_size,
        precision=resolved.precision,
        kv_precision=resolved.kv_precision,
        expert_parallel=resolved.enable_expert_parallel,
        all_to_all=resolved.all2all_backend == "deepep",
        imbalance=resolved.moe_imbalance,
        layers=range(stage * number, (stage + 1) * number),
    )

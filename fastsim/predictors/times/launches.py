"""The host's time to launch the kernels of a step one by one, where there are no CUDA graphs."""

from fastsim.deployment.operators.decoder import Operators
from fastsim.deployment.resolved import Resolved

PER_ATTENTION = 2  # kernels: it and the write of its KV cache
PER_EXPERTS = 5  # sort of the tokens, two GEMMs, activation and sum


def launches_ms(resolved: Resolved) -> float:
    """Time to launch the kernels of a step's layers on a stage and of its sampling, ms; 0 with CUDA graphs."""
    known = resolved.engine_times
    if known is None or not resolved.enforce_eager:
        return 0.0
    return known.eager_us_per_kernel * num_kernels(resolved.operators) / resolved.pipeline_parallel_size * 1e-3


def num_kernels(operators: Operators) -> int:
    """Kernels of one step on all stages."""
    number = sum(gemm.count for gemm in (*operators.gemms, operators.lm_head))
    small = (*operators.elementwise, operators.embedding, operators.final_norm)
    number += sum(kernel.count * kernel.num_kernels for kernel in small)
    number += PER_ATTENTION * sum(attention.count for attention in operators.attentions)
    number += PER_EXPERTS * sum(experts.count for experts in operators.all_experts)
    return number + operators.num_all_reduces + operators.num_all_to_alls

"""What the memory of a deployment's GPUs holds, stage by stage. No operator times are needed for it."""

from typing import Any

from fastsim.deployment.memory.kv import longest_request
from fastsim.deployment.memory.plan import free_bytes, states_bytes
from fastsim.deployment.memory.sizes import GIB, block_bytes, reserve_bytes, weight_bytes
from fastsim.deployment.resolved import Resolved
from fastsim.errors import ConfigError


def accounts(resolved: Resolved) -> dict[str, Any]:
    """What ``account`` says of a deployment; with pools in ``pools``, of each with its name, role and replicas."""
    if not resolved.pools:
        return account(resolved)
    return {"pools": [{**each.about, **account(each.resolved)} for each in resolved.pools]}


def account(resolved: Resolved) -> dict[str, Any]:
    """The memory of one GPU of each pipeline stage in GiB, and the KV cache of a replica in tokens, as JSON has them.

    ``kv_tokens`` are those of requests of max_model_len, which vLLM logs as the size of its KV cache; ``concurrency``
    is how many such requests fit. ``longest_request`` is the longest that an engine would start with, if it is shorter
    than max_model_len or as long. Raises ConfigError for Vidur's planner, which has no terms to tell apart.
    """
    model, device, layout, memory = resolved.model, resolved.device, resolved.layout, resolved.memory
    if layout.planner == "vidur":
        raise ConfigError("memory.planner: 'vidur' does not tell what memory holds (valid: fastsim)")
    stages = range(layout.pipeline_parallel_size)
    free = [free_bytes(model, device, layout, stage) for stage in stages]
    return {
        "deployment": resolved.deployment.model_dump(mode="json"),
        "warnings": list(resolved.warnings),
        "gpus": resolved.num_gpus,
        "torch_gib": device.torch_memory_gib,
        "usable_gib": device.torch_memory_gib * layout.gpu_memory_utilization,
        "stages": [
            {
                "layers": resolved.pipeline_layers[stage],
                "weights_gib": weight_bytes(model, layout, stage) / GIB,
                "reserve_gib": reserve_bytes(model, layout, stage) / GIB,
                "states_gib": states_bytes(model, device, layout, stage) / GIB,
                "free_gib": free[stage] / GIB,
                "kv_bytes_per_token": block_bytes(model, layout, stage) // layout.block_size,
            }
            for stage in stages
        ],
        "num_blocks": memory.num_blocks,
        "block_size": layout.block_size,
        "kv_tokens": memory.kv_tokens,
        "max_model_len": layout.max_model_len,
        "concurrency": memory.kv_tokens / layout.max_model_len,
        "longest_request": min(longest_request(model, layout, stage, free[stage]) for stage in stages),
    }

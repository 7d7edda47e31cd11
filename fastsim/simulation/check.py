"""What can never be scheduled, said before the kernel runs where it can be known, else after it stopped."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fastsim.deployment.resolved import Resolved
from fastsim.errors import WorkloadError
from fastsim.workload import Workload


def check_fit(resolved: Resolved, workload: Workload) -> None:
    """Refuse requests that no schedule could serve, naming the first of them."""
    scheduler, policy, memory = resolved.scheduler, resolved.scheduler.policy, resolved.memory
    prompts, totals = workload.num_prompt_tokens, workload.num_prompt_tokens + workload.num_output_tokens
    length = resolved.max_model_len
    _refuse(
        workload,
        totals > length,
        lambda i: (
            f"prompt and output are {totals[i]} tokens, more than max_model_len {length}; "
            f"set max_model_len={totals.max()} or drop longer requests"
        ),
    )
    budget = scheduler.token_budget
    if budget is not None and not policy.chunked:
        _refuse(
            workload,
            prompts > budget,
            lambda i: (
                f"the prompt is {prompts[i]} tokens, more than a batch may hold with policy {policy.name}; "
                f"set scheduler.{policy.token_budget}={prompts.max()} or more"
            ),
        )
    if policy.blocks_grow:
        size, free = scheduler.block_size, memory.num_blocks
        if policy.keeps_watermark:
            free -= memory.watermark_blocks
        need = -(-prompts // size)
        _refuse(
            workload,
            need > free,
            lambda i: (
                f"the prompt needs {need[i]} KV blocks, and a replica can give {free}; "
                "use more or larger GPUs, or a smaller scheduler.watermark"
            ),
        )
    if resolved.router == "pinned":
        if workload.replica_id is None:
            raise WorkloadError(
                f"{workload.name}: column replica_id is missing, and router.policy pinned reads it; "
                "add it, or use round_robin"
            )
        replicas = workload.replica_id
        number = resolved.num_replicas
        _refuse(
            workload,
            (replicas < 0) | (replicas >= number),
            lambda i: f"replica_id {replicas[i]} is not below num_replicas {number} (e.g. {number - 1})",
        )


def _refuse(workload: Workload, bad: NDArray[np.bool_], sentence: Callable[[int], str]) -> None:
    if bad.any():
        first = int(np.argmax(bad))
        raise WorkloadError(f"{workload.name}: request {first}: {sentence(first)}")

"""KV blocks of a model some of whose layers keep a window of each request only.

A kernel gives a request a block for every ``block_size`` tokens. A request that is longer than the window takes less
memory than that in the layers with a window, so that more blocks fit than if all layers kept all tokens: how many more
depends on how long the requests are.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fastsim.deployment.check import BY_LENGTH
from fastsim.deployment.memory.kv import Tokens, bytes_of, request_bytes
from fastsim.deployment.memory.plan import free_bytes
from fastsim.deployment.pools import filled
from fastsim.deployment.resolved import PoolOf, Resolved
from fastsim.workload import Workload

DECODED = (1 / 6, 1 / 2, 5 / 6)  # shares of a request's outputs at which its memory is taken


def with_windows(resolved: Resolved, workload: Workload) -> Resolved:
    """The deployment with as many KV blocks as hold what fits of these requests.

    A request takes blocks for all its tokens, and bytes by layer: of all tokens, or of the window and what an iteration
    adds. The memory that is free, over the mean of the bytes of a block, weighted by how long requests stay, is the
    number of blocks. Blocks that the user gave stay as they are, and so does a model without windows.
    """
    if resolved.pools:
        pools = tuple(each._replace(resolved=with_windows(each.resolved, workload)) for each in resolved.pools)
        same = all(now.resolved is before.resolved for now, before in zip(pools, resolved.pools, strict=True))
        return resolved if same else _with_pools(resolved, pools)
    layout, model = resolved.layout, resolved.model
    stages = range(layout.pipeline_parallel_size)
    windows = {each.window for stage in stages for each in resolved.stage_operators(stage).attentions} - {None}
    if not windows or layout.planner != "fastsim" or layout.num_blocks is not None or workload.num_requests == 0:
        return resolved
    tokens, chunk, weights = _held(resolved, workload)
    blocks, longest = -(-tokens // layout.block_size), int(tokens.max())
    fitting, whole = [], True
    for stage in stages:
        free = free_bytes(model, resolved.device, layout, stage)
        whole = whole and bytes_of(model, layout, stage, longest) <= free
        if taken := float(weights @ request_bytes(model, layout, stage, tokens, chunk)):
            fitting.append(int(free * float(weights @ blocks) / taken))
    number = max(1, min(fitting))
    if whole:  # a request that fits alone is not refused because the others are short
        number = max(number, int(-(-longest // layout.block_size) / (1 - layout.watermark)) + 2)
    return _with_blocks(resolved, number)


def _held(resolved: Resolved, workload: Workload) -> tuple[Tokens, Tokens, NDArray[np.float64]]:
    """Tokens that requests hold, tokens that an iteration adds, and for how many iterations; all [4 * requests]."""
    prompts, outputs = workload.num_prompt_tokens.astype(np.int64), workload.num_output_tokens.astype(np.int64)
    most = np.minimum(prompts, resolved.layout.max_iteration_tokens)
    tokens = np.concatenate([prompts, *(prompts + (share * outputs).astype(np.int64) for share in DECODED)])
    if not resolved.scheduler.policy.blocks_grow:  # every request has memory for max_model_len tokens
        tokens = np.full(tokens.size, resolved.max_model_len)
    chunk = np.concatenate([most, np.ones(len(DECODED) * outputs.size, np.int64)])
    iterations = np.concatenate([-(-prompts // most), *[outputs / len(DECODED)] * len(DECODED)])
    return tokens, chunk, iterations


def _with_pools(resolved: Resolved, pools: tuple[PoolOf, ...]) -> Resolved:
    """The deployment with other KV blocks in its pools."""
    first = pools[0].resolved
    deployment = resolved.deployment.model_copy(
        update={"pools": filled(pools), "scheduler": first.deployment.scheduler}
    )
    said = list(resolved.warnings)
    for place, (now, before) in enumerate(zip(pools, resolved.pools, strict=True)):
        for old, new in zip(before.resolved.warnings, now.resolved.warnings, strict=True):
            said = [f"pools[{place}]: {new}" if each == f"pools[{place}]: {old}" else each for each in said]
    return replace(resolved, memory=first.memory, deployment=deployment, pools=pools, warnings=tuple(said))


def _with_blocks(resolved: Resolved, number: int) -> Resolved:
    memory, layout = resolved.memory, resolved.layout
    memory = replace(
        memory,
        num_blocks=number,
        watermark_blocks=int(layout.watermark * number),
        max_batch_size=max(1, number // (memory.blocks_per_sequence * layout.pipeline_parallel_size)),
    )
    said = f"{number:,} KV blocks hold what fits of these requests"
    update = {"num_blocks": number}
    if resolved.scheduler.sglang is not None:
        update = {"max_total_num_tokens": number * layout.block_size}
    scheduler = resolved.deployment.scheduler.model_copy(update=update)
    return replace(
        resolved,
        memory=memory,
        deployment=resolved.deployment.model_copy(update={"scheduler": scheduler}),
        warnings=tuple(warning.replace(BY_LENGTH, said) for warning in resolved.warnings),
    )

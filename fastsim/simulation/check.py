"""Checks before a simulation: requests that the deployment could never serve are refused."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fastsim.deployment.resolved import Resolved
from fastsim.errors import TooLargeError, WorkloadError
from fastsim.files.memory import check_memory
from fastsim.kernels.state import Limits
from fastsim.simulation import engine, sglang
from fastsim.simulation.layout import bytes_each
from fastsim.simulation.ranks import addresses_ranks, rows_of
from fastsim.workload import Workload

HELD = 32  # bytes that a request has taken before it is simulated
WITH_RESULT = 2  # times the memory of a simulation: what is made of it in the end takes about as much


def check_fit(resolved: Resolved, workload: Workload) -> None:
    """Raise WorkloadError for the first request that the deployment could never serve, and say how to mend it.

    A request is refused if it exceeds max_model_len, if its prompt exceeds what a batch or the KV cache can hold where
    the policy needs it at once, if the router is pinned and its replica does not exist, or if there are no sessions to
    route by. With pools, each must be able to serve every request that may come to it.
    """
    by_length = resolved.deployment.router.pools == "prompt_length"
    pools = pool_of(resolved, workload) if resolved.pools and by_length else None
    for place, kind in enumerate(resolved.kinds):
        comes = np.ones(workload.num_requests, bool) if pools is None else pools == place
        prefills = bool(resolved.pools) and resolved.pools[place].pool.role == "prefill"
        where = f" (pool {resolved.pools[place].pool.name})" if resolved.pools else ""
        _check_fit(kind, workload, comes, where, prefills)
    _check_router(resolved, workload)


def pool_of(resolved: Resolved, workload: Workload) -> NDArray[np.integer]:
    """Return the pool that takes prompts of each request's length, int[n]."""
    bounds = [each.pool.max_prompt_tokens or 0 for each in resolved.pools[:-1]]
    return np.searchsorted(bounds, workload.num_prompt_tokens, side="left")


def _check_fit(resolved: Resolved, workload: Workload, comes: NDArray[np.bool_], where: str, prefills: bool) -> None:
    """The same for one kind of replica, and the requests that may come to it, bool[n]; ``where``: its pool in words.

    ``prefills``: it only computes prompts, for others.
    """
    scheduler, policy, memory = resolved.scheduler, resolved.scheduler.policy, resolved.memory
    num_prompt_tokens = workload.num_prompt_tokens
    num_tokens = num_prompt_tokens + workload.num_output_tokens
    held = num_prompt_tokens + 1 if prefills else num_tokens
    length = resolved.max_model_len
    _refuse(workload, comes & (num_tokens > length), lambda i: _too_long(resolved, num_tokens, i))
    budget = scheduler.token_budget
    if budget is not None and scheduler.whole_prompts:
        _refuse(
            workload,
            comes & (num_prompt_tokens > budget),
            lambda i: (
                f"the prompt has {num_prompt_tokens[i]} tokens, more than a batch may hold with policy {policy.name}"
                f"{where}; set scheduler.{policy.token_budget}={num_prompt_tokens.max()} or more"
            ),
        )
    if policy.blocks_grow and scheduler.sglang is None:
        size, free = scheduler.block_size, memory.num_blocks
        if policy.keeps_watermark and scheduler.release is None:  # vllm_v1 keeps none from a request that runs alone
            free -= memory.watermark_blocks
        # vLLM V1 would preempt a request that outgrows the memory again and again, without an end.
        whole = scheduler.release is not None
        need = -(-(held - 1 if whole else num_prompt_tokens) // size)
        _refuse(
            workload,
            comes & (need > free),
            lambda i: (
                f"{'prompt and output need' if whole and not prefills else 'the prompt needs'} {need[i]} KV blocks, "
                f"but a replica can give only {free}{where}; use more or larger GPUs"
                f"{'' if whole else ', or a smaller scheduler.watermark'}"
            ),
        )
    if scheduler.sglang is not None:
        longest = memory.num_blocks * scheduler.block_size - 2
        _refuse(
            workload,
            comes & (num_tokens > longest),
            lambda i: (
                f"prompt and output have {num_tokens[i]:,} tokens together, and SGLang serves at most {longest:,} with "
                f"this KV cache{where}; use more or larger GPUs, or set "
                f"scheduler.max_total_num_tokens={num_tokens.max() + 2}"
            ),
        )


def _check_router(resolved: Resolved, workload: Workload) -> None:
    """Raise WorkloadError where the router reads a column that is missing, or that names no replica."""
    if resolved.router == "session" and workload.session_id is None:
        raise WorkloadError(
            f"{workload.name}: column session_id is missing, but router.policy session reads it; "
            "add it, or use least_outstanding"
        )
    if resolved.router == "pinned":
        if workload.replica_id is None:
            raise WorkloadError(
                f"{workload.name}: column replica_id is missing, but router.policy pinned reads it; "
                "add it, or use round_robin"
            )
        replica_id = workload.replica_id
        named = addresses_ranks(resolved)
        number, what = (resolved.num_engines, "ranks") if named else (resolved.num_replicas, "replicas")
        _refuse(
            workload,
            (replica_id < 0) | (replica_id >= number),
            lambda i: f"replica_id {replica_id[i]} is none of the {number} {what} (valid: 0 to {number - 1})",
        )


def check_size(resolved: Resolved, limits: Limits, fewest: int, workload: Workload, detail: bool) -> None:
    """Raise TooLargeError if the arrays of a simulation need more memory than is free.

    ``limits``: the largest of all pools; ``fewest``: KV blocks of the smallest.
    """
    number, replicas = workload.num_requests, rows_of(resolved.num_replicas, limits)
    per_request, per_replica = bytes_each(limits.num_stages, limits.max_num_seqs, limits.block_size, detail)
    engine_per_request, engine_per_replica = engine.bytes_each(limits, workload, fewest)
    sglang_per_request, sglang_per_replica = sglang.bytes_each(limits)
    per_request += engine_per_request + sglang_per_request
    per_replica += sglang_per_replica
    requests = f"{workload.name}: {number:,} requests"
    check_memory(number, requests, HELD + WITH_RESULT * per_request, held=HELD * number)
    used = min(number, replicas)  # the system gives no memory to the others, as they never write
    check_memory(used, f"{described(resolved)}, of which {used:,} serve requests,", WITH_RESULT * per_replica)
    try:
        check_memory(replicas, f"{described(resolved)} with prefix caching", engine_per_replica)
    except TooLargeError as error:
        raise TooLargeError(f"{error}, or set scheduler.enable_prefix_caching=false") from None


def described(resolved: Resolved) -> str:
    """The replicas of a deployment, and the settings that their memory depends on."""
    scheduler = resolved.scheduler
    seqs, block = ("max_num_seqs", "block_size") if scheduler.sglang is None else ("max_running_requests", "page_size")
    return (
        f"num_replicas: {resolved.num_replicas:,} replicas with scheduler.{seqs} {scheduler.max_num_seqs:,} and "
        f"scheduler.{block} {scheduler.block_size:,}"
    )


def _too_long(resolved: Resolved, num_tokens: NDArray[np.int64], request: int) -> str:
    """Why a request is too long, and the ways out."""
    length, longest = resolved.max_model_len, int(num_tokens.max())
    number = int((num_tokens > length).sum())
    possible = longest <= resolved.model.max_position_embeddings
    return (
        f"prompt and output have {num_tokens[request]} tokens together, more than max_model_len {length}, and "
        f"{number:,} of {len(num_tokens):,} requests are too long; drop or clip these with too_long (--too-long drop)"
        + (f", or set max_model_len={longest}" if possible else f", or simulate a model made for {longest} tokens")
    )


def _refuse(workload: Workload, refused: NDArray[np.bool_], sentence: Callable[[int], str]) -> None:
    """Raise WorkloadError with ``sentence`` about the first request that is ``refused``, bool[n], if any is."""
    if refused.any():
        first = int(np.argmax(refused))
        raise WorkloadError(f"{workload.name}: request {first}: {sentence(first)}")

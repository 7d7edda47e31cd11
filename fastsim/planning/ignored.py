"""Settings that change nothing beside others, so that configurations that differ in them alone are the same."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fastsim.deployment.description import Deployment
from fastsim.deployment.resolved import Resolved
from fastsim.deployment.schedulers import is_function
from fastsim.deployment.sections import Router
from fastsim.deployment.settings import OF_VLLM_V1

OF_EXPERTS = ("enable_expert_parallel", "all2all_backend", "moe_imbalance")  # settings of GPUs that share experts


def used(resolved: Resolved, settings: Mapping[str, Any]) -> tuple[Resolved, str]:
    """A deployment without the settings that its policy, its one replica or one GPU does not look at.

    Returns the deployment for comparison only, and why settings of ``settings`` (by dotted field) change nothing:
    ``scheduler.chunk_size changes nothing with policy vllm_v1``; an empty text if all may.
    """
    deployment, scheduler = resolved.deployment, resolved.scheduler
    ignored = [] if is_function(scheduler.policy.name) else [f"scheduler.{name}" for name in _ignored(resolved)]
    changes: dict[str, Any] = {}
    why = []
    if ignored:
        without = {name.partition(".")[2]: None for name in ignored}
        changes["scheduler"] = deployment.scheduler.model_copy(update=without)
        changes["pools"] = tuple(
            pool.model_copy(update={"scheduler": pool.scheduler.model_copy(update=without)})
            for pool in deployment.pools
        )
        if named := [name for name in ignored if name in settings]:
            why.append(f"{_change(named)} nothing with policy {scheduler.policy.name}")
    if resolved.num_replicas == 1:
        changes["router"] = Router()
        if named := [name for name in settings if name.startswith("router")]:
            why.append(f"{_change(named)} nothing with one replica")
    if not resolved.pools and resolved.tensor_parallel_size * resolved.data_parallel_size == 1:
        changes |= {name: Deployment.model_fields[name].default for name in OF_EXPERTS}
        if named := [name for name in OF_EXPERTS if name in settings]:
            why.append(f"{_change(named)} nothing where one GPU has all experts")
    return replace(resolved, deployment=deployment.model_copy(update=changes)), "; ".join(why)


def _change(names: list[str]) -> str:
    return f"{' and '.join(names)} {'changes' if len(names) == 1 else 'change'}"


def _ignored(resolved: Resolved) -> list[str]:
    """The settings of a scheduler that its policy does not have."""
    policy, given = resolved.scheduler.policy, resolved.deployment.scheduler
    if policy.name == "sglang":  # which refuses the settings of others
        return []
    names = [name for name in ("chunk_size", "max_num_batched_tokens") if name != policy.token_budget]
    if not policy.keeps_watermark:
        names.append("watermark")
    if policy.name != "lightllm":
        names.append("max_waiting_iters")
    if policy.name != "vllm_v1":
        names += [name for name in OF_VLLM_V1 if name != "async_scheduling"]
    return [name for name in names if getattr(given, name) is not None]

"""What a result follows from, and what a user must know of it."""

import json
import platform
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from fastsim.deployment.resolved import PoolOf, Resolved
from fastsim.result.store import FORMAT
from fastsim.version import __version__
from fastsim.workload import Workload


def config_of(resolved: Resolved, workload: Workload, provenance: dict[str, Any]) -> dict[str, Any]:
    """Return the contents of config.json: everything that a result follows from.

    The Parquet files carry the same in their metadata. ``provenance`` is that of the operator times.
    """
    said = warnings_of(resolved, workload, provenance)
    is_engine = resolved.scheduler.release is not None or resolved.scheduler.sglang is not None
    if not (is_engine and resolved.scheduler.enable_prefix_caching):
        workload = replace(workload, block_hashes=None)  # nothing that is simulated reads them
    if resolved.router != "pinned":
        workload = replace(workload, replica_id=None)  # the router ignores it, so the result does not follow from it
    return {
        "format": FORMAT,
        "deployment": resolved.deployment.model_dump(mode="json"),
        "workload": {
            "name": workload.name,
            "num_requests": workload.num_requests,
            "sha256": workload.digest,
            **({} if workload.block_hashes is None else {"block_hashes": True}),
            **({} if workload.origin is None else {"origin": workload.origin.as_dict()}),
        },
        "model": json.loads(json.dumps(asdict(resolved.model))),  # as it is read again: lists, not tuples
        "device": _device(resolved),
        "price": None if resolved.price is None else asdict(resolved.price),
        "node": asdict(resolved.node),
        "memory": asdict(resolved.memory),
        "predictor": provenance,
        **({"pools": [_pool(each) for each in resolved.pools]} if resolved.pools else {}),
        "warnings": said,
        "versions": {
            "fastsim": __version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
        },
    }


def _device(resolved: Resolved) -> dict[str, Any]:
    device = asdict(resolved.device)
    device["tflops"] = dict(resolved.device.tflops)
    return device


def _pool(each: PoolOf) -> dict[str, Any]:
    """What a pool is of; its settings are in the deployment."""
    kind = each.resolved
    return {
        "name": each.pool.name,
        "role": each.pool.role,
        "num_replicas": kind.num_replicas,
        "device": _device(kind),
        "price": None if kind.price is None else asdict(kind.price),
        "node": asdict(kind.node),
        "memory": asdict(kind.memory),
    }


def warnings_of(resolved: Resolved, workload: Workload, provenance: dict[str, Any]) -> list[str]:
    """What a user must know of the deployment, of the operator times and of the requests, one sentence each."""
    return [*resolved.warnings, *provenance.get("notes", []), *workload.notes, *_unread(resolved, workload)]


def _unread(resolved: Resolved, workload: Workload) -> list[str]:
    """A sentence for each column of the requests that is expected to count and is not read, or that a router misses."""
    scheduler, said = resolved.scheduler, []
    if workload.block_hashes is not None and scheduler.release is None and scheduler.sglang is None:
        said.append(
            f"the requests have hashes of blocks, but policy {scheduler.policy.name} has no prefix cache (vllm_v1 "
            "and sglang have)"
        )
    if workload.priority is not None and scheduler.scheduling_policy != "priority" and np.ptp(workload.priority):
        said.append(
            "the requests have priorities, but are admitted in order of arrival; scheduler.scheduling_policy=priority, "
            "of policy vllm_v1, admits them by these"
        )
    if resolved.router == "prefix_aware" and workload.block_hashes is None:
        said.append("router.policy: prefix_aware finds nothing cached, as the requests have no hashes of blocks")
    return said

"""The replicas of a deployment in words and numbers, whether they are alike or in pools."""

from collections.abc import Mapping
from typing import Any


def num_replicas(deployment: Mapping[str, Any]) -> int:
    """Return the replicas of a deployment, as config.json has it."""
    pools = deployment.get("pools") or ()
    return sum(int(pool["num_replicas"]) for pool in pools) or int(deployment.get("num_replicas", 1))


def hardware(deployment: Mapping[str, Any], gpus: Any, times: str = "x") -> str:
    """Return the GPUs of a deployment and how it uses them; ``times`` stands between their number and their name."""
    pools = deployment.get("pools") or ()
    if not pools:
        return f"{gpus} {times} {_kind(deployment)}"
    filled = [{**deployment, **{key: value for key, value in pool.items() if value is not None}} for pool in pools]
    return " + ".join(f"{pool['name']}: {_gpus(pool)} {times} {_kind(pool)}" for pool in filled)


def _gpus(pool: Mapping[str, Any]) -> int:
    stages = pool.get("pipeline_parallel_size") or 1
    return int(pool["num_replicas"]) * int(pool.get("tensor_parallel_size") or 1) * int(stages)


def _kind(kind: Mapping[str, Any]) -> str:
    number = kind.get("num_replicas", 1)
    ranks = kind.get("data_parallel_size", 1)
    return (
        f"{kind.get('device', '')} (TP {kind.get('tensor_parallel_size', 1)}, {f'DP {ranks}, ' if ranks > 1 else ''}"
        f"PP {kind.get('pipeline_parallel_size', 1)}, {number:,} replica{'' if number == 1 else 's'})"
    )

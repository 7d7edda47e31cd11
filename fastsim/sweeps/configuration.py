"""One point of a space, and how it is made: a deployment and a workload with some of their fields set."""

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from fastsim.deployment.resolved import Deployment, Resolved
from fastsim.deployment.schedulers import is_function
from fastsim.version import __version__
from fastsim.workload import Workload


@dataclass(frozen=True, slots=True)
class Configuration:
    """One point of a space."""

    overrides: dict[str, Any]  # the fields that vary
    deployment: Deployment  # as described
    resolved: Resolved
    workload: Workload
    digest: str  # of all that its figures follow from


def digest(resolved: Resolved, workload: Workload) -> str:
    """SHA-256, as hex, of all that the figures of a configuration follow from, this version of fastsim included."""
    functions = [name for name in (resolved.scheduler.policy.name, resolved.router) if is_function(name)]
    parts = (
        __version__,
        resolved.deployment.model_dump_json(),
        repr((resolved.model, resolved.device, resolved.node)),
        workload.digest,
        *(Path(one.rpartition(":")[0]).read_text() for one in functions),
        _measured(resolved.predictor.source),
    )
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def named(workload: Any) -> str:
    """A workload in a word: the name of its preset or file."""
    if isinstance(workload, str):
        return workload
    return named(workload["source"]) if "source" in workload else json.dumps(workload, sort_keys=True)


@cache
def _measured(source: str) -> str:
    """What changes when the files of operator times do: their names, sizes and times of change."""
    folder = Path(source.partition(":")[2])
    if source in ("default", "aic") or not folder.is_dir():
        return source
    files = sorted(path for path in folder.rglob("*") if path.suffix in (".csv", ".json", ".parquet"))
    return repr([(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files])

"""A configuration of a space: a deployment and a workload with the settings that vary."""

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from fastsim.deployment.description import Deployment
from fastsim.deployment.resolved import Resolved
from fastsim.deployment.schedulers import is_function
from fastsim.files.documents import read_text
from fastsim.version import __version__
from fastsim.workload import Workload

Row = dict[str, Any]  # of the table of a sweep or a search: settings and figures by column


@dataclass(frozen=True, slots=True)
class Configuration:
    """One combination of the settings that vary in a space."""

    settings: dict[str, Any]  # values by dotted field, such as scheduler.max_num_seqs
    deployment: Deployment  # as described
    resolved: Resolved
    workload: Workload
    digest: str


def digest(resolved: Resolved, workload: Workload) -> str:
    """SHA-256 in hex of all that the figures of a configuration depend on, with the version of fastsim."""
    functions = [name for name in (resolved.scheduler.policy.name, resolved.router) if is_function(name)]
    parts = (
        __version__,
        resolved.deployment.model_dump_json(),
        repr((resolved.model, resolved.device, resolved.node)),
        workload.digest,
        *(read_text(Path(function.rpartition(":")[0])) for function in functions),
        _operator_times(resolved.predictor.source),
    )
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def workload_name(workload: Any) -> str:
    """The name of a workload in tables: its preset or file, or its description as JSON."""
    if isinstance(workload, str):
        return workload
    return workload_name(workload["source"]) if "source" in workload else json.dumps(workload, sort_keys=True)


@cache
def _operator_times(source: str) -> str:
    """A text that changes when the files of operator times do: their names, sizes and modification times."""
    folder = Path(source.partition(":")[2])
    if source in ("default", "aic") or not folder.is_dir():
        return source
    files = sorted(path for path in folder.rglob("*") if path.suffix in (".csv", ".json", ".parquet"))
    return repr([(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files])

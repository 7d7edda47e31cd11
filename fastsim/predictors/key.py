"""What identifies the tables of a deployment: a digest of everything that goes into them."""

import hashlib
import json
from dataclasses import asdict
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastsim.predictors.capture import captured
from fastsim.predictors.sources import cards_of, host_of, provenance_of, sources_of

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from fastsim.deployment.resolved import Resolved
    from fastsim.predictors.times.device_forests import Sources


def key_of(resolved: "Resolved", measurements: str) -> str:
    """Digest of everything that goes into the tables of a deployment; ``measurements`` identifies those behind them."""
    from fastsim.predictors.times.iteration import typical
    from fastsim.predictors.times.reach import reach_of

    rest = {
        "parallelism": [
            resolved.tensor_parallel_size,
            resolved.pipeline_parallel_size,
            *([resolved.data_parallel_size] if resolved.data_parallel_size > 1 else []),
        ],
        "eager": resolved.enforce_eager,
        "captured": captured(resolved.scheduler, resolved.enforce_eager),
        "predictor": resolved.predictor.model_dump(),
        "kernels": resolved.kernels,
        "code": _code_digest(),
    }
    named = resolved.model, resolved.node, resolved.device, resolved.operators, reach_of(resolved), typical(resolved)
    everything = "\0".join((measurements, *map(_text, named), json.dumps(rest, sort_keys=True)))
    return hashlib.sha256(everything.encode()).hexdigest()


@lru_cache(maxsize=256)
def _text(value: "DataclassInstance") -> str:
    """All fields of a value, as JSON. Configurations share most of them."""
    return json.dumps(asdict(value), sort_keys=True)


def measurements_of(resolved: "Resolved") -> tuple[str, dict[str, Any]]:
    """What identifies the measurements behind a deployment's tables, and what its provenance says of them."""
    kind, _, folder = resolved.predictor.source.partition(":")
    if kind == "vidur":
        from fastsim.predictors.measurements.vidur import find

        digest = find(Path(folder), resolved).digest()
        return digest, {"measurements": digest}
    from fastsim.predictors.forests.forest import FOLDER

    sources = sources_of(resolved)
    # The files that come with fastsim stay as they are.
    known = _known if sources.root else _shipped
    text, about = known(sources, FOLDER)
    host = host_of(resolved)
    return text + json.dumps(host, sort_keys=True), {"system": sources.system, **about, **host}


def _known(sources: "Sources", _: Path) -> tuple[str, dict[str, Any]]:
    """The model cards of forests as JSON, and what provenance says of them."""
    cards = cards_of(sources)
    return json.dumps(cards, sort_keys=True), provenance_of(sources, cards)


_shipped = lru_cache(maxsize=256)(_known)


@cache
def _code_digest() -> str:
    """Digest of all code that makes tables: every file below predictors/ and deployment/operators/."""
    import fastsim.deployment.operators
    import fastsim.predictors

    sources = hashlib.sha256()
    for package in (fastsim.predictors, fastsim.deployment.operators):
        for source in sorted(Path(str(package.__file__)).parent.rglob("*.py")):
            sources.update(source.read_bytes())
    return sources.hexdigest()

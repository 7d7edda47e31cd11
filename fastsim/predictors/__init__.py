"""Where the time of an iteration comes from: a profile source, composed into the tables a kernel reads."""

import hashlib
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastsim.errors import CatalogError

if TYPE_CHECKING:
    from fastsim.deployment import Resolved
    from fastsim.kernels.cost import Cost, FastsimTables, VidurTables

    from .sources import Sources
    from .times import OperatorTimes


@dataclass(frozen=True)
class Built:
    """The tables of a deployment, what they come from (JSON-able), and how long building them took, s."""

    cost: "Cost"
    provenance: dict[str, Any]
    seconds: float


def build_cost(resolved: "Resolved") -> Built:
    """Tables for ``predictor.source`` and ``predictor.compose`` of a deployment.

    Raises TableError for operator times that cannot be used, and CatalogError for a device without forests.
    """
    from fastsim.kernels.cost import COMPOSE_FASTSIM, COMPOSE_VIDUR, Cost, VidurTables

    from .compose import NO_FASTSIM, NO_VIDUR

    began = time.perf_counter()
    source = resolved.deployment.predictor.source
    if source == "default":
        tables, provenance = _from_forests(resolved)
    else:
        tables, provenance = _from_tables(resolved, Path(source.removeprefix("tables:")).expanduser())
    stages = resolved.deployment.pipeline_parallel_size
    if isinstance(tables, VidurTables):
        cost = Cost(COMPOSE_VIDUR, stages, tables, NO_FASTSIM)
    else:
        cost = Cost(COMPOSE_FASTSIM, stages, NO_VIDUR, tables)
    compose = resolved.deployment.predictor.compose
    about = {"source": source, "compose": compose, **provenance}
    return Built(cost, about, time.perf_counter() - began)


def _compose(resolved: "Resolved", times: "OperatorTimes") -> "VidurTables | FastsimTables":
    from .compose import fastsim_tables, vidur_tables

    deployment = resolved.deployment
    tp = deployment.tensor_parallel_size
    num_layers = resolved.model.num_layers // deployment.pipeline_parallel_size
    if deployment.predictor.compose == "vidur":
        return vidur_tables(times, tp, num_layers)
    seqs = deployment.scheduler.max_num_seqs
    return fastsim_tables(times, tp, num_layers, seqs, resolved.device.skew)


def _from_tables(resolved: "Resolved", folder: Path) -> tuple["VidurTables | FastsimTables", dict[str, Any]]:
    from .tables import digest, read_tables

    deployment = resolved.deployment
    times = read_tables(folder, deployment.tensor_parallel_size, deployment.pipeline_parallel_size)
    return _compose(resolved, times), {"digest": digest(folder)}


def _from_forests(resolved: "Resolved") -> tuple["VidurTables | FastsimTables", dict[str, Any]]:
    from fastsim.kernels.cost import FastsimTables, VidurTables

    from .cache import load_or_build
    from .limits import limits

    sources, reach = sources_of(resolved), limits(resolved)
    cards = _cards(sources)
    deployment = resolved.deployment
    everything = {
        "cards": cards,
        "model": asdict(resolved.model),
        "node": asdict(resolved.node),
        "device": {**asdict(resolved.device), "tflops": dict(resolved.device.tflops)},
        "operators": asdict(sources.operators),
        "parallelism": [deployment.tensor_parallel_size, deployment.pipeline_parallel_size],
        "limits": asdict(reach),
        "compose": deployment.predictor.compose,
        "code": _code_digest(),
    }
    key = hashlib.sha256(json.dumps(everything, sort_keys=True).encode()).hexdigest()

    def build() -> "VidurTables | FastsimTables":
        from .estimate import estimate

        return _compose(resolved, estimate(resolved, sources, reach))

    kind = VidurTables if deployment.predictor.compose == "vidur" else FastsimTables
    tables = load_or_build(key, kind, build)
    return tables, {"digest": key, "system": sources.system, **_about(sources, cards)}


def sources_of(resolved: "Resolved") -> "Sources":
    """The forests of a deployment's device. Raises CatalogError when it has none."""
    from . import shipped
    from .sources import Sources

    device = resolved.device
    if device.predictor is None or device.predictor not in shipped.systems():
        from fastsim.catalog import load_device, names

        have = [name for name in names("devices") if load_device(name).predictor in shipped.systems()]
        raise CatalogError(
            f"device: {device.name!r} has no forests for predictor.source default; use one that has "
            f"({', '.join(have)}), or bring operator times as predictor.source=tables:DIR"
        )
    return Sources(device.predictor, device, resolved.operators)


def _cards(sources: "Sources") -> dict[str, Any]:
    """Model cards of the forests that are asked, without loading the forests."""
    from .shipped import card, stem

    asked = [*sources.files(), ("all_reduce", "bf16")]
    return {stem(family, precision): card(sources.system, family, precision) for family, precision in asked}


def _about(sources: "Sources", cards: dict[str, Any]) -> dict[str, Any]:
    forests = {
        operator: {key: card[key] for key in ("sha256", "error_percent", "source", "date") if key in card}
        for operator, card in cards.items()
        if "sha256" in card
    }
    return {"forests": forests, "measured": sorted(cards), "modelled": sources.modelled()}


def _code_digest() -> str:
    here = Path(__file__).parent
    sources = hashlib.sha256()
    for source in [*sorted(here.glob("*.py")), here.parent / "operators.py", here.parent / "parts.py"]:
        sources.update(source.read_bytes())
    return sources.hexdigest()

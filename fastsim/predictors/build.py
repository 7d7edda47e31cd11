"""Where the time of an iteration comes from: a source of operator times, composed into the tables a kernel reads."""

import hashlib
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastsim.errors import CatalogError

if TYPE_CHECKING:
    from fastsim.deployment.resolved import Resolved
    from fastsim.kernels.cost import Cost, FastsimTables, VidurTables
    from fastsim.predictors.times.device_forests import Sources
    from fastsim.predictors.times.evidence import Inquiry
    from fastsim.predictors.times.iteration import Iteration
    from fastsim.predictors.times.times import OperatorTimes


@dataclass(frozen=True)
class Built:
    """The tables of a deployment, what they come from (JSON-able), and how long building them took, s."""

    cost: "Cost"
    provenance: dict[str, Any]
    seconds: float


def build_cost(resolved: "Resolved") -> Built:
    """Tables for ``predictor.source`` and ``predictor.compose`` of a deployment.

    ``provenance["known"]`` says which share of the time of iteration.typical was measured, lies outside of what was
    measured, or is modelled. Raises TableError for operator times that cannot be used, and CatalogError for a
    device without forests, or without the precision.
    """
    began = time.perf_counter()
    if resolved.predictor.source.startswith("tables:"):
        times, provenance = _from_tables(resolved)
        tables = _compose(resolved, times)
    else:
        tables, provenance = _from_cache(resolved)
    return _built(resolved, tables, provenance, began)


def build_costs(resolved: "Resolved", replicates: int, seed: int) -> list[Built]:
    """``replicates`` tables of a deployment, each drawn from the intervals of its operators (replicates.draws).

    ``provenance["replicate"]`` holds the number of the draw and the seed. Times given as tables:DIR have no
    interval: all draws are alike.
    """
    from fastsim.predictors.tables.by_operator import breakdown
    from fastsim.predictors.tables.draws import draws, spreads

    times, known, provenance = operator_times(resolved)
    spread = spreads(breakdown(resolved, times, known, _everything(resolved)))
    found = []
    for number, drawn in enumerate(draws(times, spread, replicates, seed)):
        began = time.perf_counter()
        about = {**provenance, "replicate": {"number": number, "of": replicates, "seed": seed}}
        found.append(_built(resolved, _compose(resolved, drawn), about, began))
    return found


def operator_times(
    resolved: "Resolved", iteration: "Iteration | None" = None
) -> "tuple[OperatorTimes, dict[str, Inquiry], dict[str, Any]]":
    """Operator times, what is known of each in an iteration (iteration.typical if None), and where they come from.

    Nothing is known of times given as tables:DIR or vidur:DIR.
    """
    kind, _, folder = resolved.predictor.source.partition(":")
    if kind == "tables":
        times, provenance = _from_tables(resolved)
        return times, {}, provenance
    from fastsim.predictors.times.reach import limits

    if kind == "vidur":
        from fastsim.predictors.times.vidur import operator_times as from_vidur

        times, provenance = from_vidur(Path(folder), resolved, limits(resolved))
        return times, {}, provenance
    from fastsim.predictors.times.estimate import estimate
    from fastsim.predictors.times.evidence import inquire

    sources = sources_of(resolved)
    known = inquire(resolved, sources, iteration or _everything(resolved))
    about = {"system": sources.system, **_about(sources, _cards(sources))}
    return estimate(resolved, sources, limits(resolved)), known, about


def _built(
    resolved: "Resolved", tables: "VidurTables | FastsimTables", provenance: dict[str, Any], began: float
) -> Built:
    from fastsim.kernels.cost import COMPOSE_FASTSIM, COMPOSE_VIDUR, Cost, VidurTables
    from fastsim.predictors.tables.compose import NO_FASTSIM, NO_VIDUR

    stages, predictor = resolved.pipeline_parallel_size, resolved.predictor
    if isinstance(tables, VidurTables):
        cost = Cost(COMPOSE_VIDUR, stages, tables, NO_FASTSIM)
    else:
        cost = Cost(COMPOSE_FASTSIM, stages, NO_VIDUR, tables)
    about = {"source": predictor.source, "compose": predictor.compose, **provenance}
    return Built(cost, about, time.perf_counter() - began)


def _everything(resolved: "Resolved") -> "Iteration":
    from fastsim.predictors.times.iteration import typical

    return typical(resolved)


def _compose(resolved: "Resolved", times: "OperatorTimes") -> "VidurTables | FastsimTables":
    from fastsim.predictors.tables.compose import fastsim_tables, vidur_tables

    tp = resolved.tensor_parallel_size
    num_layers = resolved.layers_per_stage
    if resolved.predictor.compose == "vidur":
        return vidur_tables(times, tp, num_layers)
    seqs = resolved.scheduler.max_num_seqs
    return fastsim_tables(times, tp, num_layers, seqs, resolved.device.skew)


def _from_tables(resolved: "Resolved") -> "tuple[OperatorTimes, dict[str, Any]]":
    from fastsim.predictors.times.exact import digest, read_tables

    folder = Path(resolved.predictor.source.removeprefix("tables:")).expanduser()
    times = read_tables(folder, resolved.tensor_parallel_size, resolved.pipeline_parallel_size)
    return times, {"digest": digest(folder)}


def _from_cache(resolved: "Resolved") -> "tuple[VidurTables | FastsimTables, dict[str, Any]]":
    """Tables by the digest of all that goes into them; built when it is new."""
    from fastsim.kernels.cost import FastsimTables, VidurTables
    from fastsim.predictors.tables.cache import load_or_build
    from fastsim.predictors.times.reach import limits

    measured, about = _measurements(resolved)
    everything = {
        "measured": measured,
        "model": asdict(resolved.model),
        "node": asdict(resolved.node),
        "device": {**asdict(resolved.device), "tflops": dict(resolved.device.tflops)},
        "operators": asdict(resolved.operators),
        "parallelism": [resolved.tensor_parallel_size, resolved.pipeline_parallel_size],
        "limits": asdict(limits(resolved)),
        "predictor": resolved.predictor.model_dump(),
        "typical": asdict(_everything(resolved)),
        "code": _code_digest(),
    }
    key = hashlib.sha256(json.dumps(everything, sort_keys=True).encode()).hexdigest()

    def build() -> "tuple[VidurTables | FastsimTables, dict[str, Any]]":
        from fastsim.predictors.tables.by_operator import breakdown, shares

        times, known, about = operator_times(resolved)
        if kind is not VidurTables and known:
            about["known"] = shares(breakdown(resolved, times, known, _everything(resolved)))
        return _compose(resolved, times), about

    kind = VidurTables if resolved.predictor.compose == "vidur" else FastsimTables
    tables, stored = load_or_build(key, kind, build)
    return tables, {**stored, **about, "digest": key}


def _measurements(resolved: "Resolved") -> tuple[Any, dict[str, Any]]:
    """What identifies the measurements that a deployment's tables come from, and what is said of them."""
    kind, _, folder = resolved.predictor.source.partition(":")
    if kind == "vidur":
        from fastsim.predictors.measurements.vidur import find

        digest = find(Path(folder), resolved).digest()
        return digest, {"measurements": digest}
    sources = sources_of(resolved)
    cards = _cards(sources)
    return cards, {"system": sources.system, **_about(sources, cards)}


def sources_of(resolved: "Resolved") -> "Sources":
    """The forests of a deployment's device: with source aic or profile:DIR those trained on this machine, now if
    they are not there yet. Raises CatalogError when the device has none."""
    from fastsim.predictors.forests import forest
    from fastsim.predictors.times.device_forests import Sources, chip_of

    device, source = resolved.device, resolved.predictor.source
    system = device.predictor or device.name
    if source != "default":
        from fastsim.predictors.forests.cache import root

        return Sources(system, device, resolved.operators, root(source, system, chip_of(device)))
    if system not in forest.systems():
        from fastsim.catalog.load import load_device, names

        have = [name for name in names("devices") if load_device(name).predictor in forest.systems()]
        raise CatalogError(
            f"device: {device.name!r} has no forests for predictor.source default; use one that has "
            f"({', '.join(have)}), or bring operator times as predictor.source=tables:DIR, vidur:DIR or profile:DIR"
        )
    return Sources(system, device, resolved.operators)


def _cards(sources: "Sources") -> dict[str, Any]:
    """Model cards of the forests that are asked, without loading the forests."""
    from fastsim.predictors.forests.forest import stem

    asked = [*sources.files(), ("all_reduce", "bf16"), ("elementwise", "bf16"), ("moe_a2a", "bf16")]
    found = {stem(family, precision): sources.card(family, precision) for family, precision in asked}
    return {name: card for name, card in found.items() if card is not None}


def _about(sources: "Sources", cards: dict[str, Any]) -> dict[str, Any]:
    forests = {
        operator: {key: card[key] for key in ("sha256", "error_percent", "source", "date") if key in card}
        for operator, card in cards.items()
        if "sha256" in card
    }
    return {"forests": forests, "measured": sorted(cards), "modelled": sources.modelled()}


def _code_digest() -> str:
    """Digest of all code that makes tables: every file below predictors/ and deployment/operators/."""
    import fastsim.deployment.operators
    import fastsim.predictors

    sources = hashlib.sha256()
    for package in (fastsim.predictors, fastsim.deployment.operators):
        for source in sorted(Path(str(package.__file__)).parent.rglob("*.py")):
            sources.update(source.read_bytes())
    return sources.hexdigest()

"""Build the tables of a deployment: operator times from a source, composed into what a kernel reads."""

import hashlib
import json
import time
from dataclasses import asdict
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastsim.errors import CatalogError
from fastsim.predictors import affine
from fastsim.predictors.built import Built
from fastsim.predictors.calibrated import calibrated
from fastsim.predictors.capture import captured

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from fastsim.deployment.resolved import Resolved
    from fastsim.predictors.tables.by_operator import ByOperator
    from fastsim.predictors.tables.cache import Tables
    from fastsim.predictors.times.device_forests import Sources
    from fastsim.predictors.times.evidence import Evidence
    from fastsim.predictors.times.iteration import Iteration
    from fastsim.predictors.times.times import Floats, OperatorTimes

GIVEN = ("tables", "vidur", "affine")  # sources that say nothing of how their times are known
CURVES = ("all_reduce", "elementwise", "gather_scatter", "moe_a2a", "send_recv")  # curves or figures, without a forest


def build_cost(resolved: "Resolved") -> Built:
    """Build the tables of a deployment, or load them where the same ones were built before.

    ``provenance["known"]`` says which share of a typical iteration (``times.iteration.typical``) was measured, lies
    outside of what was measured, or is modelled. Raises TableError for operator times that cannot be used, and
    CatalogError for a device without forests, or without the precision.
    """
    began = time.perf_counter()
    if resolved.pools:
        return of_pools(resolved, [build_cost(kind) for kind in resolved.kinds])
    if affine.is_affine(resolved):
        return affine.build(resolved)
    if resolved.predictor.source.startswith("tables:"):
        times, provenance = _from_tables(resolved)
        tables = compose(resolved, times)
        return built(resolved, tables, provenance, began, _by_operator(resolved, times, tables))
    from fastsim.kernels.tables import VidurTables

    tables, operators, provenance = _from_cache(resolved)
    spread = provenance.pop("spread")
    if (calibration := resolved.calibration) is not None:
        assert not isinstance(tables, VidurTables), "resolve refuses it"
        tables, operators = calibrated(resolved, tables, operators)
        provenance["calibration"] = {"sha256": calibration.digest}
    return built(resolved, tables, provenance, began, operators, spread)


def of_pools(resolved: "Resolved", kinds: list[Built]) -> Built:
    """The tables of a deployment with pools. Provenance is that of the first, and ``pools`` of it by name."""
    first, notes = kinds[0], dict[str, None]()
    for kind in kinds:
        notes |= dict.fromkeys(kind.provenance.get("notes", ()))
    names = [each.pool.name for each in resolved.pools]
    about = {name: kind.provenance for name, kind in zip(names, kinds, strict=True)}
    provenance = {**first.provenance, "notes": list(notes), "pools": about}
    return Built(first.cost, {}, {}, provenance, sum(kind.seconds for kind in kinds), tuple(kinds))


def operator_times(resolved: "Resolved") -> "tuple[OperatorTimes, dict[str, Any]]":
    """The operator times that tables are composed of, and where they come from (JSON-able)."""
    kind, _, folder = resolved.predictor.source.partition(":")
    if kind == "tables":
        return _from_tables(resolved)
    from fastsim.predictors.times.reach import reach_of

    if kind == "vidur":
        from fastsim.predictors.times.vidur import operator_times as from_vidur

        return from_vidur(Path(folder), resolved, reach_of(resolved))
    from fastsim.predictors.times.estimate import estimate

    sources = sources_of(resolved)
    return estimate(resolved, sources, reach_of(resolved)), {
        "system": sources.system,
        **_about(sources, _cards(sources)),
        **_host(resolved),
    }


def known_of(resolved: "Resolved", iteration: "Iteration") -> "dict[str, Evidence]":
    """What is known of each operator's time in an iteration; empty for times that are given or Vidur's."""
    from fastsim.predictors.times.evidence import evidence_of

    if resolved.predictor.source.partition(":")[0] in GIVEN:
        return {}
    return evidence_of(resolved, sources_of(resolved), iteration)


def times_notes(resolved: "Resolved") -> list[str]:
    """What a user must know of operator times that were not measured; nothing of times that are given or Vidur's."""
    from fastsim.predictors.times.notes import notes_of

    return [] if resolved.predictor.source.partition(":")[0] in GIVEN else notes_of(sources_of(resolved))


def built(
    resolved: "Resolved",
    tables: "Tables",
    provenance: dict[str, Any],
    began: float,
    operators: "ByOperator | None" = None,
    spread: dict[str, float] | None = None,
    shares: "Floats | None" = None,
) -> Built:
    """What a kernel reads of tables whose building ``began`` then; ``shares`` of the stages if they are known."""
    from fastsim.kernels.tables import COMPOSE_FASTSIM, COMPOSE_VIDUR, Cost, VidurTables
    from fastsim.predictors.tables import ranks
    from fastsim.predictors.tables.compose import NO_FASTSIM, NO_VIDUR
    from fastsim.predictors.tables.shares import stage_shares

    if shares is None:
        shares = stage_shares(resolved, operators or {})
    stages, predictor = resolved.pipeline_parallel_size, resolved.predictor
    if isinstance(tables, VidurTables):
        cost = Cost(COMPOSE_VIDUR, stages, tables, NO_FASTSIM, shares)
    elif resolved.data_parallel_size > 1:
        cost = ranks.cost_of(resolved, tables, operators or {}, shares)
    else:
        cost = Cost(COMPOSE_FASTSIM, stages, NO_VIDUR, tables, shares)
    about = {"source": predictor.source, "compose": predictor.compose, **provenance}
    return Built(cost, operators or {}, spread or {}, about, time.perf_counter() - began)


def compose(resolved: "Resolved", times: "OperatorTimes") -> "Tables":
    """Operator times, added up as the deployment's predictor says."""
    from fastsim.predictors.tables.compose import fastsim_tables, vidur_tables

    tp, num_layers = resolved.tensor_parallel_size, resolved.layers_per_stage
    if resolved.predictor.compose == "vidur":
        return vidur_tables(times, tp, int(num_layers))
    most = resolved.scheduler.max_num_seqs
    device = resolved.device
    sizes = captured(resolved.scheduler, resolved.enforce_eager)
    model = resolved.model
    grouped = model.num_attention_heads > model.num_key_value_heads and not model.kv_lora_rank
    # Others have attention kernels of their own.
    is_vllm = resolved.scheduler.release is not None and resolved.kernels[0] == "vllm"
    mixed = device.mixed_decode if grouped and is_vllm else 1.0
    return fastsim_tables(times, tp, num_layers, most, device.skew, sizes, mixed)


def _by_operator(resolved: "Resolved", times: "OperatorTimes", tables: "Tables") -> "ByOperator":
    from fastsim.kernels.tables import VidurTables
    from fastsim.predictors.tables.by_operator import by_operator

    if isinstance(tables, VidurTables):
        return {}
    size = (resolved.tensor_parallel_size, resolved.layers_per_stage, resolved.scheduler.max_num_seqs)
    return by_operator(times, tables, *size, captured(resolved.scheduler, resolved.enforce_eager))


def _from_tables(resolved: "Resolved") -> "tuple[OperatorTimes, dict[str, Any]]":
    from fastsim.predictors.times.exact import digest, read_tables

    folder = Path(resolved.predictor.source.removeprefix("tables:")).expanduser()
    times = read_tables(folder, resolved.tensor_parallel_size, resolved.pipeline_parallel_size)
    return times, {"digest": digest(folder)}


def is_built(resolved: "Resolved") -> bool:
    """Whether the tables of a deployment are stored, or on their way there, so that ``build_cost`` builds none."""
    if affine.is_affine(resolved) or resolved.predictor.source.startswith("tables:"):
        return False
    from fastsim.predictors.tables.cache import holds

    return holds(_key(resolved))


def _key(resolved: "Resolved") -> str:
    """Digest of everything that goes into the tables of a deployment."""
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
    everything = "\0".join((_measurements(resolved)[0], *map(_text, named), json.dumps(rest, sort_keys=True)))
    return hashlib.sha256(everything.encode()).hexdigest()


def _from_cache(resolved: "Resolved") -> "tuple[Tables, ByOperator, dict[str, Any]]":
    """Tables stored under the digest of everything that goes into them; they are built when the digest is new."""
    from fastsim.kernels.tables import FastsimTables, VidurTables
    from fastsim.predictors.tables.by_operator import breakdown, shares
    from fastsim.predictors.tables.cache import load_or_build
    from fastsim.predictors.tables.draws import spreads
    from fastsim.predictors.times.iteration import typical

    key, about = _key(resolved), _measurements(resolved)[1]

    def build() -> "tuple[Tables, ByOperator, dict[str, Any]]":
        times, about = operator_times(resolved)
        iteration = typical(resolved)
        tables, known = compose(resolved, times), known_of(resolved, iteration)
        operators = _by_operator(resolved, times, tables)
        if operators and known:
            about["known"] = shares(breakdown(operators, known, iteration, resolved.pipeline_parallel_size))
        return tables, operators, {**about, "spread": spreads(known)}

    kind = VidurTables if resolved.predictor.compose == "vidur" else FastsimTables
    tables, operators, stored = load_or_build(key, kind, build)
    return tables, operators, {**stored, **about, "digest": key}


@lru_cache(maxsize=256)
def _text(value: "DataclassInstance") -> str:
    """All fields of a value, as JSON. Configurations share most of them."""
    return json.dumps(asdict(value), sort_keys=True)


def _measurements(resolved: "Resolved") -> tuple[str, dict[str, Any]]:
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
    host = _host(resolved)
    return text + json.dumps(host, sort_keys=True), {"system": sources.system, **about, **host}


def _known(sources: "Sources", _: Path) -> tuple[str, dict[str, Any]]:
    """The model cards of forests as JSON, and what provenance says of them."""
    cards = _cards(sources)
    return json.dumps(cards, sort_keys=True), _about(sources, cards)


_shipped = lru_cache(maxsize=256)(_known)


def _host(resolved: "Resolved") -> dict[str, Any]:
    """What a step takes beside its operators, and where that comes from; Vidur's composition has none."""
    if resolved.predictor.compose == "vidur":
        return {}
    known, found = resolved.engine_times, {"host": asdict(resolved.host_times)}
    if known is None:
        return found
    found["host"] |= {"source": known.sources["host"], "fitted_on": list(known.fitted_on)}
    if resolved.enforce_eager:
        found["eager"] = {"eager_us_per_kernel": known.eager_us_per_kernel, "source": known.sources["eager"]}
    if resolved.sampling == "top_k_top_p":
        names = ("sampler_ms", "sampler_us_per_sequence")
        found["sampler"] = {name: getattr(known, name) for name in names} | {"source": known.sources["sampler"]}
    return found


def sources_of(resolved: "Resolved") -> "Sources":
    """The forests of a deployment's device.

    With source aic or profile:DIR they are trained on this machine, now if they are not there yet. A device that was
    not measured takes those of the nearest one that was. Raises CatalogError when the times of the model cannot be
    predicted.
    """
    if why := resolved.model.refused:
        raise CatalogError(
            f"model: {resolved.model.name} {why}, whose times are not known; `fastsim catalog model` answers its "
            "weights and KV cache (or bring its operator times as predictor.source=tables:DIR)"
        )
    from fastsim.predictors.times.device_forests import Sources
    from fastsim.predictors.times.origin import origin_of
    from fastsim.predictors.times.scaled import chip_of

    device, source = resolved.device, resolved.predictor.source
    origin, own = origin_of(device), None
    system = device.predictor or device.name
    if source != "default":
        from fastsim.predictors.forests.cache import root

        own = root(source, system, chip_of(device))
    return Sources(system, device, resolved.operators, origin, own, resolved.kernels)


def _cards(sources: "Sources") -> dict[str, Any]:
    """Model cards of the forests that the operators need; the forests themselves are not loaded."""
    from fastsim.predictors.forests.forest import card, stem
    from fastsim.predictors.times.scaled import constants

    chosen = list(sources.chosen().values())
    cards = {stem(one.family, one.precision): card(one.system, one.family, one.precision, one.root) for one in chosen}
    cards |= {family: known for family in CURVES if (known := sources.card(family)) is not None}
    return cards if all(one.measured for one in chosen) else cards | {"scaling": constants()}


def _about(sources: "Sources", cards: dict[str, Any]) -> dict[str, Any]:
    from fastsim.predictors.forests.forest import stem
    from fastsim.predictors.times.notes import notes_of

    forests = {
        operator: {key: card[key] for key in ("sha256", "error_percent", "source", "date") if key in card}
        for operator, card in cards.items()
        if "sha256" in card
    }
    chosen = sources.chosen().values()
    elsewhere = {stem(one.family, one.precision) for one in chosen if not one.measured}
    elsewhere |= {"scaling", *(family for family in CURVES if not sources.owns(family))}
    about: dict[str, Any] = {
        "forests": forests,
        "measured": sorted(set(cards) - elsewhere),
        "modelled": sources.modelled(),
    }
    if any(one.kinship != "own" for one in chosen):
        about["scaled_from"] = sources.origin.device
    if notes := notes_of(sources):
        about["notes"] = notes
    return about


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

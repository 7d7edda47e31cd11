"""Build the tables of a deployment: operator times from a source, composed into what a kernel reads."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastsim.deployment.sections import GIVEN_TIMES
from fastsim.predictors import affine
from fastsim.predictors.built import Built
from fastsim.predictors.calibrated import calibrated
from fastsim.predictors.capture import captured
from fastsim.predictors.key import key_of, measurements_of
from fastsim.predictors.sources import cards_of, host_of, provenance_of, sources_of

if TYPE_CHECKING:
    from fastsim.deployment.resolved import Resolved
    from fastsim.predictors.tables.by_operator import ByOperator
    from fastsim.predictors.tables.cache import Tables
    from fastsim.predictors.times.evidence import Evidence
    from fastsim.predictors.times.iteration import Iteration
    from fastsim.predictors.times.times import Floats, OperatorTimes


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
        **provenance_of(sources, cards_of(sources)),
        **host_of(resolved),
    }


def known_of(resolved: "Resolved", iteration: "Iteration") -> "dict[str, Evidence]":
    """What is known of each operator's time in an iteration; empty for times that are given or Vidur's."""
    from fastsim.predictors.times.evidence import evidence_of

    if resolved.predictor.source.partition(":")[0] in GIVEN_TIMES:
        return {}
    return evidence_of(resolved, sources_of(resolved), iteration)


def times_notes(resolved: "Resolved") -> list[str]:
    """What a user must know of operator times that were not measured; nothing of times that are given or Vidur's."""
    from fastsim.predictors.times.notes import notes_of

    return [] if resolved.predictor.source.partition(":")[0] in GIVEN_TIMES else notes_of(sources_of(resolved))


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
    if resolved.pools:
        return all(map(is_built, resolved.kinds))
    if affine.is_affine(resolved) or resolved.predictor.source.startswith("tables:"):
        return False
    from fastsim.predictors.tables.cache import holds

    return holds(key_of(resolved, measurements_of(resolved)[0]))


def _from_cache(resolved: "Resolved") -> "tuple[Tables, ByOperator, dict[str, Any]]":
    """Tables stored under the digest of everything that goes into them; they are built when the digest is new."""
    from fastsim.kernels.tables import FastsimTables, VidurTables
    from fastsim.predictors.tables.by_operator import breakdown, shares
    from fastsim.predictors.tables.cache import load_or_build
    from fastsim.predictors.tables.draws import spreads
    from fastsim.predictors.times.iteration import typical

    measurements, told = measurements_of(resolved)
    key = key_of(resolved, measurements)

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
    return tables, operators, {**stored, **told, "digest": key}

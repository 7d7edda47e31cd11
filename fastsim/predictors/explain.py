"""One iteration of a deployment, operator by operator: time, interval, share, and how each time is known."""

import math
from typing import Any

from fastsim.deployment.resolved import Resolved
from fastsim.errors import ConfigError
from fastsim.predictors.affine import explain as affine_times
from fastsim.predictors.affine import is_affine
from fastsim.predictors.build import build_cost, known_of
from fastsim.predictors.built import Built
from fastsim.predictors.tables.by_operator import Row, breakdown, interval, shares
from fastsim.predictors.times.iteration import Iteration, check, of_role, typical


def explain_each(resolved: Resolved, iteration: Iteration | None) -> dict[str, Any]:
    """What ``explain`` says of a deployment; with pools in ``pools``, of each with its name, role and replicas.

    ``iteration``: None: a typical one. A pool of role prefill runs its prompts, and one of role decode its decodes; a
    pool that has neither is left out. Raises what ``explain`` raises.
    """
    if not resolved.pools:
        return explain(resolved, iteration or typical(resolved))
    parts = [(each, of_role(iteration or typical(each.resolved), each.pool.role)) for each in resolved.pools]
    return {"pools": [{**each.about, **explain(each.resolved, part)} for each, part in parts if part.num_seqs]}


def explain(resolved: Resolved, iteration: Iteration) -> dict[str, Any]:
    """Explain ``iteration``: what ``fastsim explain --json`` prints.

    ``total_ms`` is what the kernel charges, summed over all pipeline stages, of which several work at once on
    different batches. Raises ConfigError for an iteration that the deployment cannot run, and for Vidur's
    composition.
    """
    check(resolved, iteration)
    if resolved.predictor.compose == "vidur":
        raise ConfigError("predictor.compose: 'vidur' cannot be explained by operator (valid: fastsim)")
    built = build_cost(resolved)
    if is_affine(resolved):
        return _described_iteration(resolved, iteration, built, affine_times(resolved, iteration))
    rows = breakdown(built.operators, known_of(resolved, iteration), iteration, resolved.pipeline_parallel_size)
    ops = resolved.operators
    precisions = {gemm.name: gemm.precision for gemm in (*ops.gemms, ops.lm_head)}
    precisions |= {experts.name: experts.precision for experts in ops.all_experts}
    total, (low, high) = math.fsum(row.ms for row in rows), interval(rows)
    times = {
        "operators": [_described(row, total, precisions.get(row.name)) for row in rows],
        "total_ms": total,
        "interval_ms": [low, high],
        "shares": shares(rows),
    }
    return _described_iteration(resolved, iteration, built, times)


def _described_iteration(
    resolved: Resolved, iteration: Iteration, built: Built, times: dict[str, Any]
) -> dict[str, Any]:
    return {
        "deployment": resolved.deployment.model_dump(mode="json"),
        "iteration": {
            "chunks": [list(chunk) for chunk in iteration.chunks],
            "decodes": [list(group) for group in iteration.decodes],
            "num_tokens": iteration.num_tokens,
            "num_seqs": iteration.num_seqs,
        },
        **times,
        "provenance": {name: value for name, value in built.provenance.items() if name != "known"},
        "warnings": [*resolved.warnings, *built.provenance.get("notes", [])],
    }


def _described(row: Row, total: float, precision: str | None) -> dict[str, Any]:
    about = row.about
    return {
        "name": row.name,
        "count": about.count,
        "precision": precision,  # of the weights; None where there are none
        "shape": about.shape,
        "gflop": about.flops / 1e9,
        "mb": about.bytes_moved / 1e6,
        "ms": row.ms,
        "low_ms": row.low_ms,
        "high_ms": row.high_ms,
        "share": row.ms / total,
        "how": about.how,
    }

"""Figures that are sums over the pools of a deployment, and what each pool did."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from fastsim.arrays import Columns
from fastsim.deployment.resolved import Resolved
from fastsim.kernels import state
from fastsim.kernels.state import Replicas
from fastsim.result.metrics import occupancy
from fastsim.result.metrics.distribution import ratio
from fastsim.result.metrics.energy import energy
from fastsim.result.metrics.utilisation import busy_seconds


def dollars(resolved: Resolved, span: float) -> float | None:
    """Return what the GPUs cost for ``span`` s; None if the price of one is not known."""
    costs = [
        None if kind.price is None else kind.num_gpus * span / 3600 * kind.price.dollars for kind in resolved.kinds
    ]
    known = [cost for cost in costs if cost is not None]
    return sum(known) if len(known) == len(costs) else None


def interruptions(resolved: Resolved, span: float) -> float | None:
    """Return how often replicas on spot GPUs are expected to be interrupted in ``span`` s; None without such GPUs."""
    rates = [
        kind.price.interruptions_per_hour * kind.num_replicas * span / 3600
        for kind in resolved.kinds
        if kind.price is not None and kind.price.interruptions_per_hour is not None
    ]
    return sum(rates) if rates else None


def energy_of_all(resolved: Resolved, replicas: Replicas, span: float, num_output_tokens: int) -> dict[str, Any]:
    """Return the section ``energy`` of a summary, of all pools together; parameters are those of ``energy``."""
    parts = [_energy(kind, replicas, own, span, num_output_tokens) for kind, own in resolved.by_kind]
    if len(parts) == 1 or any(part["kwh"] is None for part in parts):
        return parts[0] if len(parts) == 1 else dict.fromkeys(parts[0])
    kwh = sum(part["kwh"] for part in parts)
    watts = sum(part["watts"] * kind.num_gpus for part, kind in zip(parts, resolved.kinds, strict=True))
    return {
        "kwh": kwh,
        "watts": watts / resolved.num_gpus,
        "joules_per_output_token": kwh * 3.6e6 / num_output_tokens if num_output_tokens else None,
    }


def _energy(kind: Resolved, replicas: Replicas, own: slice, span: float, num_output_tokens: int) -> dict[str, Any]:
    """Return the energy of the replicas of one kind."""
    counts = replicas.counts[own]
    batch_tokens = int(counts[:, state.TOKENS].sum()) / max(1, int(counts[:, state.ITERATIONS].sum()))
    return energy(kind.device, kind.num_gpus, span, _busy(replicas, own, span) or 0.0, batch_tokens, num_output_tokens)


def _busy(replicas: Replicas, own: slice, span: float) -> float | None:
    """Return the share of the span in which a stage of some replicas works."""
    return float((busy_seconds(replicas, span)[own] / span).mean()) if span else None


def known(resolved: Resolved, provenance: Mapping[str, Any], replicas: Replicas) -> dict[str, float] | None:
    """Return which share of the operator times was measured, modelled and outside; with pools by their time."""
    if not resolved.pools:
        return provenance.get("known")
    of_pools = [about.get("known") for about in provenance.get("pools", {}).values()]
    if not of_pools or None in of_pools:
        return None
    busy = np.array([float(replicas.busy[own].sum()) for _, own in resolved.by_kind])
    shares = busy / busy.sum() if busy.sum() else np.full(len(busy), 1 / len(busy))
    return {
        name: round(float(sum(share * each[name] for share, each in zip(shares, of_pools, strict=True) if each)), 4)
        for name in of_pools[0] or ()
    }


def by_pool(resolved: Resolved, columns: Columns, replicas: Replicas, span: float) -> list[dict[str, Any]]:
    """Return the section ``pools`` of a summary, an entry per pool.

    Parameters
    ----------
    resolved, columns, replicas
        The deployment, the columns of requests.parquet by name, and the replicas at the end.
    span : float
        Length of the run, s.
    """
    number = occupancy.served(columns, len(replicas.counts))
    entries = []
    for each, (kind, own) in zip(resolved.pools, resolved.by_kind, strict=True):
        counts = replicas.counts[own]
        spent = dollars(kind, span)
        entries.append(
            {
                "name": each.pool.name,
                "role": each.pool.role,
                "device": kind.device.name,
                "replicas": kind.num_replicas,
                "gpus": kind.num_gpus,
                "requests": int(number[own].sum()),
                "iterations": int(counts[:, state.ITERATIONS].sum()),
                "tokens": int(counts[:, state.TOKENS].sum()),
                "restarts": int(counts[:, state.RESTARTS].sum()),
                "busy": _busy(replicas, own, span),
                "kv_blocks": kind.memory.num_blocks,
                "peak_kv": float(counts[:, state.PEAK].max() / kind.memory.num_blocks),
                "gpu_hours": kind.num_gpus * span / 3600,
                "dollars": spent,
                "dollars_per_request": None if spent is None else ratio(spent, int(number[own].sum())),
                "kwh": _energy(kind, replicas, own, span, 0)["kwh"],
            }
        )
    return entries

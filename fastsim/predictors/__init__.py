"""Where the time of an iteration comes from: a profile source, composed into the tables a kernel reads."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastsim.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from fastsim.deployment import Resolved
    from fastsim.kernels.cost import Cost


@dataclass(frozen=True)
class Built:
    """The tables of a deployment, what they come from (JSON-able), and how long building them took, s."""

    cost: "Cost"
    provenance: dict[str, Any]
    seconds: float


def build_cost(resolved: "Resolved") -> Built:
    """Tables for ``predictor.source`` and ``predictor.compose`` of a deployment.

    Raises TableError for operator times that cannot be used, CatalogError for a device without forests and
    ConfigError for a source that does not exist.
    """
    from fastsim.kernels.cost import COMPOSE_FASTSIM, COMPOSE_VIDUR, Cost

    from .compose import NO_FASTSIM, NO_VIDUR, fastsim_tables, vidur_tables

    began = time.perf_counter()
    deployment = resolved.deployment
    source, compose = deployment.predictor.source, deployment.predictor.compose
    tp, pp = deployment.tensor_parallel_size, deployment.pipeline_parallel_size
    provenance: dict[str, Any]
    if source.startswith("tables:"):
        from .tables import digest, read_tables

        folder = Path(source.removeprefix("tables:")).expanduser()
        times = read_tables(folder, tp, pp)
        provenance = {"source": source, "digest": digest(folder)}
    else:
        valid = ["default", "tables:DIR"]
        raise ConfigError(f"predictor.source: {source!r} is not known; {did_you_mean(source, valid)}")
    num_layers = resolved.model.num_layers // pp
    if compose == "vidur":
        cost = Cost(COMPOSE_VIDUR, pp, vidur_tables(times, tp, num_layers), NO_FASTSIM)
    else:
        tables = fastsim_tables(
            times, tp, num_layers, deployment.scheduler.max_num_seqs, resolved.device.skew
        )
        cost = Cost(COMPOSE_FASTSIM, pp, NO_VIDUR, tables)
    return Built(cost, {**provenance, "compose": compose}, time.perf_counter() - began)

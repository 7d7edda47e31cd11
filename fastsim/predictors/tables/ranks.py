"""What the kernel reads of tables where a replica has ranks: apart what each computes of its own batch, and what all
compute together.
"""

from typing import TYPE_CHECKING

import numpy as np

from fastsim.kernels.tables import COMPOSE_FASTSIM, Cost, FastsimTables, RankTables
from fastsim.predictors.capture import largest_captured
from fastsim.predictors.times.times import Floats

from .by_operator import ByOperator
from .compose import NO_VIDUR, end_slope

if TYPE_CHECKING:
    from fastsim.deployment.resolved import Resolved

EXCHANGES = ("moe_all_to_all", "moe_gather_scatter")


def cost_of(resolved: "Resolved", tables: FastsimTables, operators: ByOperator, shares: Floats) -> Cost:
    """Tables of batches of which every rank has one of the same size, as the kernel reads them for any batches.

    Experts and exchanges are those of all ranks, by the tokens that these have on average.
    """
    names = {experts.name for experts in resolved.operators.all_experts} | set(EXCHANGES)
    together = [operators[name].token_ms for name in sorted(names & operators.keys())]
    shared = np.sum([row for row in together if row.size], axis=0) if together else np.zeros(1)
    own = np.maximum(0.0, tables.token_ms - shared) if shared.size == tables.token_ms.size else tables.token_ms
    graph_tokens = largest_captured(resolved.scheduler, resolved.enforce_eager)
    each = tables._replace(token_ms=own, token_slope=end_slope(own))
    return Cost(
        COMPOSE_FASTSIM,
        1,
        NO_VIDUR,
        each,
        shares,
        ranks=RankTables(np.ascontiguousarray(shared), end_slope(shared), graph_tokens),
    )

"""The tables of a deployment, as they are built."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastsim.kernels.tables import Cost
    from fastsim.predictors.tables.by_operator import ByOperator


@dataclass(frozen=True)
class Built:
    """The tables of a deployment, where they come from, and how long building them took.

    Attributes
    ----------
    cost : the tables as the kernel reads them.
    operators : tables by operator, which add up to those in ``cost``; empty with Vidur's composition, whose times are
        not sums over operators.
    spread : standard deviation of the logarithm of each operator's time, where its interval is known.
    provenance : where the times come from, ready to be written as JSON.
    seconds : time that building took, s.
    pools : the same of each pool, of a deployment with pools; ``cost`` is then that of the first.
    """

    cost: "Cost"
    operators: "ByOperator"
    spread: dict[str, float]
    provenance: dict[str, Any]
    seconds: float
    pools: "tuple[Built, ...]" = ()

    @property
    def costs(self) -> "tuple[Cost, ...]":
        """The tables as the kernel reads them, by pool."""
        return tuple(each.cost for each in self.pools) or (self.cost,)

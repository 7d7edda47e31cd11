"""The pool of a replica: replicas of one pool are alike, and share their limits and operator times.

A kernel is given a tuple of limits and a tuple of costs, by pool. What it asks for a replica's limits also says whether
replicas have one stage or more, so that the compiler sees it: a kernel then holds the code of one of the two only.
"""

from collections.abc import Callable

from .._jit import merged
from .._pointed import bound
from ..state import Limits, State
from ..tables import Cost

MOST_STAGES = 1 << 20
Stages = Callable[[Limits], Limits]  # one_stage, pipeline, any_stages or lockstep


@merged
def limits_of(state: State, limits: tuple[Limits, ...], r: int, stages: Stages) -> Limits:
    """The limits of a replica's pool."""
    return stages(limits[0] if len(limits) == 1 else limits[state.replicas.pool[r]])


@merged
def cost_of(state: State, costs: tuple[Cost, ...], r: int) -> Cost:
    """The operator times of a replica's pool."""
    return costs[0] if len(costs) == 1 else costs[state.replicas.pool[r]]


def one_stage(limits: Limits) -> Limits:
    """The same limits, of a replica that has one stage."""
    return limits


def pipeline(limits: Limits) -> Limits:
    """The same limits, of a replica that has several stages."""
    return limits


@merged
def any_stages(limits: Limits) -> Limits:
    """The limits as they are, of a replica with any number of stages."""
    return limits


def lockstep(limits: Limits) -> Limits:
    """The same limits, of a replica whose ranks step together, and have one stage each."""
    return limits


bound(one_stage, "num_stages", 1, 1)
bound(lockstep, "num_stages", 1, 1)
bound(pipeline, "num_stages", 2, MOST_STAGES)

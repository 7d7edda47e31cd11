"""Pools: replicas of one cluster whose limits and operator times differ."""

import numba
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from kernel_runs import kernel_of, lay_out
from strategies import Case, cases

from fastsim.kernels import state
from fastsim.kernels.exits import Exit
from fastsim.kernels.state import Limits, State
from fastsim.kernels.tables import Cost


def slower(cost: Cost) -> Cost:
    """The same operator times with 1 ms more of host time in every iteration."""
    vidur, ours = cost.vidur, cost.fastsim
    return cost._replace(
        vidur=vidur._replace(host_ms=vidur.host_ms + 1.0), fastsim=ours._replace(host_ms=ours.host_ms + 1.0)
    )


def smaller(limits: Limits) -> Limits:
    """The same limits with fewer KV blocks, requests in memory and tokens in a batch."""
    seqs = max(limits.num_stages, limits.max_num_seqs // 2)
    return limits._replace(
        num_blocks=limits.num_blocks - limits.num_blocks // 4,
        max_num_seqs=seqs,
        micro_batch_size=seqs // limits.num_stages,
        max_batch_size=max(1, limits.max_batch_size // 2),
        chunk_size=max(1, limits.chunk_size // 2),
    )


def run(case: Case, pools: tuple[int, ...], costs: tuple[Cost, ...], limits: tuple[Limits, ...]) -> State:
    """The state at the end, where replica r is of pool ``pools[r]``."""
    lane, _ = lay_out(case, 0)
    lane.replicas.pool[:] = pools
    lane.replicas.counts[:, state.FREE] = [limits[pool].num_blocks for pool in pools]
    lane.cursor[state.LEFT] = 1 << 40
    assert kernel_of(case.settings)(lane, costs, limits) == Exit.DONE
    return lane


@pytest.mark.skipif(not numba.config.DISABLE_JIT, reason="a kernel for two pools would be compiled for this test alone")
@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(cases(router="pinned"))
def test_each_replica_runs_by_the_limits_and_the_cost_of_its_pool(case: Case) -> None:
    _, first = lay_out(case, 0)
    limits, costs = (first, smaller(first)), (case.cost, slower(case.cost))
    pools = tuple(r % 2 for r in range(case.settings.num_replicas))
    mixed = run(case, pools, costs, limits)
    for pool in (0, 1):
        alike = run(case, (0,) * len(pools), costs[pool : pool + 1], limits[pool : pool + 1])
        of_pool = np.isin(mixed.requests.replica, np.flatnonzero(np.array(pools) == pool))
        for name in ("processed", "restarts", "scheduled_at", "started_at", "first_token_at", "finished_at"):
            got, expected = getattr(mixed.requests, name), getattr(alike.requests, name)
            np.testing.assert_array_equal(got[of_pool], expected[of_pool], err_msg=name)
        rows = np.array(pools) == pool
        np.testing.assert_array_equal(mixed.replicas.counts[rows], alike.replicas.counts[rows])

"""Pipelines of vLLM V1 that leap: without a log rounds are done at once, with one call by call; both are the same."""

from collections import Counter

import numba
import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strategies import empty_vidur, fastsim_tables, stage_shares
from vllm_v1_kernel import lay_out
from vllm_v1_strategies import Case, cases

from fastsim.kernels import state
from fastsim.kernels import tables as costs
from fastsim.kernels.exits import Exit
from fastsim.kernels.replicas import routers
from fastsim.kernels.schedulers import vllm_v1
from fastsim.kernels.state import State

EXAMPLES = 150 if not numba.config.DISABLE_JIT else 30
KINDS = st.sampled_from(["ticks", "affine", "tables"])
COHORT_CASES = st.booleans().flatmap(lambda follow: cases(follow=follow, stages=(2, 2, 3, 4, 8)))


def run(case: Case, router: int, kind: str, log_rows: int, slice_length: int) -> tuple[State, int]:
    """The state at the end, and how often the kernel came back. Times are in ticks, or rounded, or those of tables."""
    lane, limits, cost = lay_out(case.requests, case.settings, case.release, case.clock, log_rows, router=router)
    cost.affine[costs.TICK_S] *= kind == "ticks"
    if kind == "tables":
        rng = np.random.default_rng(case.clock.constant)
        tables, shares = fastsim_tables(rng, case.settings.max_num_seqs), stage_shares(rng, cost.num_stages)
        cost = costs.Cost(costs.COMPOSE_FASTSIM, cost.num_stages, empty_vidur(), tables, shares)
    returns = 0
    while True:
        lane.cursor[state.LEFT], lane.cursor[state.LOGGED] = slice_length, 0
        returns += 1
        if vllm_v1.run_stages(lane, (cost,), (limits,)) != Exit.BUDGET:
            return lane, returns


def assert_same(one: State, other: State) -> None:
    """To the bit, whatever a run leaves behind."""
    for part in ("requests", "replicas", "tally", "engine"):
        for name, mine, yours in zip(getattr(one, part)._fields, getattr(one, part), getattr(other, part), strict=True):
            if part == "replicas" and name in ("stage_start", "stage_seconds"):
                continue  # only the runs that leap have them
            np.testing.assert_array_equal(mine, yours, err_msg=f"{part}.{name}")
    np.testing.assert_array_equal(one.tbt, other.tbt)


def test_leaping_equals_stepping() -> None:
    seen: Counter[str] = Counter()

    @settings(max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(COHORT_CASES, st.sampled_from([routers.ROUTED, routers.LEAST_OUTSTANDING]), KINDS, st.integers(1, 99))
    def check(case: Case, router: int, kind: str, slice_length: int) -> None:
        leaping, _ = run(case, router, kind, 0, slice_length)
        stepping, _ = run(case, router, kind, 4096, 1 << 40)
        assert_same(leaping, stepping)
        seen["cases"] += 1
        seen["asynchronous"] += case.settings.async_scheduling
        seen["tokens"] += int(leaping.replicas.counts[0, state.TOKENS])

    check()
    assert seen["cases"] >= EXAMPLES // 2
    assert seen["asynchronous"] >= EXAMPLES // 10

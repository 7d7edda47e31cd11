"""No kernel counts from the end of an array by an index that is not a constant: compiled, it would read beside it."""

import os
from typing import Any

import numpy as np
import pytest
import sglang_kernel
import sglang_strategies
import vllm_v1_kernel
import vllm_v1_strategies
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kernel_runs import kernel_of, lay_out
from strategies import cases

from fastsim.kernels import state
from fastsim.kernels.exits import Exit
from fastsim.kernels.replicas import routers
from fastsim.kernels.schedulers import sglang, vllm_v1

COMPILED = (os.environ.get("NUMBA_DISABLE_JIT") or "0") == "0"
POLICIES = ("vllm", "sarathi", "orca", "lightllm", "faster_transformer", "vllm_v1", "sglang")
QUIET = settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
ROUTERS = (routers.ROUTED, routers.LEAST_OUTSTANDING)


class Forward(np.ndarray):
    """An array that refuses negative indices."""

    def __getitem__(self, index: Any) -> Any:
        self._check(index)
        return super().__getitem__(index)

    def __setitem__(self, index: Any, value: Any) -> None:
        self._check(index)
        super().__setitem__(index, value)

    @staticmethod
    def _check(index: Any) -> None:
        for each in index if isinstance(index, tuple) else (index,):
            assert isinstance(each, slice) or each >= 0, index


def forward(value: Any) -> Any:
    """The same tuple of arrays, all of which refuse negative indices."""
    if isinstance(value, np.ndarray):
        return value.view(Forward)
    if isinstance(value, tuple):
        parts = [forward(part) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    return value


def finish(kernel: Any, lane: Any, costs: Any, limits: Any) -> int:
    lane, costs = forward(lane), forward(costs)
    while True:
        lane.cursor[state.LEFT], lane.cursor[state.LOGGED] = 1 << 30, 0
        if kernel(lane, costs, limits) != Exit.BUDGET:
            return int(lane.replicas.counts[:, state.ITERATIONS].sum())


@pytest.mark.skipif(COMPILED, reason="compiled, arrays are no objects")
@pytest.mark.parametrize("policy", POLICIES)
def test_no_index_is_negative(policy: str) -> None:
    batches = 0

    @QUIET
    @given(st.data(), st.booleans(), st.sampled_from([0, 64]), st.sampled_from(ROUTERS))
    def check(data: st.DataObject, follow: bool, log_rows: int, router: int) -> None:
        nonlocal batches
        kernel: Any
        if policy == "vllm_v1":
            one = data.draw(vllm_v1_strategies.cases(follow=follow))
            *_, lane, limits, cost = vllm_v1_kernel.lay_out(*one, log_rows, 1, router)
            kernel = vllm_v1.run if limits.num_stages == 1 else vllm_v1.run_stages
        elif policy == "sglang":
            other = data.draw(sglang_strategies.cases(follow=follow))
            lane, limits = sglang_kernel.lay_out(other.requests, other.settings, other.release, log_rows, 1, router)
            cost, kernel = sglang_kernel.cost_of(other.clock), sglang.run
        else:
            case = data.draw(cases(policy, follow=follow))
            lane, limits = lay_out(case, log_rows)
            cost, kernel = case.cost, kernel_of(case.settings)
        batches += finish(kernel, lane, (cost,), (limits,))

    check()
    assert batches > 200

"""Kernels against the obvious twin, to the bit."""

from collections import Counter

import numba
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kernel_runs import assert_equals_twin, kernel_of, lay_out, run
from strategies import POLICIES, Case, cases

from fastsim.kernels import _jit, state
from fastsim.kernels.accounts import histogram, scale
from fastsim.kernels.exits import Ending
from fastsim.kernels.tables import TICK_S

COMPILED = not numba.config.DISABLE_JIT
# Interpreted kernels are slow: there the same cases serve to see every line run.
EXAMPLES = 420 if COMPILED else 60
QUIET = settings(max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize("policy", POLICIES)
def test_equals_the_twin(policy: str) -> None:
    seen: Counter[str] = Counter()

    @QUIET
    @given(cases(policy))
    def check(case: Case) -> None:
        twin = assert_equals_twin(case)
        seen["cases"] += 1
        seen["restarts"] += bool(twin.restarts)
        seen["pipelines"] += case.settings.num_stages > 1
        seen["unfinished"] += set(twin.outcome) != {"done"}

    check()
    print(f"{policy}: {dict(seen)}")
    assert seen["cases"] >= EXAMPLES
    if not COMPILED:
        return  # too few cases to count on
    assert seen["unfinished"] > 0
    if policy in ("vllm", "sarathi"):
        assert seen["restarts"] > EXAMPLES // 20
    if policy != "lightllm":
        assert seen["pipelines"] > EXAMPLES // 5


@pytest.mark.parametrize("policy", POLICIES)
def test_equals_the_twin_where_requests_follow_others(policy: str) -> None:
    seen: Counter[str] = Counter()

    @QUIET
    @given(cases(policy, follow=True))
    def check(case: Case) -> None:
        twin = assert_equals_twin(case)
        seen["cases"] += 1
        seen["pipelines"] += case.settings.num_stages > 1
        seen["clusters"] += case.settings.num_replicas > 1
        seen["followed"] += sum(r.follows is not None and r.arrived_at >= 0 for r in twin.requests)

    check()
    print(f"{policy}: {dict(seen)}")
    assert seen["followed"] > 3 * seen["cases"]
    assert seen["clusters"] > EXAMPLES // 5


@settings(QUIET, max_examples=EXAMPLES // 2)
@given(cases(), st.integers(1, 9), st.integers(1, 9))
def test_slices_equal_one_run(case: Case, slice_length: int, log_rows: int) -> None:
    assert_equals_twin(case, slice_length, log_rows)


@settings(QUIET, max_examples=EXAMPLES // 2)
@given(cases())
def test_everything_balances(case: Case) -> None:
    lane, rows = run(case)
    counts, requests = lane.replicas.counts, lane.requests
    if (counts[:, state.OUTCOME] != Ending.GOING).any():
        return
    assert np.isfinite(requests.finished_at).all()
    np.testing.assert_array_equal(requests.processed, requests.total)
    assert (counts[:, state.FREE] == case.settings.num_blocks).all()
    assert not counts[:, [state.ALLOCATED, state.PRESENT, state.WAITING, state.UNSEEN]].any()
    assert not counts[:, [state.GROUP, state.GROUP_KV, state.CHUNKED]].any()
    assert not lane.replicas.growth.any()
    assert not (counts[:, state.RUNNING] * (1 - counts[:, state.GROUPED])).any()  # a group leaves names behind
    assert not requests.blocks.any()
    # A prompt of p and an output of o take p + o - 1 tokens; a restart takes what was computed again.
    on_first_stage = sum(row[5] for row in rows if row[1] == 0)  # type: ignore[misc]
    if not requests.restarts.any():
        assert on_first_stage == requests.total.sum() - len(requests.total)
    assert on_first_stage == counts[:, state.TOKENS].sum() >= requests.total.sum() - len(requests.total)
    assert counts[:, state.PEAK].max() <= case.settings.num_blocks


@settings(QUIET, max_examples=EXAMPLES // 4)
@given(cases())
def test_no_log_changes_nothing(case: Case) -> None:
    silent, rows = run(case, log_rows=0)
    logged, _ = run(case)
    assert not rows
    for quiet, kept in zip(silent.requests, logged.requests, strict=True):
        np.testing.assert_array_equal(quiet, kept)


@settings(QUIET, max_examples=EXAMPLES // 4)
@given(cases("vllm") | cases("sarathi"))
def test_twice_as_fast_halves_the_times(case: Case) -> None:
    """Halving the table and the arrivals is exact in binary, so the whole schedule scales to the bit."""
    vidur, ours = case.cost.vidur, case.cost.fastsim
    divisors = np.full(case.cost.affine.shape, 2.0)
    if case.cost.affine[TICK_S]:  # a tick is half as long, of which a batch takes as many
        divisors[:] = 1.0
        divisors[TICK_S] = 2.0
    scaled = case.cost._replace(
        vidur=vidur._replace(
            **{name: getattr(vidur, name) / 2 for name in ("before_attention", "all_reduce", "input_norm")},
            **{name: getattr(vidur, name) / 2 for name in ("mlp", "add", "send", "decode", "prefill")},
            host_ms=vidur.host_ms / 2,
        ),
        fastsim=ours._replace(
            **{name: getattr(ours, name) / 2 for name in ("token_ms", "first_ms", "last_ms", "host_ms", "least_ms")},
            **{name: getattr(ours, name) / 2 for name in ("send_ms", "decode_ms", "prefill_ms")},
            **{name: getattr(ours, name) / 2 for name in ("token_slope", "first_slope", "send_slope")},
        ),
        affine=case.cost.affine / divisors,
    )
    lane, limits = lay_out(case, 0)
    fast, _ = lay_out(case, 0)
    fast.requests.arrived_at[:] /= 2
    fast.moments[:] /= 2
    kernel = kernel_of(case.settings)
    for which, cost in ((lane, case.cost), (fast, scaled)):
        which.cursor[state.LEFT] = 1 << 40
        kernel(which, (cost,), (limits,))
    np.testing.assert_array_equal(fast.requests.finished_at, lane.requests.finished_at / 2)
    np.testing.assert_array_equal(fast.requests.execution_time, lane.requests.execution_time / 2)


@settings(deadline=None)  # the first call compiles
@given(st.floats(1e-6, 4e6))
def test_a_bin_holds_its_times(seconds: float) -> None:
    edges = scale.edges()
    place = _bin_of(seconds)
    assert edges[place] <= seconds < edges[place + 1]
    assert edges[place + 1] / edges[place] < 1.0079


@_jit.kernel  # parts of a kernel have no way in from Python
def _bin_of(seconds: float) -> int:
    return histogram.bin_of(seconds)

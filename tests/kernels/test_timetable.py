"""Pipelines that leap: without a log they run by a timetable, with one from event to event, and both are the same."""

from collections import Counter

import numba
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kernel_runs import assert_equals_twin, run
from strategies import Case, cases

from fastsim.kernels import state

COMPILED = not numba.config.DISABLE_JIT
POLICIES = ("vllm", "sarathi", "orca", "faster_transformer")
STAGES = (2, 2, 3, 4, 8)
EXAMPLES = 250 if COMPILED else 20  # for each policy
QUIET = settings(max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
# What only one of the two ways uses, until when a replica need not be looked at, and what a list holds beyond its end.
APART = {"stage_start", "stage_end", "stage_seconds", "stage_batch", "stage_sequence"}
APART |= {"queue", "queued", "events", "quiet_until", "soonest", "running"}
COUNTS = [place for place in range(state.NUM_COUNTS) if place not in (state.EVENTS_HEAD, state.SEQUENCE)]


def assert_same(one: state.State, other: state.State) -> None:
    """To the bit, whatever a run leaves behind."""
    for part in ("requests", "replicas", "tally"):
        for name, mine, yours in zip(getattr(one, part)._fields, getattr(one, part), getattr(other, part), strict=True):
            if name in APART:
                continue
            if name == "counts":
                mine, yours = mine[:, COUNTS], yours[:, COUNTS]
            np.testing.assert_array_equal(mine, yours, err_msg=f"{part}.{name}")
    np.testing.assert_array_equal(one.tbt, other.tbt)


@pytest.mark.parametrize("policy", POLICIES)
def test_leaping_equals_stepping(policy: str) -> None:
    seen: Counter[str] = Counter()

    @QUIET
    @given(st.booleans().flatmap(lambda follow: cases(policy, follow=follow, stages=STAGES)))
    def check(case: Case) -> None:
        leaping, rows = run(case, log_rows=0)
        stepping, logged = run(case)
        assert not rows
        assert_same(leaping, stepping)
        seen["cases"] += 1
        seen["batches"] += sum(row[1] == 0 for row in logged)

    check()
    assert seen["cases"] >= EXAMPLES
    assert seen["batches"] > 10 * EXAMPLES


@settings(QUIET, max_examples=EXAMPLES // 5)
@given(st.sampled_from(POLICIES).flatmap(lambda policy: cases(policy, stages=STAGES)), st.integers(1, 9))
def test_leaping_equals_the_twin_in_slices(case: Case, slice_length: int) -> None:
    assert_equals_twin(case, slice_length, log_rows=0)

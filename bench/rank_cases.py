"""Ranks that step together against their twin: `python bench/rank_cases.py [--cases 2000] [--seed 0]`.

The cases are those of tests/simulation/test_ranks.py, many more of them. Prints what they had in them.
"""

import argparse
import importlib.util
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

TESTS = Path(__file__).resolve().parents[1] / "tests"


def cases_of(number: int, start: int) -> Counter[str]:
    """Compare ``number`` cases, and count what was in them. Raises AssertionError at the first that differs."""
    spec = importlib.util.spec_from_file_location("test_ranks", TESTS / "simulation" / "test_ranks.py")
    assert spec is not None and spec.loader is not None
    tests: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tests)
    seen: Counter[str] = Counter()

    @seed(start)
    @settings(deadline=None, max_examples=number, database=None, suppress_health_check=list(HealthCheck))
    @given(
        st.booleans().flatmap(lambda follow: tests.setups(follow=follow)),
        st.sampled_from([0, 4096]),
        st.sampled_from([1 << 40, 40]),
    )
    def check(setup: Any, log_rows: int, slice_length: int) -> None:
        lane = tests.assert_equals_twin(setup, log_rows, slice_length)
        seen["cases"] += 1
        seen["with preemptions"] += bool((lane.requests.restarts > 0).any())
        seen["with cached prefixes"] += bool((lane.engine.cached > 0).any())
        seen["asynchronous"] += setup.case.settings.async_scheduling
        seen["of two replicas"] += setup.num_replicas > 1
        seen["with sessions"] += any(request.follows is not None for request in setup.case.requests)

    check()
    return seen


def main() -> None:
    """Compare as many cases as asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    sys.path.insert(0, str(TESTS))
    for name, number in cases_of(asked.cases, asked.seed).items():
        print(f"{number:7,} {name}")


if __name__ == "__main__":
    main()

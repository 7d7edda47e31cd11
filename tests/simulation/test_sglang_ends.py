"""What a run with policy sglang says where SGLang would not serve its requests, and what its summary holds."""

from typing import Any

import numpy as np
import pytest

import fastsim
from fastsim.errors import StuckError, WorkloadError
from fastsim.workload import Workload
from fastsim.workload.blocks import BlockHashes

AFFINE = {"source": "affine", "affine": {"constant_ns": 1e7}}


def deployment(scheduler: dict[str, Any], engine: str = "sglang-0.5.10", replicas: int = 1) -> fastsim.Deployment:
    given = {"model": "llama-3-8b", "device": "h100", "engine": engine, "num_replicas": replicas}
    return fastsim.Deployment.load({**given, "scheduler": scheduler, "predictor": AFFINE})


def requests(*rows: tuple[float, int, int]) -> Workload:
    columns = np.array(rows).T
    return Workload(columns[0], columns[1].astype(np.int64), columns[2].astype(np.int64))


def test_a_request_that_is_too_long_for_the_cache_is_refused() -> None:
    with pytest.raises(WorkloadError, match=r"request 1: .* 299 tokens together, and SGLang serves at most 298"):
        fastsim.simulate(deployment({"max_total_num_tokens": 300}), requests((0, 20, 2), (1, 200, 99)))


@pytest.mark.parametrize("replicas", [1, 2])
def test_a_request_that_is_never_taken_ends_the_run(replicas: int) -> None:
    settings = {"max_total_num_tokens": 64, "page_size": 16, "disable_radix_cache": True, "ignore_eos": True}
    with pytest.raises(StuckError, match=r"replica 0: SGLang never takes request 0: it has 50 tokens and may have 62"):
        fastsim.simulate(deployment(settings, replicas=replicas), requests((0, 50, 12), (0.005, 5, 2)))


def test_mixed_chunks_may_crash_the_engine_for_want_of_memory() -> None:
    settings = {
        "max_total_num_tokens": 160,
        "chunked_prefill_size": 8,
        "enable_mixed_chunk": True,
        "schedule_conservativeness": 0.01,
        "disable_overlap_schedule": True,
    }
    stream = requests(*[(0, 1, 60)] * 4, (0.03, 120, 2))
    with pytest.raises(StuckError, match=r"SGLang crashes: a batch needs more KV slots than are free"):
        fastsim.simulate(deployment(settings), stream)


def test_the_summary_has_hits_of_the_tree_and_retractions() -> None:
    again = [[1, 2, 3], [1, 2, 3], [7, 8, 9]]
    hashes = BlockHashes.of(again, 16)
    known = Workload(np.array([0.0, 1.0, 2.0]), np.full(3, 50), np.full(3, 4), block_hashes=hashes)
    summary = fastsim.simulate(deployment({"page_size": 1}), known).summary
    assert summary["cache"]["hit_tokens"] == 48 and summary["cache"]["queried_tokens"] == 150
    tight = deployment({"max_total_num_tokens": 150, "schedule_conservativeness": 0.01})
    summary = fastsim.simulate(tight, requests(*[(0, 20, 100)] * 4)).summary
    assert summary["preemptions"]["for_decodes"] == summary["totals"]["restarts"] > 0
    assert summary["totals"]["finished"] == 4


def test_the_tree_needs_hashes_of_blocks_that_pages_fit_into() -> None:
    known = Workload(np.zeros(1), np.full(1, 50), np.full(1, 4), block_hashes=BlockHashes.of([[1]], 24))
    with pytest.raises(WorkloadError, match=r"blocks of 24 tokens, of which scheduler.page_size 16 is no divisor"):
        fastsim.simulate(deployment({"page_size": 16, "chunked_prefill_size": 8192}), known)

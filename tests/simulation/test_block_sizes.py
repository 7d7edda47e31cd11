"""Block hashes of a workload where the KV blocks of the engine are of another size."""

import numpy as np
import pytest

import fastsim
from fastsim.errors import WorkloadError
from fastsim.workload import Workload
from fastsim.workload.blocks import BlockHashes

# 64 tokens of 96 are the same, in blocks of 32; negative hashes are like any others.
HASHES = BlockHashes.of([[5, 7, 8], [5, 7, -9]], 32)
WORKLOAD = Workload(np.array([0.0, 100.0]), np.array([96, 96]), np.array([3, 3]), block_hashes=HASHES)


def cached(block_size: int) -> list[int]:
    scheduler = {"block_size": block_size, "num_blocks": 1000}
    affine = {"source": "affine", "affine": {"constant_ns": 1_000_000}}
    deployment = {"model": "llama-3-8b", "device": "h100", "engine": "vllm-0.19", "predictor": affine}
    result = fastsim.simulate(fastsim.Deployment.load({**deployment, "scheduler": scheduler}), WORKLOAD)
    tokens: list[int] = result.requests["num_cached_tokens"].to_pylist()
    return tokens


def test_what_is_shared_is_found_in_smaller_and_in_larger_blocks() -> None:
    assert [cached(block_size) for block_size in (16, 32, 64)] == [[0, 64]] * 3


def test_blocks_that_are_no_multiple_are_refused() -> None:
    said = "block_hashes are of blocks of 32 tokens, of which scheduler.block_size 24 is no divisor or multiple"
    with pytest.raises(WorkloadError, match=said):
        cached(24)

"""What results of the vllm_v1 policy say about its prefix cache."""

from dataclasses import replace

import numpy as np
import pytest

from fastsim.deployment import engines, schedulers
from fastsim.deployment.resolved import Deployment, Resolved, resolve
from fastsim.result.result import config_of
from fastsim.simulation.many import Run, simulate_many
from fastsim.workload import Workload
from fastsim.workload.blocks import BlockHashes


def engine(caching: bool = True) -> Resolved:
    resolved = resolve(Deployment.load(None, ["scheduler.num_blocks=64"]))
    settings = replace(
        resolved.scheduler,
        policy=schedulers.POLICIES["vllm_v1"],
        release=engines.RELEASES["vllm-0.19"],
        enable_prefix_caching=caching,
        enable_chunked_prefill=True,
        scheduler_reserve_full_isl=True,
        empty_step_sleep_s=0.001,
        batch_queue_depth=1,
        watermark=0.0,
    )
    memory = replace(resolved.memory, watermark_blocks=0)
    return replace(resolved, scheduler=settings, memory=memory)


def stream() -> Workload:
    """Three requests, each after the end of the one before: the second is the first again, the third half of it."""
    return Workload(
        name="again",
        arrived_at=np.array([0.0, 10.0, 20.0]),
        num_prompt_tokens=np.array([64, 64, 64]),
        num_output_tokens=np.array([4, 4, 4]),
        block_hashes=BlockHashes.of([[1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 5, 6]]),
    )


def run(resolved: Resolved | Deployment) -> Run:
    [done] = simulate_many([(resolved, stream())], requests=True, detail=True)
    if done.error is not None:
        raise done.error
    return done


@pytest.fixture(scope="module")
def cached() -> Run:
    return run(engine())


def test_requests_say_how_many_tokens_were_cached(cached: Run) -> None:
    assert cached.requests is not None
    # The last token is computed in any case, and with it its block.
    assert cached.requests["num_cached_tokens"].to_pylist() == [0, 48, 32]
    field = cached.requests.schema.field("num_cached_tokens")
    assert (field.type, field.metadata[b"unit"]) == ("int32", b"tokens")
    uncached, other = run(engine(caching=False)).requests, run(Deployment.load()).requests
    assert uncached is not None
    assert uncached["num_cached_tokens"].to_pylist() == [0, 0, 0]
    assert other is not None
    assert "num_cached_tokens" not in other.column_names


def test_a_result_follows_from_hashes_only_where_they_are_read() -> None:
    def digest(resolved: Resolved, workload: Workload) -> str:
        return str(config_of(resolved, workload, {})["workload"]["sha256"])

    plain = replace(stream(), block_hashes=None)
    assert digest(engine(), stream()) != digest(engine(), plain)
    assert digest(engine(caching=False), stream()) == digest(engine(caching=False), plain)

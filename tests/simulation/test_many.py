"""Many simulations in one call give the results of single ones on any number of threads, and keep errors apart."""

from typing import Any

import numpy as np
import pytest

import fastsim
from fastsim.deployment.description import Deployment
from fastsim.deployment.resolve import resolve
from fastsim.deployment.resolved import Resolved
from fastsim.errors import CatalogError, StuckError, WorkloadError
from fastsim.predictors.build import build_cost
from fastsim.predictors.built import Built
from fastsim.simulation import layout, many
from fastsim.simulation.arena import Arena
from fastsim.simulation.stream import share
from fastsim.workload import Workload
from fastsim.workload.loading import load

CHAT = load("chat", rate=6.0, num_requests=120, seed=3)
LONG = load("summarisation", rate=2.0, num_requests=60, seed=5)


def deployment(**fields: Any) -> Deployment:
    return Deployment.load(None, [f"{name.replace('__', '.')}={value}" for name, value in fields.items()])


JOBS = [
    (deployment(scheduler__policy="vllm"), CHAT),
    (deployment(num_replicas=3, scheduler__max_num_seqs=16), LONG),
    (deployment(num_replicas=2, router__policy="least_outstanding", scheduler__chunk_size=256), CHAT),
    (deployment(scheduler__policy="orca", scheduler__num_blocks=2000), CHAT),
    (deployment(pipeline_parallel_size=2, scheduler__max_num_seqs=8), LONG),
    (deployment(scheduler__policy="vllm", scheduler__num_blocks=600, scheduler__block_size=32), LONG),
    (deployment(num_replicas=2, router__policy="random", seed=4), CHAT),
    (deployment(num_replicas=5, scheduler__policy="lightllm"), CHAT),
    (deployment(scheduler__policy="faster_transformer"), LONG),
]


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("keep", [False, True])
def test_many_results_equal_single_ones(threads: int, keep: bool) -> None:
    for (described, workload), run in zip(
        JOBS, fastsim.simulate_many(JOBS, threads=threads, requests=keep, detail=True), strict=True
    ):
        alone = fastsim.simulate(described, workload)
        assert run.error is None
        assert run.summary is not None
        assert {**run.summary, "timing": 0} == {**alone.summary, "timing": 0}
        assert set(run.summary["timing"]) == set(alone.summary["timing"])
        if keep:
            assert run.requests is not None
            assert run.requests.equals(alone.requests, check_metadata=True)
        else:
            assert run.requests is None


def test_an_error_stays_with_its_job() -> None:
    stuck = Workload(np.array([0.0]), np.array([1000]), np.array([500]), None, "grows")
    jobs = [
        (deployment(), CHAT),
        (deployment(model="meta-llama/Llama-9-7b"), CHAT),
        (deployment(scheduler__num_blocks=64), CHAT),
        (deployment(scheduler__policy="sarathi", scheduler__num_blocks=64, scheduler__watermark=0), stuck),
        (deployment(scheduler__chunk_size=256), CHAT),
    ]
    runs = fastsim.simulate_many(jobs)
    assert [type(run.error) for run in runs] == [type(None), CatalogError, WorkloadError, StuckError, type(None)]
    assert [run.summary is None for run in runs] == [False, True, True, True, False]


def test_no_jobs() -> None:
    shares: list[float] = []
    assert fastsim.simulate_many([], progress=shares.append) == []


def test_progress_ends_at_1() -> None:
    shares: list[float] = []
    fastsim.simulate_many(JOBS, progress=shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1.0)


def test_an_interrupt_ends_all_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(share: float) -> None:
        raise KeyboardInterrupt

    started = []
    original = many._run

    def counted(*given: Any) -> many.Run:
        started.append(1)
        return original(*given)

    monkeypatch.setattr(many, "_run", counted)
    with pytest.raises(KeyboardInterrupt):
        fastsim.simulate_many(
            [(deployment(seed=seed), load("chat", num_requests=20_000)) for seed in range(40)], progress=interrupt
        )
    assert len(started) < 40


def test_tables_are_built_once_for_all_jobs_that_share_them(monkeypatch: pytest.MonkeyPatch) -> None:
    built = []

    def counted(resolved: Resolved) -> Built:
        built.append(resolved)
        return build_cost(resolved)

    monkeypatch.setattr(many, "build_cost", counted)
    same: list[dict[str, Any]] = [
        {}, {"num_replicas": 2}, {"router__policy": "least_waiting"}, {"scheduler__watermark": 0.1},
        {"scheduler__block_size": 32}, {"seed": 7}, {"gpu_memory_utilization": 0.8}, {"scheduler__num_blocks": 5000},
    ]  # fmt: skip
    other: list[dict[str, Any]] = [
        {"tensor_parallel_size": 2}, {"device": "a100", "node": "a100_dgx"}, {"scheduler__max_num_seqs": 64},
        {"max_model_len": 4096},
        {"pipeline_parallel_size": 2}, {"model": "meta-llama/Llama-2-7b-hf", "max_model_len": 4096},
    ]  # fmt: skip
    runs = fastsim.simulate_many([(deployment(**fields), CHAT) for fields in (*same, *other)])
    assert [run.error for run in runs if run.error] == []
    assert len(built) == 1 + len(other)


def test_deployments_with_equal_keys_have_equal_tables() -> None:
    """The fields that the key leaves out do not change the tables."""
    for fields in ({"num_replicas": 2}, {"scheduler__block_size": 32}, {"gpu_memory_utilization": 0.7}, {"seed": 3}):
        plain, changed = resolve(deployment()), resolve(deployment(**fields))
        assert many.tables_key(plain) == many.tables_key(changed)
        first, second = build_cost(plain), build_cost(changed)
        assert first.provenance == second.provenance
    orca = [resolve(deployment(scheduler__policy="orca", scheduler__num_blocks=blocks)) for blocks in (600, 1200)]
    assert many.tables_key(orca[0]) != many.tables_key(orca[1])
    synchronous = resolve(deployment(scheduler__async_scheduling="false"))
    assert many.tables_key(synchronous) != many.tables_key(resolve(deployment()))  # host time is another


def test_larger_jobs_come_first() -> None:
    small, large = (many.estimate(resolve(deployment(num_replicas=number)), CHAT) for number in (1, 4))
    assert large > small > CHAT.num_requests


def test_an_arena_reuses_its_memory() -> None:
    arena = Arena()
    first = arena.take("x", (4, 5), np.int32, 7)
    assert (first == 7).all()
    first[:] = 1
    second = arena.take("x", (2, 3), np.int32, 7)
    assert second.flags.c_contiguous
    assert (second == 7).all()
    assert np.shares_memory(first, second)
    assert arena.take("x", (2, 3), np.int32) is second and not second.any()
    larger = arena.take("x", 100, np.int32)
    assert larger.shape == (100,)
    assert not larger.any()


def test_each_simulation_writes_to_its_own_arrival_times() -> None:
    times = np.array([0.0, 1.0])
    workload = Workload(times, np.array([3, 4]), np.array([5, 6]))
    shared = share(workload.arrived_at, workload.num_prompt_tokens, workload.num_output_tokens)
    assert np.shares_memory(shared.arrived_at, times)
    assert shared.total.tolist() == [8, 10]
    requests = layout.lay_out_requests(shared, Arena())
    requests.arrived_at[:] = 7.0
    assert times.tolist() == [0.0, 1.0]

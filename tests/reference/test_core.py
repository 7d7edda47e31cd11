"""The twin against Vidur's recorded runs, small runs made by hand, and laws on generated ones."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import astuple, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from reference.core import Batch, Outcome, Request, Settings, Simulation, simulate
from reference.cost import cost_stage_seconds, vidur_stage_seconds
from strategies import Case, cases

GOLDEN = Path(__file__).resolve().parents[3] / "shared" / "golden"
ROUTERS = {"round_robin": "round_robin", "random": "pinned", "lor": "least_waiting"}
LAW = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def golden_cases() -> list[Path]:
    """In the order of their tables, so that each table is read once."""
    folders = [path.parent for path in GOLDEN.glob("*/config.json")]
    return sorted(folders, key=lambda folder: (config(folder)["tables"], folder.name))


def config(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return content


def columns(path: Path) -> dict[str, list[Any]]:
    from pyarrow import parquet

    content: dict[str, list[Any]] = parquet.read_table(path).to_pydict()
    return content


@lru_cache(maxsize=1)
def tables_of(folder: Path) -> tuple[dict[str, dict[Any, float]], dict[str, Any]]:
    tables = {}
    for path in folder.glob("*.parquet"):
        *keys, ms = columns(path).values()
        tables[path.stem] = dict(zip(keys[0] if len(keys) == 1 else zip(*keys, strict=True), ms, strict=True))
    return tables, json.loads((folder / "meta.json").read_text())


@pytest.fixture(scope="module", autouse=True)
def forget_tables() -> Iterator[None]:
    yield
    tables_of.cache_clear()  # hundreds of MB


def replay(folder: Path) -> Outcome:
    given, expected = columns(folder / "requests.parquet"), columns(folder / "expected_requests.parquet")
    assert given["request_id"] == expected["request_id"] == list(range(len(given["request_id"])))
    requests = [
        Request(*row)
        for row in zip(
            given["arrived_at"],
            given["num_prefill_tokens"],
            given["num_decode_tokens"],
            expected["replica_id"],
            strict=True,
        )
    ]
    c = config(folder)
    scheduler, num_blocks = c["scheduler_config"], int(c["num_blocks"])
    limits = {name: scheduler[name] for name in ("chunk_size", "max_waiting_iters") if name in scheduler}
    if "max_tokens_in_batch" in scheduler:
        limits["max_num_batched_tokens"] = scheduler["max_tokens_in_batch"]
    settings = Settings(
        policy=c["scheduler"],
        router=ROUTERS[c["global_scheduler"]],
        num_replicas=c["num_replicas"],
        num_stages=c["pp"],
        num_blocks=num_blocks,
        block_size=scheduler["block_size"],
        watermark_blocks=int(scheduler["watermark_blocks_fraction"] * num_blocks),
        max_num_seqs=scheduler["batch_size_cap"],
        micro_batch_size=scheduler["batch_size_cap"] // c["pp"],
        max_batch_size=int(c["max_batch_size_planner"]),
        blocks_per_sequence=c["max_tokens"] // scheduler["block_size"],
        **limits,
    )
    tables, meta = tables_of((folder / c["tables"]).resolve())
    seconds = vidur_stage_seconds(tables, meta, tp=c["tp"], pp=c["pp"], layers=c["model_layers"])
    return simulate(requests, settings, seconds)


@pytest.mark.skipif(not GOLDEN.exists(), reason="needs the recorded runs of Vidur")
@pytest.mark.parametrize("folder", golden_cases(), ids=lambda folder: folder.name)
def test_replays_vidur_to_the_bit(folder: Path) -> None:
    outcome = replay(folder)

    def expected(table: str, *names: str) -> list[tuple[Any, ...]]:
        content = columns(folder / f"expected_{table}.parquet")
        return list(zip(*(content[name] for name in names or content), strict=True))

    assert [i[:7] for i in outcome.iterations] == expected(
        "stages", "replica_id", "stage_id", "start", "end", "size", "total_tokens", "num_prefill_tokens"
    )
    assert [(r.replica_id, r.scheduled_at, r.first_token_at, r.finished_at) for r in outcome.requests] == expected(
        "requests", "replica_id", "scheduled_at", "prefill_completed_at", "completed_at"
    )
    assert [(r.execution_time, r.num_restarts) for r in outcome.requests] == expected(
        "requests", "execution_time", "num_restarts"
    )
    preempted = [seconds for (seconds,) in expected("requests", "preempted_time")]
    assert [r.preempted_time for r in outcome.requests] == pytest.approx(preempted, rel=0, abs=1e-9)
    assert [tuple(restart) for restart in outcome.restarts] == expected("restarts")
    assert set(outcome.outcome) == {"done"}


def one_second(stage: int, batch: Batch) -> float:
    return 1.0


def test_time_to_first_token_is_that_of_the_first_prefill_and_gaps_go_on_through_a_restart() -> None:
    few = Settings(policy="vllm", num_blocks=2, block_size=4)
    outcome = simulate([Request(0.0, 7, 20)], few, one_second)
    # Alone and without a free block it restarts, fits once more, and then has outgrown the memory.
    assert [tuple(restart) for restart in outcome.restarts] == [(1.0, 0, 8, 7, 20), (2.0, 0, 9, 8, 19)]
    assert (outcome.outcome, outcome.stuck_head) == (["stuck"], [0])
    (request,) = outcome.requests
    assert request.first_token_at == 1.0
    assert request.token_gaps == [1.0]
    assert request.num_restarts == 2


def test_preempted_time_counts_every_gap_but_not_the_wait_before_the_first_stage() -> None:
    one = Settings(policy="faster_transformer", num_blocks=1, blocks_per_sequence=1, num_stages=2)
    # Two stages, one request at a time: the second starts when the first is through.
    outcome = simulate([Request(0.0, 5, 2), Request(0.5, 5, 1)], one, one_second)
    assert [r.started_at for r in outcome.requests] == [0.0, 4.0]
    assert [r.execution_time for r in outcome.requests] == [4.0, 2.0]
    assert [r.preempted_time for r in outcome.requests] == [0.0, 0.0]
    two = replace(one, num_blocks=2, max_batch_size=1)
    outcome = simulate([Request(0.0, 5, 2), Request(0.0, 5, 1)], two, lambda stage, _: 1.0 + stage)
    # The second waits for stage 1 from 2 s to 3 s; the first is back on stage 1 at 5 s, when that is free.
    assert [r.preempted_time for r in outcome.requests] == [1.0, 1.0]


def test_a_prompt_that_never_fits_is_stuck_once_the_replica_is_empty() -> None:
    stream = [Request(0.0, 4, 3), Request(0.0, 400, 1), Request(9.0, 4, 1)]
    outcome = simulate(stream, Settings(num_blocks=4, block_size=16), one_second)
    assert (outcome.outcome, outcome.stuck_head) == (["stuck"], [1])
    assert outcome.requests[0].finished_at == 3.0
    assert all(r.scheduled_at != r.scheduled_at for r in outcome.requests[1:])


def test_a_stuck_replica_does_not_stop_the_others() -> None:
    stream = [Request(0.0, 400, 1), Request(0.0, 4, 2)]
    outcome = simulate(stream, Settings(num_blocks=4, num_replicas=2), one_second)
    assert outcome.outcome == ["stuck", "done"]
    assert outcome.requests[1].finished_at == 2.0


def test_who_arrives_as_a_batch_ends_takes_part_in_the_next() -> None:
    outcome = simulate([Request(0.0, 4, 3), Request(1.0, 6, 1)], Settings(), one_second)
    assert [i.num_tokens for i in outcome.iterations] == [4, 6, 1, 1]
    # With room for another batch as well: the batch ends before the arrival leads to scheduling.
    two = Settings(policy="sarathi", num_stages=2)
    outcome = simulate([Request(0.0, 4, 2), Request(2.0, 6, 1)], two, one_second)
    assert [i.num_tokens for i in outcome.iterations if i.stage_id == 0] == [4, 1 + 6]


def test_who_finishes_as_another_arrives_still_counts() -> None:
    def replicas(second: float, router: str) -> list[int]:
        stream = [Request(0.0, 4, 1), Request(second, 4, 1)]
        return [r.replica_id for r in simulate(stream, Settings(router=router, num_replicas=2), one_second).requests]

    assert replicas(1.0, "least_outstanding") == [0, 1]
    assert replicas(1.0 + 1e-9, "least_outstanding") == [0, 0]
    assert replicas(0.5, "least_outstanding") == [0, 1]
    assert replicas(0.5, "least_waiting") == [0, 0]  # running is not waiting


@pytest.mark.parametrize(
    ("router", "replica_ids"),
    [
        ("round_robin", [0, 1, 2, 0, 1]),
        ("random", [2, 2, 0, 1, 2]),
        ("pinned", [2, 2, 0, 1, 2]),
        ("least_outstanding", [0, 1, 2, 0, 1]),
        ("least_waiting", [0, 1, 2, 0, 1]),
    ],
)
def test_simultaneous_arrivals_are_routed_in_order_and_count_at_once(router: str, replica_ids: list[int]) -> None:
    stream = [Request(1.0, 4, 1, replica) for replica in (2, 2, 0, 1, 2)]
    outcome = simulate(stream, Settings(router=router, num_replicas=3), one_second)
    assert [r.replica_id for r in outcome.requests] == replica_ids


def test_an_iteration_takes_time() -> None:
    with pytest.raises(ValueError, match="takes 0"):
        simulate([Request(0.0, 1, 1)], Settings(), lambda stage, batch: 0.0)


def run(case: Case) -> Outcome:
    return simulate(case.requests, case.settings, cost_stage_seconds(case.cost))


@LAW
@given(cases())
def test_every_token_and_every_block_balances(case: Case) -> None:
    simulation = Simulation(case.requests, case.settings, cost_stage_seconds(case.cost))
    simulation.run()
    assert all(0 <= i.kv_blocks_used <= case.settings.num_blocks for i in simulation.iterations)
    for replica in simulation.replicas:
        mine = [r for r in simulation.requests if r.replica_id == replica.id]
        held = sum(replica.blocks.values())
        assert held + replica.num_free == case.settings.num_blocks
        assert len(replica.waiting) + sum(r.is_finished for r in mine) == len(mine)
        assert (replica.outcome == "done") == all(r.is_finished for r in mine)
        assert held == 0  # a replica gets stuck only when it is empty
        assert not replica.num_batches
        # No request computes with its last token; a restart throws away what it had computed.
        lost = sum(
            restart.processed - (restart.processed > restart.prefill)
            for restart in simulation.restarts
            if simulation.requests[restart.request_id].replica_id == replica.id
        )
        computed = sum(r.num_prompt_tokens + r.num_output_tokens - 1 for r in mine if r.is_finished)
        batches = [i for i in simulation.iterations if i.replica_id == replica.id]
        for stage in range(case.settings.num_stages):
            assert sum(i.num_tokens for i in batches if i.stage_id == stage) == computed + lost


@LAW
@given(cases())
def test_stages_do_one_batch_at_a_time_and_requests_go_forward(case: Case) -> None:
    outcome = run(case)
    ends: dict[tuple[int, int], float] = {}
    for i in outcome.iterations:
        assert i.end > i.start >= ends.get((i.replica_id, i.stage_id), 0.0)
        ends[i.replica_id, i.stage_id] = i.end
    for r in outcome.requests:
        if r.is_finished:
            assert r.arrived_at <= r.scheduled_at <= r.started_at < r.first_token_at <= r.finished_at
            assert r.token_times == sorted(set(r.token_times))
            assert (r.token_times[0], r.token_times[-1]) == (r.first_token_at, r.finished_at)
            assert len(r.token_times) >= r.num_output_tokens  # more where a restart cut a prompt in two
            assert r.preempted_time >= -1e-9


@LAW
@given(cases())
def test_half_the_speed_doubles_the_times(case: Case) -> None:
    seconds = cost_stage_seconds(case.cost)
    late = [replace(r, arrived_at=2 * r.arrived_at) for r in case.requests]
    fast, slow = run(case), simulate(late, case.settings, lambda stage, batch: 2 * seconds(stage, batch))
    assert [(2 * i.start, 2 * i.end, *i[4:]) for i in fast.iterations] == [
        (i.start, i.end, *i[4:]) for i in slow.iterations
    ]
    assert [(2 * r.time, *r[1:]) for r in fast.restarts] == [tuple(r) for r in slow.restarts]


@LAW
@given(cases(router="pinned"))
def test_pinned_replicas_know_nothing_of_each_other(case: Case) -> None:
    together = run(case)
    for replica_id in range(case.settings.num_replicas):
        mine = [r for r in case.requests if r.replica_id == replica_id]
        alone = simulate(mine, case.settings, cost_stage_seconds(case.cost))
        assert alone.iterations == [i for i in together.iterations if i.replica_id == replica_id]
        assert [r.token_times for r in alone.requests] == [
            r.token_times for r in together.requests if r.replica_id == replica_id
        ]


@LAW
@given(cases())
def test_renaming_replicas_renames_the_result(case: Case) -> None:
    routed = run(case).requests
    last = case.settings.num_replicas - 1
    pinned = replace(case.settings, router="pinned")
    renamed = [replace(r, replica_id=last - k.replica_id) for r, k in zip(case.requests, routed, strict=True)]
    got = simulate(renamed, pinned, cost_stage_seconds(case.cost)).requests
    assert [r.token_times for r in got] == [r.token_times for r in routed]


@LAW
@given(cases())
def test_the_arguments_stay_as_they_are(case: Case) -> None:
    before = [astuple(r) for r in case.requests]
    run(case)
    assert repr([astuple(r) for r in case.requests]) == repr(before)  # NaN is not equal to itself

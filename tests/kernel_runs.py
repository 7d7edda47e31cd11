"""Runs a kernel on a case of the twin's, and holds what comes out against the twin's answer."""

import math
from collections.abc import Callable
from importlib import import_module

import numpy as np
from reference import breakdown as reference_breakdown
from reference import core as reference
from reference import counts as reference_measures
from reference.core import Outcome, Settings
from reference.state import Request
from strategies import Case

from fastsim.kernels import state
from fastsim.kernels.exits import Ending, Exit
from fastsim.kernels.replicas import routers
from fastsim.kernels.state import Limits, State
from fastsim.kernels.tables import Cost
from fastsim.result.breakdown import breakdown_columns
from fastsim.result.columns import ITERATIONS
from fastsim.result.metrics.counts import measures_of
from fastsim.simulation import layout
from fastsim.simulation.arena import Arena
from fastsim.simulation.stream import share
from fastsim.workload.following import LOOP, Following

Kernel = Callable[[State, tuple[Cost, ...], tuple[Limits, ...]], int]

ROUTER = {
    "least_outstanding": routers.LEAST_OUTSTANDING,
    "least_waiting": routers.LEAST_WAITING,
    "least_kv": routers.LEAST_KV,
}
OUTCOMES = {Ending.GOING: "done", Ending.STUCK: "stuck", Ending.OUT_OF_MEMORY: "out_of_memory"}


def limits_of(settings: Settings) -> Limits:
    return Limits(
        num_stages=settings.num_stages,
        num_blocks=settings.num_blocks,
        block_size=settings.block_size,
        watermark_blocks=settings.watermark_blocks,
        blocks_per_sequence=settings.blocks_per_sequence,
        max_num_seqs=settings.max_num_seqs,
        micro_batch_size=settings.micro_batch_size,
        max_batch_size=settings.max_batch_size,
        max_num_batched_tokens=settings.max_num_batched_tokens,
        chunk_size=settings.chunk_size,
        max_waiting_iters=settings.max_waiting_iters,
        router=ROUTER.get(settings.router, routers.ROUTED),
    )


def following_of(requests: list[Request]) -> Following | None:
    """Which requests follow others; None where none does."""
    if all(request.follows is None for request in requests):
        return None
    follower = np.full(len(requests), LOOP, np.int32)
    for i, request in enumerate(requests):
        if request.follows is not None and request.follows != LOOP:
            follower[request.follows] = i
    first = [i for i, request in enumerate(requests) if request.follows is None]
    loop = [i for i, request in enumerate(requests) if request.follows == LOOP]
    think = np.array([request.think for request in requests])
    return Following(follower, think, np.array(first, np.int32), np.array(loop, np.int32))


def lay_out(case: Case, log_rows: int, detail: bool = True) -> tuple[State, Limits]:
    requests, settings, _ = case
    limits = limits_of(settings)
    stream = share(
        np.array([r.arrived_at for r in requests]),
        np.array([r.num_prompt_tokens for r in requests]),
        np.array([r.num_output_tokens for r in requests]),
        following_of(requests),
    )
    if stream.following and settings.num_replicas > 1 and limits.router == routers.ROUTED:
        router = routers.ROUND_ROBIN if settings.router == "round_robin" else routers.ASSIGNED
        limits = limits._replace(router=router)
    arena = Arena()
    arrays = layout.lay_out_requests(stream, arena, detail)
    replicas = layout.lay_out_replicas(settings.num_replicas, limits, arena, detail)
    batches = layout.lay_out_batches(settings.num_replicas, limits, arena)
    if stream.following:
        arrays.replica[:] = [r.replica_id for r in requests]
    elif limits.router == routers.ROUTED:
        turn = np.arange(len(requests)) % settings.num_replicas
        given = np.array([r.replica_id for r in requests])
        layout.assign(arrays, replicas, turn if settings.router == "round_robin" else given)
    last, following = settings.num_replicas, stream.following
    return layout.lay_out_lane(arrays, replicas, batches, limits, 0, last, log_rows, arena, following), limits


def kernel_of(settings: Settings) -> Kernel:
    module = import_module(f"fastsim.kernels.schedulers.{settings.policy}")
    run: Kernel = module.run if settings.num_stages == 1 else module.run_stages
    return run


def run(
    case: Case, slice_length: int = 1 << 40, log_rows: int = 1 << 14, kernel: Kernel | None = None
) -> tuple[State, list[tuple[object, ...]]]:
    """The state at the end, and the rows of the log, drained whenever the kernel comes back."""
    lane, limits = lay_out(case, log_rows)
    kernel = kernel or kernel_of(case.settings)
    rows: list[tuple[object, ...]] = []
    while True:
        lane.cursor[state.LEFT] = slice_length
        code = kernel(lane, (case.cost,), (limits,))
        logged = lane.cursor[state.LOGGED]
        rows += zip(*(column[:logged].tolist() for column in lane.log[: len(ITERATIONS)]), strict=True)
        lane.cursor[state.LOGGED] = 0
        if code != Exit.BUDGET:
            assert code == Exit.DONE
            return lane, rows


def assert_breaks_down(lane: State, twin: Outcome, cost: Cost) -> None:
    """Every request's time falls into the twin's parts, which add up to it."""
    parts = breakdown_columns(lane.requests, cost.num_stages)
    for i, request in enumerate(twin.requests):
        if math.isnan(request.finished_at):
            continue
        got = {name: float(values[i]) for name, values in parts.items()}
        expected = reference_breakdown.breakdown(request, cost)
        assert list(got) == list(expected)
        np.testing.assert_allclose(list(got.values()), list(expected.values()), rtol=0, atol=1e-9, err_msg=str(i))
        assert abs(sum(got.values()) - (request.finished_at - request.arrived_at)) < 1e-9
        assert min(got.values()) > -1e-9


def assert_measured(lane: State, twin: Outcome, case: Case) -> None:
    """Batches, work and series of every replica are the twin's, to the last integer."""
    measures = measures_of([lane])
    assert measures is not None
    expected = reference_measures.measure(twin, case.settings)
    for kind, histogram in (
        (measures.batch_tokens, expected.batch_tokens),
        (measures.batch_prefill_tokens, expected.batch_prefill_tokens),
        (measures.batch_size, expected.batch_size),
        (measures.batch_decodes, expected.batch_decodes),
        (measures.batch_seconds, expected.batch_seconds),
    ):
        assert {int(place): int(kind[place]) for place in np.flatnonzero(kind)} == histogram
    for got, sums in ((measures.squares, "squares"), (measures.pairs, "pairs"), (measures.sampled, "sampled")):
        assert got.tolist() == [getattr(replica, sums) for replica in expected.replicas]
    assert measures.bin_s == expected.bin_ticks / reference_measures.TICKS
    np.testing.assert_array_equal(measures.series, expected.series)


def assert_equals_twin(
    case: Case, slice_length: int = 1 << 40, log_rows: int = 1 << 14, kernel: Kernel | None = None
) -> Outcome:
    """To the bit: the times of every request, every iteration if there are ``log_rows``, every outcome."""
    twin = reference.simulate(case.requests, case.settings, reference.cost_stage_seconds(case.cost))
    lane, rows = run(case, slice_length, log_rows, kernel)
    counts, times = lane.replicas.counts, lane.replicas.times
    assert [OUTCOMES[code] for code in counts[:, state.OUTCOME].tolist()] == twin.outcome
    # Stable: rows of one replica and stage stay in order of their starts.
    if log_rows:
        assert sorted(rows, key=lambda row: row[:2]) == sorted(map(tuple, twin.iterations), key=lambda row: row[:2])
    columns = lane.requests
    for i, request in enumerate(twin.requests):
        np.testing.assert_array_equal(columns.arrived_at[i], request.arrived_at)
        got = (columns.scheduled_at[i], columns.started_at[i], columns.first_token_at[i], columns.finished_at[i])
        expected = (request.scheduled_at, request.started_at, request.first_token_at, request.finished_at)
        np.testing.assert_array_equal(got, expected)
        # A member of a group gets the difference of two sums here, and a sum of its own in the twin.
        if not np.isnan(request.finished_at):
            assert abs(columns.execution_time[i] - request.execution_time) < 1e-9
        assert columns.restarts[i] == request.num_restarts
        if math.isfinite(request.scheduled_at):
            assert columns.replica[i] == request.replica_id
    assert_breaks_down(lane, twin, case.cost)
    assert_measured(lane, twin, case)
    gaps = [gap for request in twin.requests for gap in request.token_gaps]
    assert counts[:, state.TBT_COUNT].sum() == lane.tbt.sum() == len(gaps)
    assert math.isclose(times[:, state.TBT_SUM].sum(), sum(gaps), rel_tol=1e-9)
    assert times[:, state.TBT_MAX].max() == max(gaps, default=0.0)
    return twin

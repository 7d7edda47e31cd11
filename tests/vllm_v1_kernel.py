"""Runs the kernel of policy vllm_v1 on requests of its twin, call by call or as a whole, with the twin's clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from reference.vllm_v1.engine import Ending as TwinEnding
from reference.vllm_v1.engine import Outcome, queue_depth
from reference.vllm_v1.recordings import Clock
from reference.vllm_v1.releases import Release
from reference.vllm_v1.state import Admission, Decision, Member, Request, Settings

from fastsim.deployment import engines, schedulers
from fastsim.kernels import state
from fastsim.kernels import tables as costs
from fastsim.kernels.engine import state as engine_state
from fastsim.kernels.engine.state import OUTSIDE
from fastsim.kernels.exits import Ending, Exit
from fastsim.kernels.replicas import routers
from fastsim.kernels.replicas.routers import NO_ROUTING, Routing, Share
from fastsim.kernels.schedulers import vllm_v1
from fastsim.kernels.state import Limits, State
from fastsim.kernels.tables import COMPOSE_AFFINE, NO_AFFINE, Cost
from fastsim.kernels.transfers.state import NO_LINK, Link
from fastsim.predictors.tables.compose import NO_FASTSIM, NO_VIDUR
from fastsim.simulation import layout
from fastsim.simulation.arena import Arena
from fastsim.simulation.engine import engine_limits, lay_out_engine
from fastsim.simulation.lanes import give_memory
from fastsim.simulation.limits import largest
from fastsim.simulation.stream import stream_of
from fastsim.simulation.transfers import lay_out_transfers
from fastsim.workload import Workload
from fastsim.workload.blocks import BlockHashes

ENDINGS: dict[int, TwinEnding] = {Ending.GOING: "done", Ending.STUCK: "stuck", Ending.ENDLESS: "endless"}
TICK = 2.0**-20  # s, what a microsecond of the twin's is taken for, so that all times are exact


class Setup(NamedTuple):
    lane: State
    limits: Limits
    cost: Cost


def workload_of(requests: Sequence[Request], block_size: int) -> Workload:
    """The same requests as a workload; one that follows another is a turn of the same session."""
    sessions: list[int] = []
    for i, request in enumerate(requests):
        sessions.append(i if request.follows is None else sessions[request.follows])
    follow = any(request.follows is not None for request in requests)
    return Workload(
        np.array([np.nan if r.follows is not None else r.arrived_at * TICK for r in requests]),
        np.array([r.num_prompt_tokens for r in requests]),
        np.array([r.num_output_tokens for r in requests]),
        session_id=np.array(sessions) if follow else None,
        think_time=np.array([np.nan if r.follows is None else r.think_time * TICK for r in requests])
        if follow
        else None,
        priority=np.array([r.priority for r in requests], np.int32),
        max_tokens=np.array([r.limit for r in requests]),
        ends_by_stop=np.array([r.ends_by_stop for r in requests]),
        block_hashes=BlockHashes.of([list(r.block_hashes) for r in requests], block_size),
    )


def limits_of(
    settings: Settings, release: Release, router: int = routers.ROUTED, routing: Routing = NO_ROUTING
) -> Limits:
    rules = engines.RELEASES[f"vllm-{release.name}"]
    scheduler = schedulers.Settings(
        policy=schedulers.POLICIES["vllm_v1"],
        max_num_seqs=settings.max_num_seqs,
        max_num_batched_tokens=settings.max_num_batched_tokens,
        chunk_size=0,
        block_size=settings.block_size,
        watermark=settings.watermark,
        max_waiting_iters=0,
        release=rules,
        scheduling_policy=settings.policy,
        enable_prefix_caching=settings.enable_prefix_caching,
        enable_chunked_prefill=settings.enable_chunked_prefill,
        async_scheduling=settings.async_scheduling,
        long_prefill_token_threshold=settings.long_prefill_token_threshold,
        scheduler_reserve_full_isl=settings.scheduler_reserve_full_isl and rules.whole_prompt_check,
        empty_step_sleep_s=settings.empty_step_sleep * TICK,
        batch_queue_depth=queue_depth(settings, release),
    )
    watermark = int(settings.watermark * (settings.num_blocks + 1)) if release.has_watermark else 0
    return Limits(
        num_stages=settings.num_stages,
        num_blocks=settings.num_blocks,
        block_size=settings.block_size,
        watermark_blocks=watermark,
        blocks_per_sequence=0,
        max_num_seqs=settings.max_num_seqs,
        micro_batch_size=0,
        max_batch_size=0,
        max_num_batched_tokens=settings.max_num_batched_tokens,
        chunk_size=0,
        max_waiting_iters=0,
        router=router,
        engine=engine_limits(scheduler, settings.max_model_len, settings.awaits_tokens),
        routing=routing,
    )


def cost_of(clock: Clock, num_stages: int) -> Cost:
    affine = NO_AFFINE.copy()
    affine[costs.CONSTANT_NS], affine[costs.PER_TOKEN_NS] = clock.constant, clock.per_token
    affine[costs.PER_SEQUENCE_NS], affine[costs.PER_CONTEXT_TOKEN_NS] = clock.per_sequence, clock.per_context_token
    affine[costs.TICK_S] = TICK
    tables = NO_VIDUR._replace(kv_step=1), NO_FASTSIM._replace(kv_step=1)
    return Cost(COMPOSE_AFFINE, num_stages, *tables, np.ones(num_stages), affine)


def lay_out(
    requests: Sequence[Request],
    settings: Settings,
    release: Release,
    clock: Clock,
    log_rows: int,
    num_replicas: int = 1,
    router: int = routers.ROUTED,
    routing: Routing = NO_ROUTING,
) -> Setup:
    """The state before the first request; without a router, the only replica serves all."""
    limits, arena = limits_of(settings, release, router, routing), Arena()
    workload = workload_of(requests, settings.block_size)
    stream = stream_of(workload)
    arrays = layout.lay_out_requests(stream, arena, True)
    replicas = layout.lay_out_replicas(num_replicas, limits, arena, True)
    batches = layout.lay_out_batches(num_replicas, limits, arena)
    engine = lay_out_engine(num_replicas, limits, workload, arena)
    if router == routers.ROUTED and stream.following is None:
        layout.assign(arrays, replicas, np.zeros(len(requests), np.int32))
    following = stream.following
    lane = layout.lay_out_lane(arrays, replicas, batches, limits, 0, num_replicas, log_rows, arena, following, engine)
    return Setup(lane, limits, cost_of(clock, settings.num_stages))


def lay_out_pools(
    requests: Sequence[Request],
    pools: Sequence[tuple[Settings, Release, Clock, Share]],
    router: int,
    routing: Routing,
    link: Link = NO_LINK,
    source: NDArray[np.int32] | None = None,
) -> tuple[State, tuple[Cost, ...], tuple[Limits, ...]]:
    """The state before the first request of replicas in pools, and the operator times and limits of these.

    ``source``: the request that prefills for each one, where KV is transferred over ``link``.
    """
    limits = tuple(
        limits_of(each, release, router, routing)._replace(share=own, link=link) for each, release, _, own in pools
    )
    most, arena, number = largest(limits), Arena(), pools[-1][3].last
    workload = workload_of(requests, most.block_size)
    stream = stream_of(workload)
    replicas = layout.lay_out_replicas(number, most, arena, True)
    engine = lay_out_engine(number, most, workload, arena, min(each.num_blocks for each in limits))
    give_memory([share.last - share.first for *_, share in pools], limits, replicas, engine)
    lane = layout.lay_out_lane(
        layout.lay_out_requests(stream, arena, True),
        replicas,
        layout.lay_out_batches(number, most, arena),
        most,
        0,
        number,
        0,
        arena,
        stream.following,
        engine,
        transfers=None if source is None else lay_out_transfers(number, source, arena),
    )
    return lane, tuple(cost_of(clock, each.num_stages) for each, _, clock, _ in pools), limits


def ticks(time: float) -> int | None:
    return None if np.isnan(time) else int(time / TICK)


def members_of(lane: State, slot: int) -> list[tuple[int, int, int]]:
    """(request, tokens, tokens computed before) of the batch that was formed last, in its order."""
    counts, engine, requests, features = (
        lane.replicas.counts[0],
        lane.engine,
        lane.requests,
        lane.batches.features[0, slot],
    )
    size = int(features[state.NUM_LISTED])
    listed = zip(lane.batches.request[0, slot, :size], lane.batches.tokens[0, slot, :size], strict=True)
    rows = [(int(request), int(tokens), int(requests.processed[request] - tokens)) for request, tokens in listed]
    if lane.replicas.stage_end.shape[1] == 1:
        step, number, decodes = counts[state.GROUP_STEP], counts[state.GROUP], lane.replicas.chunked[0]
        group = [int(q) for q in decodes[: counts[state.CHUNKED]] if engine.member[q] != OUTSIDE]
    else:
        cohort = engine.cohorts[0, features[state.COHORT]]
        step, number = cohort[engine_state.COHORT_STEP], cohort[engine_state.COHORT_SIZE]
        group = [int(q) for q in lane.batches.residents[0, features[state.COHORT], :number]]
    assert len(group) == number == features[state.NUM_RESIDENTS]
    rows += [(request, 1, int(requests.processed[request] + step) - 1) for request in group]
    return sorted(rows, key=lambda row: engine.order[row[0]]) if group else rows


def serve(
    requests: Sequence[Request],
    settings: Settings,
    release: Release,
    clock: Clock,
    durations: Sequence[int] = (),
) -> Outcome:
    """What the twin returns, from the kernel, which is stopped after every call of the scheduler.

    The log has room for the rows of one batch, so no iterations are run ahead. ``durations``: of the batches that have
    tokens, in ticks, in place of ``clock``; those beyond the last take as long as that.
    """
    lane, limits, cost = lay_out(requests, settings, release, clock, settings.num_stages)
    run = vllm_v1.run if settings.num_stages == 1 else vllm_v1.run_stages
    counts, own = lane.replicas.counts[0], lane.engine.counts[0]
    served = [replace(request, id=i) for i, request in enumerate(requests)]
    number = 0  # of batches with tokens so far
    decisions: list[Decision] = []
    while True:
        restarts, scheduled_at = lane.requests.restarts.copy(), lane.requests.scheduled_at.copy()
        calls = int(own[engine_state.CALLS])
        lane.cursor[state.LEFT], lane.cursor[state.LOGGED] = 1, 0
        if durations:
            cost.affine[costs.CONSTANT_NS] = 1000 * durations[min(number, len(durations) - 1)]
        code = run(lane, (cost,), (limits,))
        formed = own[engine_state.CALLS] > calls and counts[state.OUTCOME] == Ending.GOING
        if formed and counts[state.IN_FLIGHT] > 0:
            slot = int(own[engine_state.OLDEST] + counts[state.IN_FLIGHT] - 1) % limits.engine.depth
            rows = members_of(lane, slot)
            number += len(rows) > 0
            if settings.executor_blocks:
                times = lane.replicas.times[0]
                times[state.CLOCK] = max(times[state.CLOCK], lane.engine.batch_end[0, slot])
            new = [row for row in rows if np.isnan(scheduled_at[row[0]])]
            taken = set(np.flatnonzero(lane.requests.restarts > restarts).tolist())
            decisions.append(
                Decision(
                    scheduled_at=-1,
                    num_updates_before=-1,
                    members=[Member(served[q], tokens, before, False) for q, tokens, before in rows],
                    admitted=[Admission(q, before) for q, _, before in new],
                    resumed=[],
                    preempted=sorted(taken),
                    num_free_blocks=int(counts[state.FREE]),
                    num_running=int(counts[state.RUNNING] + counts[state.GROUP]),
                    num_waiting=int(counts[state.WAITING]),
                    started_at=int(lane.engine.batch_start[0, slot] / TICK),
                    ended_at=int(lane.engine.batch_end[0, slot] / TICK),
                )
            )
        if code != Exit.BUDGET:
            break
    return Outcome(finished(lane, served), decisions, ENDINGS[counts[state.OUTCOME]])


def finished(lane: State, requests: Sequence[Request]) -> list[Request]:
    """The twin's requests with what the kernel made of them."""
    columns = lane.requests
    for i, request in enumerate(requests):
        request.admitted_at = ticks(columns.scheduled_at[i])
        request.first_token_at = ticks(columns.first_token_at[i])
        request.finished_at = ticks(columns.finished_at[i])
        request.finish_reason = "stop" if request.ends_by_stop else "length"
        request.num_preemptions = int(columns.restarts[i])
        request.num_cached_tokens = int(lane.engine.cached[i])
    return list(requests)

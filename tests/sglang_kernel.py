"""Runs the kernel of policy sglang on requests of its twin, batch by batch or as a whole, with the twin's clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from reference.sglang.clock import Clock
from reference.sglang.loop import Ending as TwinEnding
from reference.sglang.loop import Outcome
from reference.sglang.releases import Release
from reference.sglang.state import Batch, Member, Request, Settings
from vllm_v1_kernel import TICK, ticks

from fastsim.deployment import schedulers
from fastsim.deployment.schedulers import SglangSettings
from fastsim.deployment.sglang.releases import RELEASES
from fastsim.kernels import state
from fastsim.kernels import tables as costs
from fastsim.kernels.engine.state import DECODE, OLDEST, PART
from fastsim.kernels.exits import Ending, Exit
from fastsim.kernels.memory.radix_tree import EVICTABLE
from fastsim.kernels.replicas import routers
from fastsim.kernels.replicas.routers import NO_ROUTING, Routing
from fastsim.kernels.schedulers import sglang
from fastsim.kernels.sglang import state as own_state
from fastsim.kernels.state import Limits, State
from fastsim.kernels.tables import COMPOSE_AFFINE, NO_AFFINE, Cost
from fastsim.predictors.tables.compose import NO_FASTSIM, NO_VIDUR
from fastsim.simulation import layout
from fastsim.simulation.arena import Arena
from fastsim.simulation.sglang import lay_out_sglang, sglang_limits, shared_limits
from fastsim.simulation.stream import stream_of
from fastsim.workload import Workload
from fastsim.workload.blocks import BlockHashes

ENDINGS: dict[int, TwinEnding] = {Ending.GOING: "done", Ending.STUCK: "stuck", Ending.CRASHED: "crashed"}
MODES: tuple[Any, ...] = ("nothing", "prefill", "decode", "mixed")


def hashes_of(requests: Sequence[Request], size: int) -> BlockHashes:
    """Identities of the prefixes of whole blocks of so many tokens."""
    known: dict[Any, int] = {}
    lists = []
    for request in requests:
        before, row = -1, []
        total = min(len(request.tokens), request.num_prompt_tokens + request.num_output_tokens)
        for end in range(size, total + 1, size):
            before = known.setdefault((before, *request.tokens[end - size : end]), len(known))
            row.append(before)
        lists.append(row)
    return BlockHashes.of(lists, size)


def workload_of(requests: Sequence[Request], hash_size: int = 1) -> Workload:
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
        max_tokens=np.array([r.limit for r in requests]),
        ends_by_stop=np.array([r.ends_by_stop for r in requests]),
        block_hashes=hashes_of(requests, hash_size),
    )


def limits_of(
    settings: Settings, release: Release, router: int = routers.ROUTED, routing: Routing = NO_ROUTING
) -> Limits:
    own = SglangSettings(
        release=RELEASES[f"sglang-{release.name}"],
        schedule_policy=settings.schedule_policy,
        chunked_prefill_size=settings.chunked_prefill_size,
        max_prefill_tokens=settings.max_prefill_tokens,
        schedule_conservativeness=settings.schedule_conservativeness,
        enable_mixed_chunk=settings.enable_mixed_chunk,
        disable_radix_cache=settings.disable_radix_cache,
        disable_overlap_schedule=settings.disable_overlap_schedule,
        ignore_eos=settings.ignore_eos,
        mem_fraction_static=0.9,
        decode_graphs=(),
    )
    scheduler = schedulers.Settings(
        policy=schedulers.POLICIES["sglang"],
        max_num_seqs=settings.max_running_requests,
        max_num_batched_tokens=settings.max_prefill_tokens,
        chunk_size=0,
        block_size=settings.page_size,
        watermark=0.0,
        max_waiting_iters=0,
        release=None,
        scheduling_policy="fcfs",
        enable_prefix_caching=not settings.disable_radix_cache,
        enable_chunked_prefill=True,
        async_scheduling=not settings.disable_overlap_schedule,
        long_prefill_token_threshold=0,
        scheduler_reserve_full_isl=False,
        empty_step_sleep_s=0.0,
        batch_queue_depth=1,
        sglang=own,
    )
    rules = sglang_limits(scheduler)
    return Limits(
        num_stages=1,
        num_blocks=settings.max_total_num_tokens // settings.page_size,
        block_size=settings.page_size,
        watermark_blocks=0,
        blocks_per_sequence=0,
        max_num_seqs=settings.max_running_requests,
        micro_batch_size=0,
        max_batch_size=0,
        max_num_batched_tokens=settings.max_prefill_tokens,
        chunk_size=0,
        max_waiting_iters=0,
        router=router,
        engine=shared_limits(rules, 1 << 30),
        routing=routing,
        sglang=rules,
    )


def cost_of(clock: Clock) -> Cost:
    affine = NO_AFFINE.copy()
    affine[costs.CONSTANT_NS], affine[costs.PER_TOKEN_NS] = clock.constant, clock.per_token
    affine[costs.PER_SEQUENCE_NS], affine[costs.PER_CONTEXT_TOKEN_NS] = clock.per_request, clock.per_context_token
    affine[costs.TICK_S] = TICK
    tables = NO_VIDUR._replace(kv_step=1), NO_FASTSIM._replace(kv_step=1)
    return Cost(COMPOSE_AFFINE, 1, *tables, np.ones(1), affine)


def lay_out(
    requests: Sequence[Request],
    settings: Settings,
    release: Release,
    log_rows: int = 0,
    num_replicas: int = 1,
    router: int = routers.ROUTED,
    routing: Routing = NO_ROUTING,
) -> tuple[State, Limits]:
    """The state before the first request; without a router, the only replica serves all."""
    limits, arena, workload = limits_of(settings, release, router, routing), Arena(), workload_of(requests)
    stream = stream_of(workload)
    arrays = layout.lay_out_requests(stream, arena, True)
    replicas = layout.lay_out_replicas(num_replicas, limits, arena, True)
    batches = layout.lay_out_batches(num_replicas, limits, arena)
    engine, own = lay_out_sglang(num_replicas, limits, workload, arena)
    if router == routers.ROUTED and stream.following is None:
        layout.assign(arrays, replicas, np.zeros(len(requests), np.int32))
    lanes = arrays, replicas, batches, limits, 0, num_replicas, log_rows, arena, stream.following
    return layout.lay_out_lane(*lanes, engine, own), limits


def serve(requests: Sequence[Request], settings: Settings, release: Release, clock: Clock) -> Outcome:
    """What the twin returns, from the kernel, which is stopped after every pass."""
    lane, limits = lay_out(requests, settings, release, log_rows=1)
    cost, counts, own = cost_of(clock), lane.replicas.counts[0], lane.sglang.counts[0]
    served = [replace(request, id=i) for i, request in enumerate(requests)]
    if all(request.arrived_at > 0 or request.follows is not None for request in requests):
        own[own_state.IDLE_PASSES] = 1  # the twin's first pass, which the kernel leaves out
    batches: list[Batch] = []
    while True:
        restarts, before = lane.requests.restarts.copy(), int(counts[state.ITERATIONS])
        lane.cursor[state.LEFT], lane.cursor[state.LOGGED] = 1, 0
        code = sglang.run(lane, (cost,), (limits,))
        if counts[state.ITERATIONS] > before:
            batches.append(batch_of(lane, limits, served, np.flatnonzero(lane.requests.restarts > restarts)))
        if code != Exit.BUDGET:
            break
    return Outcome(finished(lane, served), batches, ENDINGS[int(counts[state.OUTCOME])])


def batch_of(lane: State, limits: Limits, requests: Sequence[Request], retracted: np.ndarray) -> Batch:
    """The batch that was launched last; the requests that were retracted before it wait in order of retraction."""
    counts, own, page = lane.replicas.counts[0], lane.sglang.counts[0], limits.block_size
    slot = int(lane.engine.counts[0, OLDEST] + counts[state.IN_FLIGHT] - 1) % limits.engine.depth
    members = []
    for i in range(int(lane.batches.features[0, slot, state.NUM_LISTED])):
        request, tokens = int(lane.batches.request[0, slot, i]), int(lane.batches.tokens[0, slot, i])
        sample = lane.engine.samples[0, slot, i]
        computed = int(lane.requests.processed[request]) - tokens
        members.append(Member(requests[request], tokens, computed, sample != PART, sample == DECODE, 0))
    waiting, request = [], int(counts[state.HEAD])
    for _ in range(int(counts[state.WAITING])):
        waiting.append(request)
        request = int(lane.requests.next[request])
    assert request == counts[state.COMING]
    chunked = int(own[own_state.CHUNKED])
    return Batch(
        mode=MODES[own[own_state.LAST_MODE]],
        members=members,
        chunked=None if chunked == state.NONE or own[own_state.LAST_MODE] == own_state.DECODES else requests[chunked],
        scheduled_at=int(lane.replicas.times[0, state.CLOCK] / TICK),
        num_results_before=int(own[own_state.RESULTS]),
        retracted=[request for request in waiting if request in retracted],
        num_free=int(own[own_state.FREE_PAGES]) * page,
        num_evictable=int(lane.sglang.tree_counts[0, EVICTABLE]) * page if limits.sglang.radix_cache else 0,
        num_running=int(counts[state.RUNNING]),
        num_waiting=len(waiting),
        is_full=bool(own[own_state.IS_FULL]),
        num_idle_passes=int(own[own_state.IDLE_PASSES]),
        new_token_ratio=float(lane.sglang.ratio[0]),
        started_at=int(lane.engine.batch_start[0, slot] / TICK),
        ended_at=int(lane.engine.batch_end[0, slot] / TICK),
    )


def finished(lane: State, requests: Sequence[Request]) -> list[Request]:
    """The twin's requests with what the kernel made of them."""
    columns = lane.requests
    for i, request in enumerate(requests):
        request.admitted_at = ticks(columns.scheduled_at[i])
        request.first_token_at = ticks(columns.first_token_at[i])
        request.finished_at = ticks(columns.finished_at[i])
        if request.finished_at is not None:
            request.finish_reason = "stop" if request.ends_by_stop else "length"
        request.num_outputs = int(lane.engine.known[i]) - request.num_prompt_tokens
        request.num_retractions = int(columns.restarts[i])
        request.num_cached_tokens = int(lane.engine.cached[i])
    return list(requests)

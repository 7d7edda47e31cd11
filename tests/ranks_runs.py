"""Runs the kernel of ranks that step together on requests of its twin, with the twin's clock."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from reference.vllm_v1.ranks import Layout, StepClock
from vllm_v1_kernel import TICK, cost_of, limits_of, workload_of
from vllm_v1_strategies import Case

from fastsim.kernels import state
from fastsim.kernels.exits import Exit
from fastsim.kernels.ranks.state import GIVEN, INTERNAL, ROUND_ROBIN, RankLimits
from fastsim.kernels.replicas import routers
from fastsim.kernels.schedulers import vllm_v1
from fastsim.kernels.state import Limits, State
from fastsim.kernels.tables import Cost, RankTables
from fastsim.simulation import layout
from fastsim.simulation.arena import Arena
from fastsim.simulation.engine import lay_out_engine
from fastsim.simulation.ranks import lay_out_ranks
from fastsim.simulation.stream import stream_of

BALANCERS = {"internal": INTERNAL, "round_robin": ROUND_ROBIN, "given": GIVEN}


class Setup(NamedTuple):
    """A case on replicas of several ranks."""

    case: Case
    layout: Layout
    clock: StepClock
    num_replicas: int = 1

    @property
    def ranks_given(self) -> list[int]:
        return [i % self.layout.num_ranks for i in range(len(self.case.requests))]


def lay_out(setup: Setup, log_rows: int) -> tuple[State, Limits, Cost]:
    """The state before the first request; replicas take requests in turn."""
    case, ranks, number = setup.case, setup.layout, setup.num_replicas
    workload = workload_of(case.requests, case.settings.block_size)
    stream = stream_of(workload)
    router = routers.ROUTED if stream.following is None else routers.ROUND_ROBIN
    rules = RankLimits(ranks.num_ranks, BALANCERS[ranks.balancer], ranks.refresh * TICK, ranks.wave)
    limits, arena = limits_of(case.settings, case.release, router)._replace(ranks=rules), Arena()
    requests = layout.lay_out_requests(stream, arena, True)
    replicas = layout.lay_out_replicas(number, limits, arena, True)
    batches = layout.lay_out_batches(number, limits, arena)
    engine = lay_out_engine(number, limits, workload, arena)
    given = np.array(setup.ranks_given, np.int32) if ranks.balancer == "given" else None
    own = lay_out_ranks(number, limits, arena, given)
    if stream.following is None:
        turns = np.arange(len(case.requests), dtype=np.int32) % number
        layout.assign(requests, replicas, turns + number * ranks.num_ranks)
    arrays = requests, replicas, batches, limits, 0, number, log_rows, arena, stream.following, engine
    lane = layout.lay_out_lane(*arrays, ranks=own)
    tables = RankTables(np.zeros(1), float(setup.clock.per_shared_token), setup.clock.graph_tokens)
    return lane, limits, cost_of(setup.clock.rank, 1)._replace(ranks=tables)


def run(setup: Setup, log_rows: int, slice_length: int) -> tuple[State, list[tuple[int, int, int, int, int]]]:
    """The state at the end, and (rank, start, end, requests, tokens) of each batch."""
    lane, limits, cost = lay_out(setup, log_rows)
    rows: list[tuple[int, int, int, int, int]] = []
    code = int(Exit.BUDGET)
    while code == Exit.BUDGET:
        lane.cursor[state.LEFT], lane.cursor[state.LOGGED] = slice_length, 0
        code = vllm_v1.run_ranks(lane, (cost,), (limits,))
        log = lane.log
        columns = log.replica, log.start, log.end, log.num_seqs, log.num_tokens
        for r, start, end, seqs, tokens in zip(
            *(column[: lane.cursor[state.LOGGED]] for column in columns), strict=True
        ):
            rows.append((int(r), int(start / TICK), int(end / TICK), int(seqs), int(tokens)))
    assert code == Exit.DONE
    return lane, rows

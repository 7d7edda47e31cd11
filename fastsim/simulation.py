"""Simulate a deployment on a workload: lay out the arrays, run the kernel in slices, wrap the result."""

import os
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastsim import layout
from fastsim.deployment import Deployment, Resolved, resolve
from fastsim.feasible import check_fit, explain_end, explain_fault
from fastsim.kernels import state
from fastsim.kernels.cost import Cost
from fastsim.kernels.route import LEAST_OUTSTANDING, LEAST_WAITING, ROUTED
from fastsim.kernels.state import Limits, State
from fastsim.predictors import build_cost
from fastsim.result import Outcome, Result, wrap
from fastsim.workload import Workload
from fastsim.workload import load as load_workload

ROUTERS = {"least_outstanding": LEAST_OUTSTANDING, "least_waiting": LEAST_WAITING}

# Iterations between two looks at Ctrl-C, the progress bar and the log: some 20 ms.
SLICE = 200_000
LOG_ROWS = 65_536

Progress = Callable[[float], None]
Columns = tuple[NDArray[Any], ...]


def simulate(
    deployment: Deployment | str | Path | None = None,
    workload: Workload | str | Path | Mapping[str, Any] = "chat",
    *,
    iterations: bool = False,
    progress: Progress | None = None,
) -> Result:
    """Predict how ``deployment`` serves ``workload``.

    ``deployment``: a Deployment, a file that holds one, or None for the shipped default. ``workload``: a
    Workload, a file, a preset or a synthetic description. ``iterations`` keeps a row per batch and stage.
    ``progress`` is called now and then with the share of tokens done, 0 to 1.

    Raises errors.InputError for anything that cannot be simulated. The same input gives the same result, to
    the bit, on any number of cores.
    """
    began = time.perf_counter()
    if not isinstance(deployment, Deployment):
        deployment = Deployment.load(deployment)
    resolved = resolve(deployment)
    requests = load_workload(workload, seed=deployment.seed)
    check_fit(resolved, requests)
    built = build_cost(resolved)
    tables_s = time.perf_counter() - began
    limits = limits_of(resolved)
    lanes = lay_out(resolved, limits, requests, log_rows=LOG_ROWS if iterations else 0)
    policy = import_module(f"fastsim.kernels.schedule_{resolved.deployment.scheduler.policy}")
    drained, kernel_s = run_lanes(policy.run, lanes, built.cost, limits, requests, progress)
    logs = [np.concatenate(columns) for columns in zip(*drained, strict=True)] if iterations else None
    explain_end(resolved, lanes[0])
    outcome = Outcome(lanes[0].requests, lanes[0].replicas, np.sum([lane.tbt for lane in lanes], axis=0), logs)
    timing = {"tables_s": tables_s, "kernel_s": kernel_s, "write_s": 0.0, "total_s": 0.0}
    result = wrap(resolved, requests, built.provenance, outcome, timing)
    timing["total_s"] = time.perf_counter() - began
    return result


def limits_of(resolved: Resolved) -> Limits:
    """A resolved deployment in the kernel's words."""
    deployment, memory = resolved.deployment, resolved.memory
    scheduler = deployment.scheduler
    return Limits(
        num_stages=deployment.pipeline_parallel_size,
        num_blocks=memory.num_blocks,
        block_size=scheduler.block_size or 1,
        watermark_blocks=memory.watermark_blocks,
        blocks_per_sequence=memory.blocks_per_sequence,
        max_num_seqs=scheduler.max_num_seqs,
        micro_batch_size=resolved.micro_batch_size,
        max_batch_size=resolved.max_batch_size,
        max_num_batched_tokens=scheduler.max_num_batched_tokens or 0,
        chunk_size=scheduler.chunk_size or 0,
        max_waiting_iters=scheduler.max_waiting_iters or 0,
        router=ROUTERS.get(deployment.router.policy, ROUTED),
    )


def lay_out(resolved: Resolved, limits: Limits, workload: Workload, log_rows: int) -> list[State]:
    """States that share all requests and replicas; each is for a thread and has replicas of its own.

    Replicas behind a router that looks at them depend on each other and stay together.
    """
    number = resolved.deployment.num_replicas
    requests = layout.lay_out_requests(
        workload.arrived_at, workload.num_prompt_tokens, workload.num_output_tokens
    )
    replicas = layout.lay_out_replicas(number, limits)
    batches = layout.lay_out_batches(number, limits)
    num_lanes = 1
    if limits.router == ROUTED:
        layout.assign(requests, replicas, assignment(resolved, workload))
        num_lanes = min(number, os.cpu_count() or 1)
    bounds = np.linspace(0, number, num_lanes + 1).astype(int)
    return [
        layout.lay_out_lane(requests, replicas, batches, limits, int(first), int(last), log_rows)
        for first, last in pairwise(bounds)
    ]


def assignment(resolved: Resolved, workload: Workload) -> NDArray[np.int64]:
    """int64[n]: the replica of each request, for routers that do not look at the replicas."""
    policy, number = resolved.deployment.router.policy, resolved.deployment.num_replicas
    if policy == "pinned" and workload.replica_id is not None:
        return np.asarray(workload.replica_id, np.int64)
    if policy == "random":
        rng = np.random.default_rng(resolved.deployment.seed)
        return rng.integers(number, size=workload.num_requests)
    return np.arange(workload.num_requests) % number


def run_lanes(
    run: Callable[[State, Cost, Limits], int],
    lanes: list[State],
    cost: Cost,
    limits: Limits,
    workload: Workload,
    progress: Progress | None,
) -> tuple[list[Columns], float]:
    """Run every lane to its end, one thread each; returns the logs and the time it took, s."""
    total = max(1, int(workload.num_prompt_tokens.sum() + workload.num_output_tokens.sum()))
    stop = threading.Event()

    def finish(lane: State) -> list[Columns]:
        drained = []
        while not stop.is_set():
            lane.cursor[state.LEFT] = SLICE
            code = run(lane, cost, limits)
            rows = lane.cursor[state.LOGGED]
            if rows:
                drained.append(tuple(column[:rows].copy() for column in lane.log))
                lane.cursor[state.LOGGED] = 0
            if code == state.FAULT:
                explain_fault(cost, lane)
            if code != state.BUDGET:
                break
        return drained

    # Compiles, or loads the machine code, before the clock starts.
    with_nothing = lanes[0].cursor.copy()
    with_nothing[state.LEFT] = 0
    run(lanes[0]._replace(cursor=with_nothing), cost, limits)
    began = time.perf_counter()
    with ThreadPoolExecutor(len(lanes)) as pool:
        pending = [pool.submit(finish, lane) for lane in lanes]
        try:
            while not all(lane.done() for lane in pending):
                wait(pending, timeout=0.1)
                if progress:
                    done = int(lanes[0].replicas.counts[:, state.TOKENS].sum())
                    progress(min(1.0, done / total))
        finally:
            stop.set()
    kernel_s = time.perf_counter() - began
    return [columns for lane in pending for columns in lane.result()], kernel_s

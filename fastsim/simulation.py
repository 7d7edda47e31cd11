"""Simulate a deployment on a workload: lay out the arrays, run the kernel in slices, wrap the result."""

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastsim import layout
from fastsim.deployment.description import is_function
from fastsim.deployment.resolved import Deployment, Resolved, resolve
from fastsim.feasible import check_fit, explain_end, explain_fault
from fastsim.kernels import state
from fastsim.kernels.cost import Cost
from fastsim.kernels.replicas.route import ASKED, LEAST_OUTSTANDING, LEAST_WAITING, ROUTED
from fastsim.kernels.state import Limits, State
from fastsim.layout import Arena, Stream
from fastsim.policies import attached, with_functions
from fastsim.predictors.build import build_cost, build_costs
from fastsim.result.metrics.counts import measures_of
from fastsim.result.metrics.objectives import Objective, parse_all
from fastsim.result.metrics.replicates import intervals
from fastsim.result.metrics.summary import summarise
from fastsim.result.metrics.window import check_exclude
from fastsim.result.outcome import Outcome, release, request_columns
from fastsim.result.result import Result, wrap
from fastsim.workload import Workload
from fastsim.workload.loading import load as load_workload

ROUTERS = {"least_outstanding": LEAST_OUTSTANDING, "least_waiting": LEAST_WAITING}

# Iterations between two looks at Ctrl-C, the progress bar and the log: some 20 ms.
SLICE = 200_000
LOG_ROWS = 65_536

Progress = Callable[[float], None]
Columns = tuple[NDArray[Any], ...]
Kernel = Callable[[State, Cost, Limits], int]


def simulate(
    deployment: Deployment | str | Path | None = None,
    workload: Workload | str | Path | Mapping[str, Any] = "chat",
    *,
    scheduler: Callable[..., Any] | None = None,
    router: Callable[..., Any] | None = None,
    iterations: bool = False,
    replicates: int = 0,
    detail: bool = True,
    objectives: Sequence[Objective | str] = (),
    exclude: tuple[float, float] = (0.0, 0.0),
    progress: Progress | None = None,
) -> Result:
    """Predict how ``deployment`` serves ``workload``.

    ``deployment``: a Deployment, a file that holds one, or None for the shipped default. ``workload``: a
    Workload, a file, a preset or a synthetic description. ``scheduler`` and ``router``: functions of your own
    (fastsim.policies), in place of the deployment's policies. ``iterations`` keeps a row per batch and stage.
    ``replicates``: runs more with operator times drawn from their intervals, which give every figure of the
    summary an interval (uncertainty.py). ``detail`` keeps where the time of each request goes (columns.BREAKDOWN).
    ``objectives``: what to keep to ("ttft:p90<2s"), for goodput and a verdict. ``exclude``: warm-up and cool-down, s,
    whose requests latencies leave out (summary.summarise).
    ``progress`` is called now and then with the share of tokens done, 0 to 1.

    Raises errors.InputError for anything that cannot be simulated. The same input gives the same result, to
    the bit, on any number of cores.
    """
    began = time.perf_counter()
    if not isinstance(deployment, Deployment):
        deployment = Deployment.load(deployment)
    deployment = with_functions(deployment, scheduler, router)
    resolved = resolve(deployment)
    kernel = kernel_of(resolved, scheduler, router)
    requests = load_workload(workload, seed=deployment.seed)
    check_fit(resolved, requests)
    wanted = parse_all(objectives)
    check_exclude(requests.arrived_at, exclude)
    built = build_cost(resolved)
    tables_s = time.perf_counter() - began
    limits = limits_of(resolved)
    stream = layout.share(requests.arrived_at, requests.num_prompt_tokens, requests.num_output_tokens)
    job = Job(resolved, kernel, limits, requests, stream, progress)
    outcome, kernel_s = run(job, built.cost, iterations, detail)
    timing = {"tables_s": tables_s, "kernel_s": kernel_s, "write_s": 0.0, "total_s": 0.0}
    result = wrap(resolved, requests, built.provenance, outcome, timing, wanted, exclude)
    if replicates:
        result.summary["replicates"] = intervals(
            [
                summarise(resolved, *run(job, drawn.cost)[0][:3], drawn.provenance, exclude)
                for drawn in build_costs(resolved, replicates, deployment.seed)
            ]
        )
    timing["total_s"] = time.perf_counter() - began
    return result


class Job(NamedTuple):
    """All that a simulation needs but operator times."""

    resolved: Resolved
    kernel: Kernel
    limits: Limits
    requests: Workload
    stream: Stream
    progress: Progress | None


def run(job: Job, cost: Cost, iterations: bool = False, detail: bool = False) -> tuple[Outcome, float]:
    """Simulate once; returns what the kernel left behind and how long it took, s. Raises StuckError and TableError."""
    resolved, limits, requests = job.resolved, job.limits, job.requests
    lanes = lay_out(resolved, limits, requests, job.stream, LOG_ROWS if iterations else 0, detail)
    drained, kernel_s = run_lanes(job.kernel, lanes, cost, limits, requests, job.progress)
    logs = [np.concatenate(columns) for columns in zip(*drained, strict=True)] if iterations else None
    explain_end(resolved, lanes[0])
    served, replicas = release(lanes[0].requests), lanes[0].replicas
    tbt = np.sum([lane.tbt for lane in lanes], axis=0)
    measures = measures_of(lanes)
    del lanes
    columns = request_columns(served, job.stream.prompts, limits.num_stages)
    return Outcome(columns, replicas, tbt, logs, measures), kernel_s


def kernel_of(
    resolved: Resolved, scheduler: Callable[..., Any] | None = None, router: Callable[..., Any] | None = None
) -> Kernel:
    """The compiled policy of a deployment, for one simulation. Raises PolicyError for functions of the user's."""
    policy, routing = resolved.deployment.scheduler.policy, resolved.deployment.router.policy
    if is_function(policy) or is_function(routing):
        from fastsim.policies.runner import Runner

        return Runner(attached(scheduler, policy, "scheduler") or policy, attached(router, routing, "router"))
    module = import_module(f"fastsim.kernels.schedulers.{policy}")
    run: Kernel = module.run if resolved.deployment.pipeline_parallel_size == 1 else module.run_stages
    return run


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
        router=ASKED if is_function(deployment.router.policy) else ROUTERS.get(deployment.router.policy, ROUTED),
    )


def lay_out(
    resolved: Resolved, limits: Limits, workload: Workload, stream: Stream, log_rows: int, detail: bool
) -> list[State]:
    """States that share all requests and replicas; each is for a thread and has replicas of its own.

    Replicas behind a router that looks at them depend on each other and stay together.
    """
    number = resolved.deployment.num_replicas
    num_lanes = min(number, os.cpu_count() or 1) if limits.router == ROUTED else 1
    whole = lay_out_whole(resolved, limits, workload, stream, layout.Arena(), log_rows, detail)
    bounds = np.linspace(0, number, num_lanes + 1).astype(int)
    if num_lanes == 1:
        return [whole]
    arrays = whole.requests, whole.replicas, whole.batches
    return [
        layout.lay_out_lane(*arrays, limits, int(first), int(last), log_rows, layout.Arena())
        for first, last in pairwise(bounds)
    ]


def lay_out_whole(
    resolved: Resolved,
    limits: Limits,
    workload: Workload,
    stream: Stream,
    arena: Arena,
    log_rows: int = 0,
    detail: bool = False,
) -> State:
    """The state of one thread that simulates all replicas."""
    number = resolved.deployment.num_replicas
    requests = layout.lay_out_requests(stream, arena, detail)
    replicas = layout.lay_out_replicas(number, limits, arena, detail)
    batches = layout.lay_out_batches(number, limits, arena)
    if limits.router == ROUTED:
        layout.assign(requests, replicas, assignment(resolved, workload))
    return layout.lay_out_lane(requests, replicas, batches, limits, 0, number, log_rows, arena)


def assignment(resolved: Resolved, workload: Workload) -> NDArray[np.integer]:
    """int[n]: the replica of each request, for routers that do not look at the replicas."""
    policy, number = resolved.deployment.router.policy, resolved.deployment.num_replicas
    if policy == "pinned" and workload.replica_id is not None:
        return workload.replica_id
    if policy == "random":
        rng = np.random.default_rng(resolved.deployment.seed)
        return rng.integers(number, size=workload.num_requests)
    return np.arange(workload.num_requests, dtype=np.int32) % np.int32(number)


def run_lanes(
    run: Kernel,
    lanes: list[State],
    cost: Cost,
    limits: Limits,
    workload: Workload,
    progress: Progress | None,
) -> tuple[list[Columns], float]:
    """Run every lane to its end, one thread each; returns the logs, and the time from first start to last end, s."""

    def timed(lane: State) -> tuple[list[Columns], float, float]:
        began = time.perf_counter()
        return finish(run, lane, cost, limits, stop), began, time.perf_counter()

    total = max(1, int(workload.num_prompt_tokens.sum() + workload.num_output_tokens.sum()))
    stop = threading.Event()
    get_ready(run, lanes[0], cost, limits)
    with ThreadPoolExecutor(len(lanes)) as pool:
        pending = [pool.submit(timed, lane) for lane in lanes]
        try:
            while not all(lane.done() for lane in pending):
                wait(pending, timeout=0.1)
                if progress:
                    done = int(lanes[0].replicas.counts[:, state.TOKENS].sum())
                    progress(min(1.0, done / total))
        finally:
            stop.set()
    drained, began, ended = zip(*(lane.result() for lane in pending), strict=True)
    return [columns for log in drained for columns in log], max(ended) - min(began)


def get_ready(run: Kernel, lane: State, cost: Cost, limits: Limits) -> None:
    """Compile the kernel, or load its machine code, before a clock starts: run it with a budget of nothing."""
    nothing = lane.cursor.copy()
    nothing[state.LEFT] = 0
    run(lane._replace(cursor=nothing), cost, limits)


def finish(run: Kernel, lane: State, cost: Cost, limits: Limits, stop: threading.Event) -> list[Columns]:
    """Run a lane to its end, or until ``stop``; returns its log. Raises TableError."""
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

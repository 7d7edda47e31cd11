"""Many simulations in one call: threads share tables and request arrays, and each thread reuses its memory."""

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any

import pyarrow as pa

from fastsim.deployment.description import Deployment
from fastsim.deployment.memory.sizes import GIB
from fastsim.deployment.resolve import resolve
from fastsim.deployment.resolved import Resolved
from fastsim.deployment.settings import OF_VLLM_V1
from fastsim.predictors.build import build_cost
from fastsim.predictors.built import Built
from fastsim.predictors.times.reach import reach_of
from fastsim.result.config import config_of, warnings_of
from fastsim.result.metrics.counts import measures_of
from fastsim.result.metrics.summary import add_details, summarise
from fastsim.result.outcome import request_columns, with_pools, with_transfers, with_workload
from fastsim.result.wrap import request_table
from fastsim.simulation.apart import rows_of
from fastsim.simulation.arena import Arena
from fastsim.simulation.check import check_fit
from fastsim.simulation.faults import explain_end
from fastsim.simulation.lanes import finish, get_ready, kernel_of, lay_out_whole
from fastsim.simulation.limits import limits_of
from fastsim.simulation.ranks import by_rank
from fastsim.simulation.run import Progress
from fastsim.simulation.stream import Stream, stream_of
from fastsim.simulation.windows import with_windows
from fastsim.workload import Workload
from fastsim.workload.too_long import check_too_long, within

# Fields that tables do not depend on, except in how far they reach.
SAME_TABLES = {"num_replicas": 1, "gpu_memory_utilization": 1.0, "seed": 0, "front_end_ms": 0.0}
SAME_TABLES_SCHEDULER: dict[str, float | None] = {
    "watermark": 0.0,
    "max_waiting_iters": 0,
    "num_blocks": 1,
    "block_size": 1,
    **{name: None for name in OF_VLLM_V1 if name != "async_scheduling"},  # host time depends on that
}


@dataclass(frozen=True, slots=True)
class Run:
    """The outcome of one of many simulations: a summary, and a table of requests if asked for, or else the error."""

    summary: dict[str, Any] | None = None
    requests: pa.Table | None = None
    error: Exception | None = None


@dataclass(frozen=True, slots=True)
class _Job:
    """A simulation to run: ``number`` is its position among the results, ``cost`` its work as ``estimate`` has it."""

    number: int
    resolved: Resolved
    workload: Workload
    stream: Stream
    tables: Hashable
    cost: float


class _Tables:
    """Tables by key: the first thread that needs them builds them, and the last job that needs them drops them."""

    def __init__(self, jobs: Sequence[_Job], build: Callable[[Resolved], Built]) -> None:
        self._build = build
        self._left = Counter(job.tables for job in jobs)
        self._locks = {key: threading.Lock() for key in self._left}
        self._built: dict[Hashable, Built] = {}

    def of(self, job: _Job) -> Built:
        """Return the tables of a job; the caller waits while another thread builds them."""
        with self._locks[job.tables]:
            built = self._built.get(job.tables) or self._build(job.resolved)
            self._left[job.tables] -= 1
            if self._left[job.tables]:
                self._built[job.tables] = built
            else:
                self._built.pop(job.tables, None)
            return built


def simulate_many(
    jobs: Sequence[tuple[Deployment | Resolved, Workload]],
    *,
    threads: int | None = None,
    requests: bool = False,
    detail: bool = False,
    progress: Progress | None = None,
    build: Callable[[Resolved], Built] | None = None,
    too_long: str = "refuse",
) -> list[Run]:
    """Simulate many deployments, each on its workload, on the threads of this process.

    Each summary is the same, to the bit, as that of ``simulate``, on any number of threads. Jobs that have the same
    Workload object share its arrays, and jobs that need the same tables of iteration times share those.

    Parameters
    ----------
    jobs : sequence of (Deployment, Workload)
        The simulations. Deployments that ``resolve`` has resolved are taken as they are.
    threads : int, optional
        How many threads to use. By default one per core.
    requests : bool
        Whether each Run has the table of its requests as well. By default False.
    detail : bool
        Whether to record where the time of each request goes, as ``simulate`` does. By default False.
    progress : callable, optional
        A function that is called about ten times a second with the share of the work that is done, 0 to 1.
    build : callable, optional
        A function that returns the tables of iteration times of a resolved deployment. By default
        ``fastsim.predictors.build.build_cost``.
    too_long : str
        What becomes of requests with more tokens than max_model_len, as for ``simulate``. By default ``"refuse"``.

    Returns
    -------
    list of Run
        One per job, in the order of the jobs. A Run has a ``summary``, and ``requests`` (an Arrow table) where it was
        asked for. The Run of a job that failed has neither, and an ``error``; the other jobs go on.

    Examples
    --------
    >>> chat = fastsim.load_workload("chat", rate=8.0, num_requests=200)
    >>> jobs = [(fastsim.Deployment.load(None, [f"num_replicas={n}"]), chat) for n in (1, 2)]
    >>> runs = fastsim.simulate_many(jobs)
    >>> [round(run.summary["latency"]["e2e"]["mean"], 2) for run in runs]  # s
    [1.58, 1.42]
    """
    runs = [Run()] * len(jobs)
    check_too_long(too_long)
    prepared = []
    fitting: dict[tuple[int, int], Workload] = {}  # by workload and max_model_len
    streams: dict[int, Stream] = {}  # by workload
    for number, (deployment, workload) in enumerate(jobs):
        try:
            resolved = deployment if isinstance(deployment, Resolved) else resolve(deployment)
            length = resolved.max_model_len
            if (id(workload), length) not in fitting:
                fitting[id(workload), length] = within(workload, length, too_long)
            workload = fitting[id(workload), length]
            resolved = with_windows(resolved, workload)
            check_fit(resolved, workload)
        except Exception as error:  # recorded, so that the other jobs go on
            runs[number] = Run(error=error)
            continue
        if id(workload) not in streams:
            streams[id(workload)] = stream_of(workload)
        stream = streams[id(workload)]
        prepared.append(_Job(number, resolved, workload, stream, tables_key(resolved), estimate(resolved, workload)))
    prepared.sort(key=lambda job: -job.cost)
    tables = _Tables(prepared, build or build_cost)
    threads = min(threads or os.cpu_count() or 1, max(1, len(prepared)))
    _run_all(prepared, runs, threads, tables, requests, detail, progress)
    return runs


def _run_all(
    prepared: list[_Job],
    runs: list[Run],
    threads: int,
    tables: "_Tables",
    requests: bool,
    detail: bool,
    progress: Progress | None,
) -> None:
    """Let each thread take the largest remaining job until none is left; ``prepared`` has the largest jobs first."""
    queue: SimpleQueue[_Job] = SimpleQueue()
    for job in prepared:
        queue.put(job)
    stop, total, done = threading.Event(), sum(job.cost for job in prepared), [0.0]

    def work() -> None:
        """Run jobs in one arena until none is left or the main thread is interrupted."""
        arena = Arena()
        while not stop.is_set():
            try:
                job = queue.get_nowait()
            except Empty:
                return
            # A table of requests shares the memory of its simulation, which then cannot be used again.
            runs[job.number] = _run(job, tables, Arena() if requests else arena, requests, detail, stop)
            done[0] += job.cost

    with ThreadPoolExecutor(threads) as pool:
        pending = [pool.submit(work) for _ in range(threads)]
        try:
            while not all(one.done() for one in pending):
                wait(pending, timeout=0.1)
                if progress:
                    progress(min(1.0, done[0] / total) if total else 1.0)
        finally:
            stop.set()
    for one in pending:
        one.result()


def _run(job: _Job, tables: _Tables, arena: Arena, keep: bool, detail: bool, stop: threading.Event) -> Run:
    """Run one job; ``keep`` returns its table of requests as well. An error becomes part of the Run."""
    began = time.perf_counter()
    try:
        resolved, stream = job.resolved, job.stream
        built = tables.of(job)
        tables_s = time.perf_counter() - began
        limits, kernel = limits_of(resolved, job.workload), kernel_of(resolved)
        lane = lay_out_whole(resolved, limits, job.workload, stream, arena, detail=detail)
        call = get_ready(kernel, lane, built.costs, limits)
        started = time.perf_counter()
        finish(call, lane, built.costs, stop)
        kernel_s = time.perf_counter() - started
        explain_end(resolved, lane)
        lane = by_rank(lane, limits[0])
        front_end = resolved.front_end_s
        prompts = stream.num_prompt_tokens
        rows, cached, transfers = rows_of(resolved, lane, prompts)
        arrived_at = stream.sent_at(rows, front_end)
        columns = request_columns(rows, arrived_at, cached, prompts, limits[0], front_end)
        if transfers:
            columns = with_transfers(columns, *transfers)
        columns = with_pools(with_workload(columns, job.workload), resolved)
        summary = summarise(resolved, columns, lane.replicas, lane.engine.counts, lane.tbt, built.provenance)
        if measures := measures_of([lane]):
            add_details(summary, resolved, built.operators, columns, lane.replicas, measures)
        table = request_table(columns, config_of(resolved, job.workload, built.provenance)) if keep else None
        total_s = time.perf_counter() - began
        summary["warnings"] = warnings_of(resolved, job.workload, built.provenance)
        timing = {"tables_s": tables_s, "kernel_s": kernel_s, "write_s": 0.0, "total_s": total_s}
        return Run({**summary, "timing": timing}, table)
    except Exception as error:
        return Run(error=error)


def tables_key(resolved: Resolved) -> Hashable:
    """Return a key that is equal for deployments that have the same tables."""
    deployment = resolved.deployment
    plain = Deployment.model_fields
    same = {name: plain[name].get_default() for name in ("router", "memory")}
    scheduler = deployment.scheduler.model_copy(update=SAME_TABLES_SCHEDULER)
    reach = tuple(reach_of(kind) for kind in resolved.kinds)
    return deployment.model_copy(update={**SAME_TABLES, **same, "scheduler": scheduler}), reach


def estimate(resolved: Resolved, workload: Workload) -> float:
    """Estimate the work of a simulation, roughly in iterations, so that the largest jobs can start first.

    A replica is assumed to iterate all the time while requests arrive, and each iteration to last as long as reading
    the weights does. There are at most as many iterations as output tokens, and at least as many as full batches need.
    """
    stages = resolved.pipeline_parallel_size
    num_output_tokens = float(workload.num_output_tokens.sum())
    step = stages * resolved.memory.weights_gib * GIB / (resolved.device.bandwidth_gb_s * 1e9)
    span = workload.span
    steps = max(
        num_output_tokens / resolved.scheduler.max_num_seqs, min(num_output_tokens, resolved.num_replicas * span / step)
    )
    return float(workload.num_requests + stages * steps)

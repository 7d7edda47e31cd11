"""One simulation: lay out the arrays, run the kernel on threads in slices, and turn the arrays into a result."""

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fastsim.deployment.description import Deployment
from fastsim.deployment.resolve import resolve
from fastsim.deployment.resolved import Resolved
from fastsim.errors import ConfigError
from fastsim.kernels import state
from fastsim.kernels.state import Limits, State
from fastsim.kernels.tables import Cost
from fastsim.predictors.build import build_cost
from fastsim.predictors.replicates import replicates as drawn_replicates
from fastsim.result.metrics.counts import measures_of
from fastsim.result.metrics.objectives import Objective, parse_all
from fastsim.result.metrics.replicates import intervals
from fastsim.result.metrics.summary import summarise
from fastsim.result.metrics.window import check_exclude
from fastsim.result.outcome import Outcome, release, request_columns, with_pools, with_transfers, with_workload
from fastsim.result.result import Result
from fastsim.result.wrap import wrap
from fastsim.simulation.apart import rows_of
from fastsim.simulation.check import check_fit
from fastsim.simulation.custom.policy import with_functions
from fastsim.simulation.faults import explain_end
from fastsim.simulation.lanes import Call, Columns, Kernel, call_of, finish, get_ready, kernel_of, lay_out
from fastsim.simulation.limits import limits_of
from fastsim.simulation.ranks import by_rank
from fastsim.simulation.stream import Stream, stream_of
from fastsim.simulation.windows import with_windows
from fastsim.workload import Workload
from fastsim.workload.loading import load as load_workload
from fastsim.workload.too_long import within

LOG_ROWS = 65_536  # rows of the log of iterations that a thread collects before it is emptied

Progress = Callable[[float], None]  # called with the share of the work done, 0 to 1


def simulate(
    deployment: Deployment | str | Path | None = None,
    workload: Workload | str | Path | Mapping[str, Any] = "chat",
    *,
    rate: float | None = None,
    users: int | None = None,
    num_requests: int | None = None,
    scheduler: Callable[..., Any] | None = None,
    router: Callable[..., Any] | None = None,
    iterations: bool = False,
    replicates: int = 0,
    detail: bool = True,
    objectives: Sequence[Objective | str] = (),
    exclude: tuple[float, float] = (0.0, 0.0),
    too_long: str = "refuse",
    progress: Progress | None = None,
    **fields: Any,
) -> Result:
    """Predict how a deployment serves a workload.

    The same arguments give the same result, to the bit, on any number of cores.

    Parameters
    ----------
    deployment : Deployment, str, Path or None
        The deployment, or a YAML, TOML or JSON file that describes one. By default Llama-3-8B on one H100.
    workload : Workload, str, Path or mapping
        The requests, or what ``load_workload`` takes: a file, a preset or a description. By default ``"chat"``.
    rate : float, optional
        Mean arrival rate, requests/s. By default the workload's own.
    users : int, optional
        Users who send the requests and wait for each answer, instead of a rate. By default as the workload says.
    num_requests : int, optional
        How many requests to draw from a description, or to take from the beginning of a file. By default as
        ``load_workload``.
    scheduler : callable, optional
        A scheduling function ``(replica, chosen, tokens)`` of your own that replaces the policy of the deployment; see
        ``policy``. By default the deployment's own policy schedules.
    router : callable, optional
        A routing function ``(replicas, request)`` of your own that replaces the router of the deployment. By default
        the deployment's own router routes.
    iterations : bool
        Whether the result has a table with a row per batch and pipeline stage. By default False.
    replicates : int
        How many more times to run, with operator times drawn from their 90 % intervals. The summary then has an
        interval for each of its figures, under ``replicates``. By default 0.
    detail : bool
        Whether to record where the time of each request goes, and batches and use over time. By default True; the
        kernel takes about half as long without.
    objectives : sequence of str
        What the latencies must keep to, such as ``"ttft:p90<2s"``. The summary then has goodput, and says which
        objectives are met. By default none.
    exclude : tuple of two floats
        Warm-up and cool-down, s: requests that arrive in them count towards no latency and no rate. By default (0, 0).
    too_long : str
        What becomes of requests with more tokens than max_model_len: ``"refuse"`` raises an error, ``"drop"`` leaves
        them out, and ``"clip"`` takes from their outputs, down to one token, and then from their prompts. By default
        ``"refuse"``. The summary has a warning with their number, and config the number itself.
    progress : callable, optional
        A function that is called about ten times a second with the share of the tokens that are processed, 0 to 1.
    fields : optional
        Fields of the deployment to change, such as ``model="meta-llama/Llama-3.1-8B"``, ``tensor_parallel_size=2`` or
        ``scheduler={"max_num_seqs": 64}``. By default none; fields of the scheduler that are not named stay.

    Returns
    -------
    Result
        Tables of requests and iterations, and the figures of the run.

    Raises
    ------
    errors.InputError
        When something cannot be simulated: a field that is not valid, a model that does not fit in memory, a workload
        that cannot be read, a request that can never be scheduled, a function that does not compile.

    Examples
    --------
    >>> chat = fastsim.load_workload("chat", rate=2.0, num_requests=200)
    >>> result = fastsim.simulate(None, chat, objectives=["ttft:p90<2s"])
    >>> round(result.summary["latency"]["ttft"]["p99"], 3)  # s
    0.102
    >>> result.summary["goodput"]["share"]
    1.0
    >>> fastsim.simulate(device="h200", tensor_parallel_size=2, rate=4.0, num_requests=100)
    <Result: 100 requests to meta-llama/Meta-Llama-3-8B on 2 x h200: mean TTFT ...>
    """
    began = time.perf_counter()
    deployment = with_functions(_with_fields(deployment, fields), scheduler, router)
    resolved = resolve(deployment)
    kernel = kernel_of(resolved, scheduler, router)
    workload = load_workload(workload, rate=rate, num_requests=num_requests, seed=deployment.seed, users=users)
    workload = within(workload, resolved.max_model_len, too_long)
    resolved = with_windows(resolved, workload)
    check_fit(resolved, workload)
    parsed = parse_all(objectives)
    if workload.following is None:
        check_exclude(workload.arrived_at, exclude)
    built = build_cost(resolved)
    tables_s = time.perf_counter() - began
    limits = limits_of(resolved, workload)
    stream = stream_of(workload)
    job = Job(resolved, kernel, limits, workload, stream, progress)
    outcome, kernel_s = run(job, built.costs, iterations, detail)
    if workload.following is not None:
        check_exclude(outcome.columns["arrived_at"], exclude)
    timing = {"tables_s": tables_s, "kernel_s": kernel_s, "write_s": 0.0, "total_s": 0.0}
    result = wrap(resolved, workload, built, outcome, timing, parsed, exclude)
    if replicates:
        result.summary["replicates"] = intervals(
            [
                summarise(
                    resolved,
                    *run(job._replace(resolved=one.resolved), one.built.costs)[0][:4],
                    one.built.provenance,
                    exclude,
                )
                for one in drawn_replicates(resolved, replicates, deployment.seed)
            ]
        )
    timing["total_s"] = time.perf_counter() - began
    return result


def _with_fields(deployment: Deployment | str | Path | None, fields: Mapping[str, Any]) -> Deployment:
    """The deployment with some of its fields changed."""
    changes = [f"{name}={json.dumps(value)}" for name, value in _flat(fields)]
    if isinstance(deployment, Deployment) and not changes:
        return deployment
    try:
        return Deployment.load(deployment, changes)
    except ConfigError as error:
        raise ConfigError(str(error).removeprefix("--set ")) from None


def _flat(fields: Mapping[str, Any], within: str = "") -> Iterator[tuple[str, Any]]:
    """The fields with their dotted names, also those of mappings in them."""
    for name, value in fields.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{within}{name}.")
        else:
            yield f"{within}{name}", value


class Job(NamedTuple):
    """Everything that a simulation needs except operator times."""

    resolved: Resolved
    kernel: Kernel
    limits: tuple[Limits, ...]  # by pool
    workload: Workload
    stream: Stream
    progress: Progress | None


def run(job: Job, costs: tuple[Cost, ...], iterations: bool = False, detail: bool = False) -> tuple[Outcome, float]:
    """Simulate a job once, with the operator times of ``costs``.

    Parameters
    ----------
    job : Job
        What to simulate.
    costs : tuple of Cost
        The operator times of each pool, as the kernel reads them.
    iterations, detail : bool
        Whether to keep a row per batch and stage, and where the time of each request goes.

    Returns
    -------
    tuple
        The Outcome, and the time that the kernel took, s.

    Raises
    ------
    StuckError
        A request can never be scheduled.
    TableError
        The tables have no time for a batch.
    """
    resolved, limits = job.resolved, job.limits
    lanes = lay_out(resolved, limits, job.workload, job.stream, LOG_ROWS if iterations else 0, detail)
    drained, kernel_s = run_lanes(job.kernel, lanes, costs, limits, job.workload, job.progress)
    logs = [np.concatenate(columns) for columns in zip(*drained, strict=True)] if iterations else None
    explain_end(resolved, lanes[0])
    lanes[0] = by_rank(lanes[0], limits[0])
    prompts, front_end = job.stream.num_prompt_tokens, resolved.front_end_s
    requests, cached, transfers = rows_of(resolved, lanes[0], prompts)
    queued_at = requests.arrived_at
    arrived_at = job.stream.sent_at(requests, front_end)
    requests = release(requests, queued_at if front_end else arrived_at)
    replicas, engines = lanes[0].replicas, lanes[0].engine.counts
    tbt = np.sum([lane.tbt for lane in lanes], axis=0)
    measures = measures_of(lanes)
    del lanes, queued_at
    columns = request_columns(requests, arrived_at, cached, prompts, limits[0], front_end)
    if transfers:
        columns = with_transfers(columns, *transfers)
    columns = with_pools(with_workload(columns, job.workload), resolved)
    return Outcome(columns, replicas, engines, tbt, logs, measures), kernel_s


def run_lanes(
    run: Kernel,
    lanes: list[State],
    costs: tuple[Cost, ...],
    limits: tuple[Limits, ...],
    workload: Workload,
    progress: Progress | None,
) -> tuple[list[Columns], float]:
    """Run every lane to its end, each in a thread.

    Returns the logs in pieces, each with the columns of ``kernels.state.Log``, and the time from the first start to the
    last end, s.
    """

    def timed(call: Call, lane: State) -> tuple[list[Columns], float, float]:
        """Run a lane to its end; return its log, and when it started and ended."""
        began = time.perf_counter()
        return finish(call, lane, costs, stop), began, time.perf_counter()

    total = max(1, int(workload.num_prompt_tokens.sum() + workload.num_output_tokens.sum()))
    stop = threading.Event()
    calls = [get_ready(run, lanes[0], costs, limits), *(call_of(run, lane, costs, limits) for lane in lanes[1:])]
    with ThreadPoolExecutor(len(lanes)) as pool:
        pending = [pool.submit(timed, call, lane) for call, lane in zip(calls, lanes, strict=True)]
        try:
            while not all(running.done() for running in pending):
                wait(pending, timeout=0.1)
                if progress:
                    done = int(lanes[0].replicas.counts[:, state.TOKENS].sum())
                    progress(min(1.0, done / total))
        finally:
            stop.set()
    drained, began, ended = zip(*(running.result() for running in pending), strict=True)
    return [columns for log in drained for columns in log], max(ended) - min(began)

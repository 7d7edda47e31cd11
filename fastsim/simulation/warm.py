"""Warming up: compiling the kernel of every policy and building the default tables before the first run needs them."""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context

from fastsim.deployment.schedulers import POLICIES
from fastsim.files.children import without_interrupts


@dataclass(frozen=True, slots=True)
class Warmed:
    """A kernel or tables that are ready now."""

    name: str
    seconds: float  # how long it took to compile, build or load it
    made: bool  # False if it was loaded from the cache


def warm(policies: Sequence[str] = tuple(POLICIES)) -> Iterator[Warmed]:
    """Compile the kernels of ``policies`` in two processes, then build the tables of the default deployment.

    Yields each when it is ready. Whatever is in the cache is loaded instead. Policies share most of their parts, which
    a process compiles once: one process compiles the kernels of runs with detail, and the other one those without.
    """
    context = get_context("spawn")  # a compiler that is forked in the middle of its work would hang
    pools = [ProcessPoolExecutor(1, mp_context=context) for _ in range(2)]
    try:
        with without_interrupts():
            details = zip(pools, (True, False), strict=True)
            pending = [pool.submit(_compile, policy, detail) for pool, detail in details for policy in policies]
        halves: dict[str, Warmed] = {}
        for done in as_completed(pending):
            ready = done.result()
            if other := halves.pop(ready.name, None):
                yield Warmed(ready.name, ready.seconds + other.seconds, ready.made or other.made)
            else:
                halves[ready.name] = ready
    finally:
        for pool in pools:
            pool.shutdown(cancel_futures=True)
    yield build_default_tables()


def compile_kernel(policy: str) -> None:
    """Compile or load the kernels of a policy: for one stage and for pipelines, with detail and without."""
    for detail in (True, False):
        _compile(policy, detail)


def _compile(policy: str, detail: bool) -> Warmed:
    """Compile or load the kernels of a policy for runs with detail, or for those without."""
    import numpy as np

    from fastsim.deployment.description import Deployment
    from fastsim.deployment.resolve import resolve
    from fastsim.kernels._entry import Entry
    from fastsim.kernels.tables import COMPOSE_FASTSIM, Cost
    from fastsim.predictors.tables.compose import NO_FASTSIM, NO_VIDUR
    from fastsim.simulation.arena import Arena
    from fastsim.simulation.lanes import get_ready, lay_out_whole
    from fastsim.simulation.limits import limits_of
    from fastsim.simulation.stream import stream_of
    from fastsim.workload import Workload

    began = time.perf_counter()
    resolved = resolve(Deployment.load(None, [f"scheduler.policy={policy}"]))
    workload = Workload(np.zeros(1), np.ones(1, np.int64), np.ones(1, np.int64))
    limits = limits_of(resolved)
    lane = lay_out_whole(resolved, limits, workload, stream_of(workload), Arena(), detail=detail)
    runs = [Entry(policy, name) for name in (["run", "run_stages"] if POLICIES[policy].pipelines else ["run"])]
    for run in runs:
        get_ready(run, lane, (Cost(COMPOSE_FASTSIM, 1, NO_VIDUR, NO_FASTSIM, np.ones(1)),), limits)
    return Warmed(f"kernel {policy}", time.perf_counter() - began, any(run.num_compiled for run in runs))


def build_default_tables() -> Warmed:
    """Build or load the tables of the default deployment."""
    from fastsim.deployment.description import Deployment
    from fastsim.deployment.resolve import resolve
    from fastsim.predictors.build import build_cost, is_built

    began = time.perf_counter()
    resolved = resolve(Deployment.load(None))
    made = not is_built(resolved)
    build_cost(resolved)
    return Warmed("tables", time.perf_counter() - began, made)

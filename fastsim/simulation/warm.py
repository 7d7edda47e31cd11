"""Warming up: compiling the kernel of every policy and building the default tables before the first run needs them."""

import os
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
    """Compile the kernels of ``policies`` on all cores, then build the tables of the default deployment.

    Yields each when it is ready. Whatever is in the cache is loaded instead.
    """
    context = get_context("spawn")  # a compiler that is forked in the middle of its work would hang
    with ProcessPoolExecutor(min(len(policies), os.cpu_count() or 1), mp_context=context) as pool:
        with without_interrupts():
            pending = [pool.submit(compile_kernel, policy) for policy in policies]
        try:
            for ready in as_completed(pending):
                yield ready.result()
        finally:
            pool.shutdown(cancel_futures=True)
    yield build_default_tables()


def compile_kernel(policy: str) -> Warmed:
    """Compile or load the kernels of a policy: for one stage and for pipelines, with detail and without."""
    import numpy as np

    from fastsim.deployment.description import Deployment
    from fastsim.deployment.resolve import resolve
    from fastsim.kernels._entry import Entry
    from fastsim.kernels.tables import COMPOSE_FASTSIM, Cost
    from fastsim.predictors.tables.compose import NO_FASTSIM, NO_VIDUR
    from fastsim.simulation.arena import Arena
    from fastsim.simulation.lanes import get_ready, lay_out_whole, limits_of
    from fastsim.simulation.stream import stream_of
    from fastsim.workload import Workload

    began = time.perf_counter()
    resolved = resolve(Deployment.load(None, [f"scheduler.policy={policy}"]))
    workload = Workload(np.zeros(1), np.ones(1, np.int64), np.ones(1, np.int64))
    stream = stream_of(workload)
    limits = limits_of(resolved)
    names = ["run", "run_stages"] if POLICIES[policy].pipelines else ["run"]
    runs = [Entry(policy, name) for name in names]
    for detail in (True, False):
        lane = lay_out_whole(resolved, limits, workload, stream, Arena(), detail=detail)
        for run in runs:
            get_ready(run, lane, Cost(COMPOSE_FASTSIM, 1, NO_VIDUR, NO_FASTSIM, np.ones(1)), limits)
    return Warmed(f"kernel {policy}", time.perf_counter() - began, any(run.num_compiled for run in runs))


def build_default_tables() -> Warmed:
    """Build or load the tables of the default deployment."""
    from fastsim.deployment.description import Deployment
    from fastsim.deployment.resolve import resolve
    from fastsim.predictors.build import build_cost
    from fastsim.predictors.tables.cache import folder

    began = time.perf_counter()
    before = set(folder().glob("*.npz"))
    build_cost(resolve(Deployment.load(None)))
    return Warmed("tables", time.perf_counter() - began, set(folder().glob("*.npz")) != before)

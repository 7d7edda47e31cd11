"""Measures a case: prepares the operator, times it, flags doubtful times, and frees its memory."""

import gc
import time
from collections.abc import Callable

import numpy as np

from . import attention, elementwise, experts, gemm, host
from .backends import ATTENTION, SMALL, missing
from .case import COLLECTIVES, Case, Measured, Skipped, impossible
from .collectives import few, group
from .machine import IDLE, Reading, judge, watch
from .timing import Times, Work, clocked, on_gpu
from .timing import judge as judge_times


def prepared(case: Case, device: str, seed: int) -> Work:
    """Prepare the operator of a case, with its inputs on ``device``."""
    family, precision, shape, backend = case
    if family in SMALL:
        return elementwise.elementwise(family, shape, backend, device, seed)
    if family == "mla_prefill" or (backend == "sdpa" and family in ("prefill_attention", "chunk_attention")):
        return attention.prefill(family, shape, device, seed)
    if family in ATTENTION:
        return attention.on_blocks(family, shape, precision, backend, device, seed)
    makers: dict[str, Callable[[], Work]] = {
        "gemm": lambda: gemm.gemm(shape, precision, device, seed),
        "lm_head": lambda: gemm.lm_head(shape, device, seed),
        "embedding": lambda: elementwise.embedding(shape, device, seed),
        "moe": lambda: experts.moe(shape, precision, backend, device, seed),
        "mla_decode": lambda: attention.mla_decode(shape, device, seed),
        "host_step": lambda: host.host_step(shape, device),
        "host_launch": lambda: host.host_launch(shape, device),
    }
    return makers[family]()


def measure(case: Case, device: str, *, graph: bool, seed: int, seconds: float) -> Measured | Skipped:
    """Measure ``case`` on ``device``: prepare it, warm it up, and repeat it for about ``seconds``.

    ``graph``: time a CUDA graph where the device and the operator allow it. Returns Skipped, with a reason, for an
    impossible shape, a missing backend, too little memory, or a library that raises. Raises RuntimeError when
    the GPU is lost.
    """
    reason = missing(case.family, case.precision, case.backend, device) or impossible(case)
    if not reason and case.family in COLLECTIVES:
        reason = few(case.shape[1], device)
    if reason:
        return Skipped(reason)
    import torch

    readings = watch(device)
    start = time.perf_counter()
    try:
        with torch.inference_mode():
            times = _times(case, device, graph, seed, seconds)
    except Exception as problem:  # libraries raise all sorts of errors, and the next case may still work
        full = isinstance(problem, (MemoryError, torch.cuda.OutOfMemoryError)) or "alloc" in str(problem).lower()
        if device.startswith("cuda"):
            torch.cuda.synchronize(device)  # raises again if the GPU is lost
        reason = f"{'out of memory' if full else f'{case.backend} refuses'}: {_line(problem)}"
    if reason:
        gc.collect()  # frees the tensors that the exception referred to
    if device.startswith("cuda"):
        torch.cuda.empty_cache()
    return Skipped(reason) if reason else summary(times, readings.since(start))


def _times(case: Case, device: str, graph: bool, seed: int, seconds: float) -> Times:
    if case.family in COLLECTIVES:
        return group(case.backend, case.shape[1]).times(case.family, case.shape[0], graph, seconds)
    work = prepared(case, device, seed)
    return on_gpu(work, device, seconds, graph) if device.startswith("cuda") else clocked(work, seconds)


def summary(times: Times, readings: list[Reading]) -> Measured:
    """Return median, P10 and P90 of the times, and the flags that follow from times and clocks."""
    low, middle, high = np.percentile(times.ms, (10, 50, 90))
    known = [reading for reading in readings if reading.clock_mhz > 0]
    busy = [reading for reading in known if not reading.reasons & IDLE] or known
    clock = float(np.median([reading.clock_mhz for reading in busy])) if busy else float("nan")
    degrees = max((reading.temperature_c for reading in readings), default=float("nan"))
    flags = ",".join([*judge(readings), *judge_times(times.ms)])
    return Measured(float(middle), float(low), float(high), len(times.ms), times.graph, clock, degrees, flags)


def _line(problem: BaseException) -> str:
    lines = str(problem).strip().splitlines()
    return lines[0] if lines else type(problem).__name__

"""Times repeated bursts of calls, by CUDA events or by the clock of the CPU, until their median is steady."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any, NamedTuple

import numpy as np

BURST_MS = 2.0  # length of a burst: the resolution of CUDA events is half a microsecond
STEADY = 0.01  # half-width of the median's 95 % interval over the median: below that the median is steady
FEWEST, MIN_REPEATS, MAX_REPEATS = 3, 7, 200  # repeats: at least, at least for a steady median, at most
MAX_CAPTURED = 1024  # calls in one CUDA graph, at most
WARM_S = 0.02  # s that an idle GPU takes to raise its clock
NOISY = 0.03  # half-width of the interval over the median: above that a measurement is noisy
OUTLIER, MANY_OUTLIERS = 1.5, 0.05  # a repeat above 1.5 medians is an outlier; more than 5 % of them are flagged


@dataclass(frozen=True, slots=True)
class Work:
    """A prepared operator: ``call(i)`` runs it on input set i of ``sets``; ``graph``: a CUDA graph can hold it."""

    call: Callable[[int], Any]
    sets: int = 1
    graph: bool = True


class Times(NamedTuple):
    """The time of one call in each repeat, ms, and whether a CUDA graph was replayed."""

    ms: list[float]
    graph: bool


def interval(ms: Sequence[float]) -> float:
    """Return the half-width of the median's 95 % interval over the median, estimated from the quartiles."""
    low, middle, high = np.percentile(ms, (25, 50, 75))
    return float(1.57 * (high - low) / np.sqrt(len(ms)) / middle)


def judge(ms: Sequence[float]) -> list[str]:
    """Return the flags ``noisy``, if the median is uncertain, and ``outliers``, if many repeats are far above it."""
    flags = ["noisy"] if len(ms) < FEWEST or interval(ms) > NOISY else []
    far = np.mean(np.asarray(ms) > OUTLIER * np.median(ms))
    return flags + (["outliers"] if far > MANY_OUTLIERS else [])


def settle(burst: Callable[[], float], seconds: float) -> list[float]:
    """Run bursts until their median is steady or ``seconds`` have passed; return the time of one call in each, ms.

    It runs ``FEWEST`` bursts at least, unless they take three times ``seconds``.
    """
    ms: list[float] = []
    start = time.perf_counter()
    while len(ms) < MAX_REPEATS:
        ms.append(burst())
        spent = time.perf_counter() - start
        if spent > seconds and (len(ms) >= FEWEST or spent > 3 * seconds):
            break
        if len(ms) >= MIN_REPEATS and interval(ms) < STEADY:
            break
    return ms


def calls_of(first_ms: float, seconds: float, sets: int, most: int) -> int:
    """Return the calls of a burst: enough for ``BURST_MS`` and for all input sets, as far as time allows.

    They are a multiple of ``sets`` if there are that many. ``first_ms``: time of one call, ms.
    """
    longest = max(seconds * 1e3 / MIN_REPEATS, first_ms)
    wanted = int(min(max(BURST_MS, first_ms * sets), longest) / max(first_ms, 1e-6))
    calls = max(1, min(most, wanted))
    return calls // sets * sets if calls >= sets else calls


def in_turn(work: Work) -> Callable[[int], None]:
    """Return a function that calls the operator a number of times, each time on the next input set."""
    order = cycle(range(work.sets))

    def run(calls: int) -> None:
        for index in islice(order, calls):
            work.call(index)

    return run


def clocked(work: Work, seconds: float) -> Times:
    """Time an operator by the clock of the CPU."""
    run = in_turn(work)

    def burst(calls: int) -> float:
        start = time.perf_counter()
        run(calls)
        return (time.perf_counter() - start) * 1e3 / calls

    run(2)  # the first calls allocate memory, and libraries choose their kernels
    calls = calls_of(burst(1), seconds, 1, 10_000)
    return Times(settle(lambda: burst(calls), seconds), False)


def on_gpu(work: Work, device: str, seconds: float, graph: bool) -> Times:
    """Time an operator by CUDA events; replay it as a CUDA graph if ``graph`` and the operator allow it."""
    import torch

    torch.cuda.set_device(device)
    stream = torch.cuda.Stream(device)
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    run = in_turn(work)

    def timed(launch: Callable[[], None], first: Callable[[], None] | None = None) -> float:
        if first:  # keeps the GPU busy while the host launches what is timed
            first()
        start.record(stream)
        launch()
        end.record(stream)
        end.synchronize()
        return float(start.elapsed_time(end))

    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        run(FEWEST)
        stream.synchronize()
        calls = calls_of(timed(lambda: run(FEWEST)) / FEWEST, seconds, work.sets, MAX_CAPTURED)
        replay = _captured(work, calls, stream) if graph and work.graph else None
        if replay:
            better = calls_of(timed(replay, replay) / calls, seconds, work.sets, MAX_CAPTURED)
            if better > 2 * calls:  # launching took longer than running, so the first estimate was too high
                calls, replay = better, _captured(work, better, stream)
        launch = replay or (lambda: run(calls))
        warm = time.perf_counter() + WARM_S
        while timed(launch, replay) >= 0 and time.perf_counter() < warm:
            pass
        return Times(settle(lambda: timed(launch, replay) / calls, seconds), replay is not None)


def _captured(work: Work, calls: int, stream: Any) -> Callable[[], None] | None:
    """Capture ``calls`` calls in a CUDA graph, and return its replay; None if a graph cannot hold the operator."""
    import torch

    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            for index in range(calls):
                work.call(index % work.sets)
    except torch.cuda.OutOfMemoryError:
        raise
    except RuntimeError:
        torch.cuda.synchronize()  # raises if the GPU is lost
        return None
    replay: Callable[[], None] = graph.replay
    return replay

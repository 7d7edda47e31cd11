"""Repeated bursts of calls, timed by CUDA events or by the clock of the CPU, until their median stands still."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any, NamedTuple

import numpy as np

BURST_MS = 2.0  # a burst lasts about this long: events resolve half a microsecond
STEADY = 0.01  # half-width of the median's interval over the median, below which a time is known
FEWEST, MIN_REPEATS, MAX_REPEATS = 3, 7, 200  # when time is over, before a median counts as steady, ever
MAX_CAPTURED = 1024  # calls in one graph
WARM_S = 0.02  # an idle GPU takes about this long to raise its clock
NOISY = 0.03  # the median of a measurement is less sure than this
OUTLIER, MANY_OUTLIERS = 1.5, 0.05  # times the median; share of the repeats


@dataclass(frozen=True, slots=True)
class Work:
    """``call(i)`` does the operator on input set i of ``sets``; ``graph``: whether a CUDA graph can hold it."""

    call: Callable[[int], Any]
    sets: int = 1
    graph: bool = True


class Times(NamedTuple):
    """Milliseconds of one call, one figure per repeat; whether a CUDA graph was replayed."""

    ms: list[float]
    graph: bool


def interval(ms: Sequence[float]) -> float:
    """Half-width of the 95 % interval of the median over the median, from the quartiles."""
    low, middle, high = np.percentile(ms, (25, 50, 75))
    return float(1.57 * (high - low) / np.sqrt(len(ms)) / middle)


def judge(ms: Sequence[float]) -> list[str]:
    """``noisy`` where the median is not sure, ``outliers`` where many repeats lie far above it."""
    flags = ["noisy"] if len(ms) < FEWEST or interval(ms) > NOISY else []
    far = np.mean(np.asarray(ms) > OUTLIER * np.median(ms))
    return flags + (["outliers"] if far > MANY_OUTLIERS else [])


def settle(burst: Callable[[], float], seconds: float) -> list[float]:
    """Milliseconds of one call, a figure per burst, until the median is steady or ``seconds`` have passed.

    FEWEST bursts are waited for up to three times as long; one that is running ends.
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
    """Calls in a burst: BURST_MS of them or a round of all input sets, in whole rounds, as far as time allows."""
    longest = max(seconds * 1e3 / MIN_REPEATS, first_ms)
    wanted = int(min(max(BURST_MS, first_ms * sets), longest) / max(first_ms, 1e-6))
    calls = max(1, min(most, wanted))
    return calls // sets * sets if calls >= sets else calls


def in_turn(work: Work) -> Callable[[int], None]:
    """A function that calls the operator so many times, always on the next input set."""
    order = cycle(range(work.sets))

    def run(calls: int) -> None:
        for index in islice(order, calls):
            work.call(index)

    return run


def clocked(work: Work, seconds: float) -> Times:
    """On the CPU."""
    run = in_turn(work)

    def burst(calls: int) -> float:
        start = time.perf_counter()
        run(calls)
        return (time.perf_counter() - start) * 1e3 / calls

    run(2)  # allocations, and libraries that choose a kernel at the first call
    calls = calls_of(burst(1), seconds, 1, 10_000)
    return Times(settle(lambda: burst(calls), seconds), False)


def on_gpu(work: Work, device: str, seconds: float, graph: bool) -> Times:
    """By CUDA events, in a captured graph where ``graph`` and the operator allow it."""
    import torch

    torch.cuda.set_device(device)
    stream = torch.cuda.Stream(device)
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    run = in_turn(work)

    def timed(launch: Callable[[], None], first: Callable[[], None] | None = None) -> float:
        if first:  # keeps the GPU busy while the host starts what is timed
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
            if better > 2 * calls:  # the host took longer to start the first calls than the GPU to do them
                calls, replay = better, _captured(work, better, stream)
        launch = replay or (lambda: run(calls))
        warm = time.perf_counter() + WARM_S
        while timed(launch, replay) >= 0 and time.perf_counter() < warm:
            pass
        return Times(settle(lambda: timed(launch, replay) / calls, seconds), replay is not None)


def _captured(work: Work, calls: int, stream: Any) -> Callable[[], None] | None:
    """Replay of ``calls`` calls; None where the operator does what a graph cannot hold."""
    import torch

    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            for index in range(calls):
                work.call(index % work.sets)
    except torch.cuda.OutOfMemoryError:
        raise
    except RuntimeError:
        torch.cuda.synchronize()  # raises if more than the capture is broken
        return None
    replay: Callable[[], None] = graph.replay
    return replay

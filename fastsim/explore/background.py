"""What is simulated beside the answers, in a process of its own: other loads, and nearby deployments."""

import asyncio
import math
import os
import signal
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import suppress
from multiprocessing import get_context
from typing import Any, TypeVar

from fastsim.errors import InputError
from fastsim.explore.answer import Answers, spec_of
from fastsim.explore.process import end_with_parent, keep_memory
from fastsim.explore.question import Question
from fastsim.planning.load_curve import Curve
from fastsim.report.charts.second import busiest, second
from fastsim.report.page.page import Figure

T = TypeVar("T")
POINTS = 8
LEAST_REQUESTS = 2000  # of a run of a curve
MODELS = 24  # whose tables are built ahead
_answers = Answers(iterations=True, kept=2)  # of the process, to show one second after the other


class Background:
    """A process that works on the newest question alone: what was asked before and has not begun is left out."""

    def __init__(self) -> None:
        self._pool = ProcessPoolExecutor(1, get_context("spawn"), _stand_back)
        self._pending: list[Future[Any]] = []
        self._process: int | None = None  # its number, once it has begun

    def begin(self) -> None:
        """Start the process before there is work for it, since that takes longer than an answer."""
        self._pool.submit(_load).add_done_callback(self._begun)

    def _begun(self, number: "Future[int]") -> None:
        if not number.cancelled() and number.exception() is None:
            self._process = number.result()

    def pause(self) -> None:
        """Stop the process where it is, so that it takes nothing from an answer: neither core nor memory's speed."""
        self._send("SIGSTOP")

    def resume(self) -> None:
        """Let the process go on."""
        self._send("SIGCONT")

    def _send(self, name: str) -> None:
        if self._process is not None and (number := getattr(signal, name, None)) is not None:  # not on Windows
            with suppress(ProcessLookupError):
                os.kill(self._process, number)

    def forget(self) -> None:
        """Leave out all that has not begun."""
        for future in self._pending:
            future.cancel()
        self._pending.clear()

    async def do(self, work: Callable[..., T], *arguments: Any) -> T:
        """Do some work after what was asked before. Raises asyncio.CancelledError where it is left out."""
        future = self._pool.submit(work, *arguments)
        self._pending.append(future)
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """End the process."""
        self.resume()
        self._pool.shutdown(wait=False, cancel_futures=True)


def _stand_back() -> None:
    """Leave the cores to the answers, and Ctrl-C to the server, which ends this process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    keep_memory()
    end_with_parent()  # which may be killed while this one is stopped
    if hasattr(os, "nice"):
        os.nice(19)


def _load() -> int:
    """Import what the work needs; returns the number of this process."""
    import fastsim.planning.curve
    import fastsim.predictors.build  # noqa: F401

    return os.getpid()


def curve_of(question: Question) -> Curve | str:
    """The curve of latency and cost against load, or why there is none."""
    from fastsim.planning.curve import curve

    spec = spec_of(question.workload, (question.input_len, question.output_len))
    try:
        return curve(
            question.deployment,
            spec,
            question.objectives,
            users=True if question.users is not None else None,
            points=POINTS,
            num_requests=LEAST_REQUESTS,
            too_long=question.too_long,
            threads=1,
        )
    except InputError as problem:
        return str(problem)


def second_of(question: Question, begin: float | None) -> tuple[Figure, float]:
    """The batches of a second that begins then, or in which most requests wait, and its beginning, s."""
    result = _answers.of(question)
    last = result.summary["totals"]["span_s"]
    begin = busiest(result) if begin is None else min(max(0.0, begin), last)
    return second(result, begin), begin


def models_like(question: Question) -> list[str]:
    """The models in the catalog that are closest in size to the question's model, the closest first."""
    from fastsim.catalog.load import load_model, names

    def size(name: str) -> float:
        model = load_model(name)
        return math.log(model.num_layers * model.hidden_size**2)

    own = str(question.settings.get("model", ""))
    try:
        near = size(own)
    except InputError:
        return []
    others = sorted((abs(size(name) - near), name) for name in names("models") if name != own)
    return [name for _, name in others[:MODELS]]


def warm(question: Question) -> bool:
    """Build the tables of a question, so that its answer takes less time; whether they are built."""
    from fastsim.deployment.resolve import resolve
    from fastsim.predictors.build import build_cost, is_built

    try:
        resolved = resolve(question.deployment)
        if not is_built(resolved):
            build_cost(resolved)
    except InputError:
        return False
    return True

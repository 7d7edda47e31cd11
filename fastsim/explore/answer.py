"""Answers to questions: the results of `fastsim simulate`, to the bit."""

from collections import OrderedDict
from contextlib import suppress
from functools import lru_cache
from threading import Lock
from typing import Any

from fastsim.errors import ConfigError, InputError
from fastsim.explore.question import Question
from fastsim.result.result import Result
from fastsim.simulation.run import simulate
from fastsim.workload import Workload
from fastsim.workload.loading import load as load_workload

KEPT = 12  # answers that are remembered, so that undoing a change or opening another tab simulates nothing
RATE = 1.0  # requests/s of fixed lengths, of which no rate is given


class Answers:
    """Answers questions, and remembers the last of them.

    ``iterations``: whether the answers keep every batch.
    """

    def __init__(self, iterations: bool = False, kept: int = KEPT) -> None:
        self._iterations, self._most = iterations, kept
        self._known: OrderedDict[str, Result] = OrderedDict()
        self._lock = Lock()

    def of(self, question: Question) -> Result:
        """The answer to a question. Raises InputError for one that cannot be simulated."""
        key = question.key
        with self._lock:
            if key in self._known:
                self._known.move_to_end(key)
                return self._known[key]
        found = answer(question, iterations=self._iterations)
        with self._lock:
            self._known[key] = found
            while len(self._known) > self._most:
                self._known.popitem(last=False)
        return found


def answer(question: Question, iterations: bool = False) -> Result:
    """Simulate a question; ``iterations`` keeps every batch. Raises InputError for one that cannot be simulated."""
    deployment = question.deployment
    requests = requests_of(question, deployment.seed)
    return simulate(
        deployment, requests, objectives=question.objectives, iterations=iterations, too_long=question.too_long
    )


def requests_of(question: Question, seed: int) -> Workload:
    """The requests of a question, drawn with ``seed`` where they are drawn. Raises InputError."""
    lengths = (question.input_len, question.output_len)
    if question.rate is not None and question.users is not None:
        raise ConfigError(f"rate: {question.rate:g} and users: {question.users} exclude each other; give one of them")
    return _loaded(question.workload, lengths, question.rate, question.users, question.num_requests, seed)


def spec_of(workload: str, lengths: tuple[int | None, int | None]) -> Any:
    """What ``load_workload`` takes for a workload or for fixed lengths. Raises ConfigError."""
    if lengths == (None, None):
        return workload or "chat"
    if None in lengths:
        missing = "input_len" if lengths[0] is None else "output_len"
        raise ConfigError(f"{missing}: missing; input_len and output_len go together (e.g. {missing} 128)")
    fixed = {"kind": "fixed", "num_prompt_tokens": lengths[0], "num_output_tokens": lengths[1]}
    return {"lengths": fixed, "gaps": {"kind": "poisson", "rate": RATE}}


@lru_cache(maxsize=8)
def _loaded(
    workload: str,
    lengths: tuple[int | None, int | None],
    rate: float | None,
    users: int | None,
    num_requests: int,
    seed: int,
) -> Workload:
    return load_workload(spec_of(workload, lengths), rate=rate, users=users, num_requests=num_requests, seed=seed)


def load_forests(question: Question) -> None:
    """Load the forests that predict a question's operators, for this process to keep."""
    from fastsim.deployment.resolve import resolve
    from fastsim.predictors.build import operator_times

    with suppress(InputError):
        operator_times(resolve(question.deployment))

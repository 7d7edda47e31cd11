"""How the page begins: with a deployment and a workload, or with a link that it copied."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from fastsim.deployment.description import Deployment
from fastsim.deployment.schedulers import is_function
from fastsim.errors import ConfigError, InputError
from fastsim.explore.answer import requests_of
from fastsim.explore.question import Question

LINK = "http://"


def first_question(
    deployment: str | None,
    workload: str | None,
    overrides: Sequence[str] = (),
    *,
    objectives: Sequence[str] = (),
    **others: Any,
) -> Question:
    """The question that the page begins with.

    ``deployment`` is a file or a link; ``others`` are further fields of Question, of which those that are None are left
    out. Raises InputError.
    """
    given = {name: value for name, value in others.items() if value is not None}
    if objectives:
        given["objectives"] = tuple(objectives)
    if deployment is not None and deployment.startswith(LINK):
        if workload is not None or given or overrides:
            raise ConfigError("DEPLOYMENT: a link holds the whole question; give it alone")
        return Question.from_query(urlsplit(deployment).query)
    if {"input_len", "output_len"} & given.keys():
        if workload is not None:
            raise ConfigError(f"WORKLOAD: {workload!r} has lengths of its own; leave out it, or the lengths")
        workload = ""
    described = Deployment.load(deployment, overrides)
    question = Question.read(
        Question.of(described, workload="chat" if workload is None else workload, **given).as_dict()
    )
    requests_of(question, described.seed)
    return question


def guard(first: Question) -> Callable[[Question], None]:
    """A function that raises ConfigError for a question that runs Python code which ``first`` does not."""
    allowed = _functions(first)

    def check(question: Question) -> None:
        for name in _functions(question) - allowed:
            raise ConfigError(
                f"{name!r} is Python code, which a link or the page may not run; read the code, then start "
                "`fastsim explore` with its deployment and --policies"
            )

    return check


def _functions(question: Question) -> set[str]:
    """The Python functions that the deployment names, however its settings are written."""
    named = {question.settings.get(field) for field in ("scheduler.policy", "router.policy")}
    with suppress(InputError):  # one that is not valid runs nothing
        deployment = question.deployment
        named |= {deployment.scheduler.policy, deployment.router.policy}
    return {name for name in named if isinstance(name, str) and is_function(name)}

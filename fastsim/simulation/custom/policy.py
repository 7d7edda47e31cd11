"""A scheduling or routing function of a user's own: what names one, and where it is found."""

import importlib.util
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from fastsim.deployment.description import Deployment
from fastsim.deployment.schedulers import is_function
from fastsim.errors import PolicyError

Kind = Literal["scheduler", "router"]


PARAMETERS: dict[Kind, str] = {"scheduler": "(replica, chosen, tokens)", "router": "(replicas, request)"}


@dataclass(frozen=True, slots=True)
class UserPolicy:
    """A function that schedules or routes; it can still be called as it is."""

    function: Callable[..., Any]
    kind: Kind

    def __call__(self, *arguments: Any) -> Any:
        return self.function(*arguments)

    @property
    def name(self) -> str:
        return self.function.__name__

    @property
    def place(self) -> str:
        """How a deployment names it: file.py:function."""
        return f"{Path(self.function.__code__.co_filename).absolute().with_suffix('.py')}:{self.name}"


def policy(function: Callable[..., Any]) -> UserPolicy:
    """Mark a function as a scheduling policy or a router for ``simulate``.

    A function of three parameters, ``(replica, chosen, tokens)``, is a scheduling policy: it writes requests into
    ``chosen`` and their tokens into ``tokens``, and returns how many it has chosen. A function of two parameters,
    ``(replicas, request)``, is a router: it returns the number of a replica. ``help(fastsim.simulation.custom)`` says
    what each sees and may do.

    Parameters
    ----------
    function : callable
        A plain Python function. Numba compiles it when it is first used, and its machine code is kept on disk.

    Returns
    -------
    UserPolicy
        The function, which can still be called. Give it to ``simulate`` as ``scheduler`` or ``router``.

    Raises
    ------
    errors.PolicyError
        When it is not a function, or has neither two nor three parameters.

    Examples
    --------
    >>> @fastsim.policy
    ... def most_memory(replicas, request):
    ...     best = 0
    ...     for r in range(replicas.num_replicas):
    ...         if replicas.free_blocks[r] > replicas.free_blocks[best]:
    ...             best = r
    ...     return best
    >>> most_memory.kind
    'router'
    """
    if isinstance(function, UserPolicy):
        return function
    if not inspect.isfunction(function):
        raise PolicyError(f"policy: {function!r} is not a function (e.g. def mine{PARAMETERS['scheduler']})")
    parameters = inspect.signature(function).parameters.values()
    plain = all(p.kind is p.POSITIONAL_OR_KEYWORD and p.default is p.empty for p in parameters)
    kinds: dict[int, Kind] = {3: "scheduler", 2: "router"}
    if not plain or len(parameters) not in kinds:
        raise PolicyError(
            f"{function.__name__}: its parameters are {inspect.signature(function)} "
            f"(valid: {PARAMETERS['scheduler']} for a scheduler, {PARAMETERS['router']} for a router)"
        )
    return UserPolicy(function, kinds[len(parameters)])


def with_functions(
    deployment: Deployment, scheduler: Callable[..., Any] | None, router: Callable[..., Any] | None
) -> Deployment:
    """The deployment, in which the policies are named that are given as functions."""
    changed = {}
    for section, given in (("scheduler", scheduler), ("router", router)):
        if given is not None:
            named = {"policy": policy(given).place}
            changed[section] = getattr(deployment, section).model_copy(update=named)
    return deployment.model_copy(update=changed)


def attached(given: Callable[..., Any] | None, named: str, kind: Kind) -> UserPolicy | None:
    """The function to use as ``kind``: ``given``, else what ``named`` refers to, if that is file.py:function."""
    place: str = kind
    if given is not None:
        found = policy(given)
    elif is_function(named):
        file = Path(named.rpartition(":")[0])
        found = policy(_load(named, kind, file.stat().st_mtime_ns if file.is_file() else 0))
        place = f"{kind}.policy: {named}"
    else:
        return None
    if found.kind != kind:
        raise PolicyError(f"{place}: {found.name} is a {found.kind} (valid: a function of {PARAMETERS[kind]})")
    return found


@cache
def _load(named: str, kind: Kind, modified: int) -> Any:
    """The function of a file; ``modified`` says when the file was written."""
    file, _, name = named.rpartition(":")
    path = Path(file).absolute()
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise PolicyError(f"{kind}.policy: {file} does not exist (e.g. my_policies.py:shortest_first)")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise PolicyError(f"{kind}.policy: {file} cannot be run: {type(error).__name__}: {error}") from error
    if not hasattr(module, name):
        own = [
            key
            for key, value in vars(module).items()
            if isinstance(value, UserPolicy) or (inspect.isfunction(value) and value.__module__ == path.stem)
        ]
        raise PolicyError(f"{kind}.policy: {file} has no {name!r} (valid: {', '.join(own) or 'none'})")
    return getattr(module, name)

"""Scheduling and routing functions that a user writes: how a deployment names them, and how they are loaded."""

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
    """A function that schedules or routes. It can still be called like a plain function."""

    function: Callable[..., Any]
    kind: Kind

    def __call__(self, *arguments: Any) -> Any:
        """Call the function, interpreted."""
        return self.function(*arguments)

    @property
    def name(self) -> str:
        """The name of the function, with which messages begin."""
        return self.function.__name__

    @property
    def reference(self) -> str:
        """The ``file.py:function`` by which a deployment names the function; the file is an absolute path."""
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
    """Return the deployment with the policies replaced by those that are given as functions.

    Raises PolicyError for an object that is not a function with the parameters of a policy.
    """
    changed = {}
    for section, function in (("scheduler", scheduler), ("router", router)):
        if function is not None:
            fields = {"policy": policy(function).reference}
            changed[section] = getattr(deployment, section).model_copy(update=fields)
    return deployment.model_copy(update=changed)


def user_policy(function: Callable[..., Any] | None, name: str, kind: Kind) -> UserPolicy | None:
    """Return the user's function that schedules or routes, or None if the policy is one of fastsim's own.

    Parameters
    ----------
    function : callable or None
        The function, if the user gave it directly.
    name : str
        What the deployment names as its policy: ``file.py:function``, or a policy of fastsim's own.
    kind : "scheduler" or "router"
        What the function is for.

    Raises
    ------
    PolicyError
        The file cannot be loaded, or the function is of the other kind or of none.
    """
    field: str = kind
    if function is not None:
        loaded = policy(function)
    elif is_function(name):
        file = Path(name.rpartition(":")[0])
        loaded = policy(_load(name, kind, file.stat().st_mtime_ns if file.is_file() else 0))
        field = f"{kind}.policy: {name}"
    else:
        return None
    if loaded.kind != kind:
        raise PolicyError(f"{field}: {loaded.name} is a {loaded.kind} (valid: a function of {PARAMETERS[kind]})")
    return loaded


@cache
def _load(reference: str, kind: Kind, modified: int) -> Any:
    """Return the function that ``file.py:function`` refers to.

    ``modified``, when the file was last written, in ns, is part of the cache's key, so that an edited file is loaded
    again.
    """
    file, _, name = reference.rpartition(":")
    path = Path(file).absolute()
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise PolicyError(f"{kind}.policy: {file} does not exist (e.g. my_policies.py:shortest_first)")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise PolicyError(f"{kind}.policy: {file} cannot be run: {type(error).__name__}: {error}") from error
    if not hasattr(module, name):
        own = [
            key
            for key, value in vars(module).items()
            if isinstance(value, UserPolicy) or (inspect.isfunction(value) and value.__module__ == path.stem)
        ]
        raise PolicyError(f"{kind}.policy: {file} has no {name!r} (valid: {', '.join(own) or 'none'})")
    return getattr(module, name)

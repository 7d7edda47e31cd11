"""A module for each function of the user's: its source, what that refers to, and the loop around it.

Numba keeps the machine code of a module's functions on disk, and of no others. The module is named by the digest of
its text and stands beside the kernels' machine code, in a folder named by theirs.
"""

import ast
import hashlib
import importlib.util
import inspect
import math
import sys
import textwrap
from collections.abc import Callable
from threading import Lock
from types import FunctionType, ModuleType
from typing import Any

import numpy as np

from fastsim.errors import PolicyError
from fastsim.files.writing import atomic_file
from fastsim.kernels._jit import CACHE_FOLDER
from fastsim.simulation.custom.policy import UserPolicy

HEAD = '''"""Written by fastsim: {place}."""

from __future__ import annotations

from fastsim.files.writing import atomic_file
from fastsim.kernels._jit import kernel as _kernel
from fastsim.kernels.custom.view import users as _users
'''

SCHEDULER = """
from fastsim.kernels.replicas.route import next_turn as _next_turn
from fastsim.kernels.exits import Exit as _Exit
from fastsim.kernels.custom.scheduler import finish as _finish, ready as _ready, start as _start, view as _view


@_kernel
def _run(state, cost, limits, desk):
    while True:
        event = _next_turn(state, cost, limits, True, False)
        if event == _Exit.FORM:
            if not _ready(state, limits, desk):
                return _Exit.BUDGET
            number = {name}(_view(state, limits, desk), state.scratch[0], state.scratch[1])
            if _start(state, cost, limits, desk, number) == _Exit.FAULT:
                return _Exit.FAULT
        elif event != _Exit.ENDED:
            return event
        else:
            _finish(state, cost, desk)
"""

ROUTER = """
import math as _math

from fastsim.kernels.exits import Exit as _Exit
from fastsim.kernels.custom.router import (
    arrival as _arrival, due as _due, next_horizon as _next_horizon, send as _send, survey as _survey
)
from {module} import {run} as _advance


@_kernel
def _run(state, cost, limits, {desk}lobby):
    while True:
        code = _advance(state, cost, limits{passed})
        if code != _Exit.DONE or state.until[0] == _math.inf:
            return code
        while _due(state):
            replica = {name}(_survey(state, limits, lobby), _arrival(state, lobby))
            if not _send(state, lobby, replica):
                return _Exit.FAULT
        _next_horizon(state)
"""

MODULES = ("math", "numpy", "fastsim")
PREFIX = "fastsim_user_"  # of the names of all these modules

_importing = Lock()  # a module that is imported twice is compiled twice


def scheduler_module(policy: UserPolicy) -> ModuleType:
    """A module whose ``_run(state, cost, limits, desk)`` simulates with a scheduling function."""
    return _imported(_text(policy) + SCHEDULER.format(name=policy.name), policy)


def router_module(policy: UserPolicy, scheduler: ModuleType | str) -> ModuleType:
    """The same with a routing function, around the module of a scheduling function or of a policy of the kernels'.

    Its ``_run`` takes a lobby besides, and no desk when the policy is one of the kernels'.
    """
    if isinstance(scheduler, str):
        words = {"module": f"fastsim.kernels.schedulers.{scheduler}", "run": "advance", "desk": "", "passed": ""}
    else:
        words = {"module": scheduler.__name__, "run": "_run", "desk": "desk, ", "passed": ", desk"}
    return _imported(_text(policy) + ROUTER.format(name=policy.name, **words), policy)


def _text(policy: UserPolicy) -> str:
    lines: dict[str, str] = {}
    functions: dict[str, str] = {}
    _gather(policy.function, policy.name, lines, functions)
    return "\n".join([HEAD.format(place=policy.name), *lines.values(), "", *functions.values()])


def _gather(function: Callable[..., Any], name: str, lines: dict[str, str], functions: dict[str, str]) -> None:
    """Collect the source of a function and of all that it refers to: a line or a function by name."""
    try:
        source = textwrap.dedent(inspect.getsource(function))
        tree = next(node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef))
    except (OSError, StopIteration, SyntaxError):
        raise PolicyError(f"{name}: its source cannot be read (write it as a def in a file or notebook)") from None
    if tree.name != name:
        raise PolicyError(f"{name}: it is named {tree.name} where it is written (use one name for both)")
    functions[name] = ""  # it may refer to itself
    variables = inspect.getclosurevars(function)
    known = {**variables.globals, **variables.nonlocals}
    read = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    for word in sorted((read & known.keys()) - set(function.__code__.co_varnames)):
        _refer(name, word, known[word], lines, functions)
    body = source.splitlines()[tree.lineno - 1 :]
    del functions[name]
    functions[name] = "\n".join(["", "@_users", *body, ""])


def _refer(name: str, word: str, value: Any, lines: dict[str, str], functions: dict[str, str]) -> None:
    value = getattr(value, "py_func", value)
    value = value.function if isinstance(value, UserPolicy) else value
    value = value.item() if isinstance(value, np.generic) else value
    home = getattr(value, "__module__", None) or ""
    if isinstance(value, ModuleType) and value.__name__ in MODULES:
        line = f"import {value.__name__} as {word}"
    elif callable(value) and home.partition(".")[0] in MODULES:
        line = f"from {home} import {value.__name__} as {word}"
    elif isinstance(value, np.ufunc):
        line = f"from numpy import {value.__name__} as {word}"
    elif isinstance(value, FunctionType):
        if word not in functions:
            _gather(value, word, lines, functions)
        return
    elif _is_plain(value):
        line = f"{word} = {value!r}"
        if isinstance(value, float) and not math.isfinite(value):
            line = f"{word} = float({str(value)!r})"
    else:
        raise PolicyError(
            f"{name}: it refers to {word}, a {type(value).__name__} "
            f"(valid: numbers, tuples of numbers, functions, and the modules {', '.join(MODULES)})"
        )
    if lines.setdefault(word, line) != line:
        raise PolicyError(f"{name}: {word} is not the same in all its functions (use one name for one thing)")


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(_is_plain(part) for part in value)
    return isinstance(value, bool | int | float)


def _imported(text: str, policy: UserPolicy) -> ModuleType:
    name = f"{PREFIX}{policy.kind}_{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    with _importing:
        if name in sys.modules:
            return sys.modules[name]
        file = CACHE_FOLDER / "policies" / f"{name}.py"
        if not file.exists():
            with atomic_file(file) as part:
                part.write_text(text, encoding="utf-8")
        spec = importlib.util.spec_from_file_location(name, file)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        sys.modules[name] = module
        return module

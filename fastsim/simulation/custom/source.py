"""A module for each function that a user writes: its source, what the source refers to, and the loop around it.

Numba keeps machine code on disk only for functions of a module that is itself on disk. The module is named by the
digest of its text, and lies beside the kernels' machine code in the folder that is named by the digest of the kernels.
"""

import ast
import hashlib
import inspect
import math
import sys
import textwrap
from collections.abc import Callable
from contextlib import suppress
from threading import Lock
from types import FunctionType, ModuleType
from typing import Any

import numpy as np

from fastsim.errors import PolicyError
from fastsim.files.writing import atomic_file
from fastsim.kernels._folder import CACHE_FOLDER
from fastsim.kernels._limit import use
from fastsim.simulation.custom.policy import UserPolicy
from fastsim.simulation.custom.reads import reads_of

HEAD = '''"""Written by fastsim: {name}."""

from __future__ import annotations

from fastsim.kernels._jit import kernel as _kernel
from fastsim.kernels._pointed import pointed as _pointed
from fastsim.kernels.custom.view import users as _users
'''

SCHEDULER = """
from fastsim.kernels.replicas.pools import any_stages as _any_stages, cost_of as _cost_of, limits_of as _limits_of
from fastsim.kernels.replicas.route import next_event_of_any as _next_event
from fastsim.kernels.replicas.route import next_turn as _next_turn
from fastsim.kernels.state import REPLICA as _REPLICA
from fastsim.kernels.exits import Exit as _Exit
from fastsim.kernels.custom.queue import {refresh} as _refresh
from fastsim.kernels.custom.scheduler import replica_view as _replica_view
{imports}

@_kernel
def _run(state, costs, limits, _policy):
    state, costs, limits, _policy = _pointed(state), _pointed(costs), _pointed(limits), _pointed(_policy)
    while True:
        _event = _next_turn(state, costs, limits, _any_stages, _next_event, _quiet_until, True, False, False)
        _r = state.cursor[_REPLICA]
        if _event == _Exit.FORM:
            _own = _limits_of(state, limits, _r, _any_stages)
            if not _refresh(state, _own, _policy{keys}):
                return _Exit.BUDGET
            _view = _replica_view(state, _own, _policy)
            _number = {name}(_view, state.scratch[0], state.scratch[1])
            if _start(state, _cost_of(state, costs, _r), _own, _policy, _number{repeats}) == _Exit.FAULT:
                return _Exit.FAULT
        elif _event != _Exit.ENDED:
            return _event
        else:
            _end(state, _cost_of(state, costs, _r), {limits}_policy)
"""
STEPPING = """
from fastsim.kernels.replicas.route import quiet_until_of_any as _quiet_until
from fastsim.kernels.custom.scheduler import end_chosen as _end, start_chosen as _start
"""
# For a function that makes the same choice as long as the same requests decode.
LEAPING = """
from fastsim.kernels.custom.leaps import quiet_until_choice as _quiet_until
from fastsim.kernels.custom.leaps import end_leaping as _end, start_leaping as _start
"""

ROUTER = """
import math as _math

from fastsim.kernels.exits import Exit as _Exit
from fastsim.kernels.state import HORIZON as _HORIZON
from fastsim.kernels.custom.router import (
    arrival as _arrival, cluster_view as _cluster_view, route_to as _route_to
)
from fastsim.kernels.replicas.look import arrival_due as _arrival_due, next_horizon as _next_horizon
from {module} import {run} as _advance
{imports}

@_kernel
def _run(state, costs, limits, {policy}_router):
    _state, _costs, _limits, _routing = _pointed(state), _pointed(costs), _pointed(limits), _pointed(_router)
    while True:
        _code = _advance({arguments})
        if _code != _Exit.DONE or _state.moments[_HORIZON] == _math.inf:
            return _code
        while _arrival_due(_state):
            _replica = {name}(_cluster_view(_state, _limits, _routing), _arrival(_state, _routing))
            if not _route_to(_state, _routing, _replica):
                return _Exit.FAULT
        _next_horizon(_state)
"""

MODULES = ("math", "numpy", "fastsim")
PREFIX = "fastsim_user_"  # of the name of every such module

_importing = Lock()  # without it, two threads could import and compile the same module twice


def scheduler_module(policy: UserPolicy) -> ModuleType:
    """Return a module whose ``_run(state, costs, limits, policy)`` simulates with a scheduling function."""
    lines, functions = _gathered(policy)
    reads = reads_of(policy.name, functions, lines)
    if reads.sort is not None:  # the kernel keeps the queue in this order
        functions[policy.name] = _without(functions[policy.name], reads.sort)
    words = {
        "name": policy.name,
        "refresh": "refresh_ordered" if reads.order else "refresh_queue",
        "keys": f", _policy.{reads.order}" if reads.order else "",
    }
    if reads.steady:
        same = ["_view.num_joined == 0"] * reads.num_joined + ["_view.waiting.size < 2"] * reads.sorts
        words |= {"imports": LEAPING, "limits": "_limits_of(state, limits, _r, _any_stages), "}
        words["repeats"] = f", {' and '.join(same) or 'True'}, {reads.free_blocks}"
    else:
        words |= {"imports": STEPPING, "limits": "", "repeats": ""}
    return _imported(_text(policy, lines, functions) + SCHEDULER.format(**words), policy)


def router_module(policy: UserPolicy, scheduler: ModuleType | str, num_stages: int) -> ModuleType:
    """Return a module whose ``_run`` simulates with a routing function.

    ``scheduler`` is the module of a scheduling function, and ``_run`` takes ``(state, costs, limits, policy, router)``;
    or it is the name of a policy of fastsim's own, and ``_run`` takes ``(state, costs, limits, router)``, for replicas
    with ``num_stages`` pipeline stages.
    """
    if isinstance(scheduler, str):
        stages = "one_stage" if num_stages == 1 else "pipeline"
        words = {
            "module": f"fastsim.kernels.schedulers.{scheduler}",
            "run": "advance",
            "policy": "",
            "arguments": "_state, _costs, _limits, _stages",
            "imports": f"from fastsim.kernels.replicas.pools import {stages} as _stages\n",
        }
    else:
        words = {"module": scheduler.__name__, "run": "_run", "policy": "_policy, ", "imports": ""}
        words["arguments"] = "state, costs, limits, _policy"
    return _imported(_text(policy, *_gathered(policy)) + ROUTER.format(name=policy.name, **words), policy)


def _gathered(policy: UserPolicy) -> tuple[dict[str, str], dict[str, str]]:
    """Return the imports and assignments that a policy's function needs, and the source of all functions, by name."""
    lines: dict[str, str] = {}
    functions: dict[str, str] = {}
    _gather(policy.function, policy.name, lines, functions)
    return lines, functions


def _text(policy: UserPolicy, lines: dict[str, str], functions: dict[str, str]) -> str:
    """Return the source of a policy's function and of all that it refers to."""
    return "\n".join([HEAD.format(name=policy.name), *lines.values(), "", *functions.values()])


def _without(source: str, statement: ast.Expr) -> str:
    """Return the source of a function in which a statement does nothing."""
    lines = source.encode().splitlines(keepends=True)
    first, last = statement.lineno - 1, (statement.end_lineno or statement.lineno) - 1
    before, after = lines[first][: statement.col_offset], lines[last][statement.end_col_offset :]
    return b"".join([*lines[:first], before, b"pass", after, *lines[last + 1 :]]).decode()


def _gather(function: Callable[..., Any], name: str, lines: dict[str, str], functions: dict[str, str]) -> None:
    """Collect the source of a function, and of all that it refers to, into ``lines`` and ``functions`` by name.

    ``lines`` holds imports and assignments of numbers, and ``functions`` whole functions, each after those it calls.
    """
    try:
        source = textwrap.dedent(inspect.getsource(function))
        tree = next(node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef))
    except (OSError, StopIteration, SyntaxError):
        raise PolicyError(f"{name}: its source cannot be read (write it as a def in a file or notebook)") from None
    if tree.name != name:
        raise PolicyError(f"{name}: its def names it {tree.name} (use the same name for both)")
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
    """Collect what ``word`` stands for in the function ``name``: a module, a function or numbers."""
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
        raise PolicyError(
            f"{name}: {word} stands for different things in the functions that it calls (use different names)"
        )


def _is_plain(value: Any) -> bool:
    """Return whether a value is a number, or a tuple of numbers and such tuples."""
    if isinstance(value, tuple):
        return all(_is_plain(item) for item in value)
    return isinstance(value, bool | int | float)


def _imported(text: str, policy: UserPolicy) -> ModuleType:
    """Return the module with this text, which is written to disk unless it is there already."""
    name = f"{PREFIX}{policy.kind}_{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    with _importing:
        if name in sys.modules:
            return sys.modules[name]
        file = CACHE_FOLDER / "policies" / f"{name}.py"
        if file.exists():
            use(file)
        else:
            with suppress(OSError), atomic_file(file) as written:
                written.write_text(text, encoding="utf-8")
        module = ModuleType(name)
        module.__file__ = str(file)
        exec(compile(text, file, "exec"), vars(module))  # also where it cannot be written
        sys.modules[name] = module
        return module

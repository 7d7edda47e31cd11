"""Kernels as the shell calls them: from machine code that is kept, and as Numba compiles them where none is."""

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from importlib import import_module
from typing import Any

import numpy as np

from ._folder import folders, load, save
from ._machine_code import NotKept, Run, code_of, flatten, machine, run_of

MAGIC = b"fastsim machine code 2\n"
DEBUGGING = ("NUMBA_DISABLE_JIT", "NUMBA_BOUNDSCHECK")


class Entry:
    """The kernel of a scheduling policy: ``entry(state, costs, limits)``, which returns why it stopped.

    Attributes
    ----------
    num_compiled : for how many types of arguments this process had to compile it.
    """

    def __init__(self, policy: str, name: str) -> None:
        """``policy``: a module of kernels.schedulers; ``name``: of a function in it."""
        self.policy, self.name, self.num_compiled = policy, name, 0
        self._runs: dict[tuple[str, ...], Run | None] = {}
        self._function: Any = None  # as Numba has it, once it is needed

    def __reduce__(self) -> tuple[Any, ...]:
        return entry, (self.policy, self.name)

    def __call__(self, *arguments: Any) -> int:
        call = self.bound(*arguments)
        return call() if call else self._by_numba(arguments)

    def bound(self, *arguments: Any, last: Callable[[], int] | None = None) -> Callable[[], int] | None:
        """A call of kept code with these arguments, to be made any number of times; None where Numba makes it.

        The arrays must stay in place until then. ``last``: a call of this entry, which is returned if it has the same
        arguments.
        """
        if self._function is not None or _debugs():
            return None
        if last is not None and _same(vars(last).get("arguments"), arguments):
            return last
        words: list[int] = [0]
        types: list[str] = []
        try:
            flatten(arguments, words, types)
        except NotKept:
            return None
        key = tuple(types)
        if key not in self._runs:
            self._runs[key] = self._kept(key)
        run = self._runs[key]
        if run is None:
            return None
        call = partial(run, np.array(words, np.int64))
        vars(call)["arguments"] = arguments  # whose arrays are in use as long as the call may be made
        return call

    def _file(self, types: tuple[str, ...]) -> str:
        digest = hashlib.sha256(repr((machine(), types)).encode()).hexdigest()[:32]
        return f"{self.name}-{digest}.code"

    def _kept(self, types: tuple[str, ...]) -> Run | None:
        for folder in folders(f"schedulers/{self.policy}"):
            run: Run | None = load(folder / self._file(types), MAGIC, run_of)
            if run:
                return run
        return None

    def _by_numba(self, arguments: tuple[Any, ...]) -> int:
        """Run as Numba compiles it, and keep what it compiled."""
        if self._function is None:
            self._function = getattr(import_module(f".schedulers.{self.policy}", __package__), self.name)
        function = self._function
        if _debugs():
            return int(function(*arguments))
        known, before = len(function.overloads), sum(function.stats.cache_misses.values())
        answer = int(function(*arguments))
        if len(function.overloads) > known:
            self.num_compiled += sum(function.stats.cache_misses.values()) > before
            self._keep(list(function.overloads.values())[-1], arguments)
        return answer

    def _keep(self, compiled: Any, arguments: tuple[Any, ...]) -> None:
        words: list[int] = []
        types: list[str] = []
        with suppress(NotKept):
            flatten(arguments, words, types)
            code = code_of(compiled, len(words))
            folder = folders(f"schedulers/{self.policy}")[0]
            save(folder / self._file(tuple(types)), MAGIC, code, f"{self.name}-code.")


def _same(one: Any, other: Any) -> bool:
    """Whether arguments are the same arrays and equal numbers, in the same tuples."""
    if isinstance(one, tuple) and isinstance(other, tuple):
        return one is other or (len(one) == len(other) and all(map(_same, one, other)))
    return one is other or (not isinstance(one, np.ndarray) and type(one) is type(other) and bool(one == other))


def _debugs() -> bool:
    """Whether kernels are interpreted or check indices: such kernels raise exceptions, which kept code cannot."""
    return any((os.environ.get(name) or "0") != "0" for name in DEBUGGING)


@cache
def entry(policy: str, name: str) -> Entry:
    """The same entry whenever it is asked for, so that code is loaded once."""
    return Entry(policy, name)

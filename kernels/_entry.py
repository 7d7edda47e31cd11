"""Kernels as the shell calls them: from machine code that is kept, and as Numba compiles them where none is."""

import hashlib
import os
from contextlib import suppress
from functools import cache
from importlib import import_module
from typing import Any

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
        # Interpreted code, and code that checks indices, raises exceptions.
        self._by_numba = any((os.environ.get(name) or "0") != "0" for name in DEBUGGING)

    def __reduce__(self) -> tuple[Any, ...]:
        return entry, (self.policy, self.name)

    def __call__(self, *arguments: Any) -> int:
        if self._by_numba:
            return int(self._function()(*arguments))
        words: list[int] = []
        types: list[str] = []
        try:
            flatten(arguments, words, types)
        except NotKept:
            return int(self._function()(*arguments))
        key = tuple(types)
        if key not in self._runs:
            self._runs[key] = self._kept(key)
        run = self._runs[key]
        return run(words) if run else self._compiled(arguments, key, len(words))

    def _function(self) -> Any:
        return getattr(import_module(f".schedulers.{self.policy}", __package__), self.name)

    def _file(self, types: tuple[str, ...]) -> str:
        digest = hashlib.sha256(repr((machine(), types)).encode()).hexdigest()[:32]
        return f"{self.name}-{digest}.code"

    def _kept(self, types: tuple[str, ...]) -> Run | None:
        for folder in folders(f"schedulers/{self.policy}"):
            run: Run | None = load(folder / self._file(types), MAGIC, run_of)
            if run:
                return run
        return None

    def _compiled(self, arguments: tuple[Any, ...], types: tuple[str, ...], number: int) -> int:
        """Run as Numba compiles it, and keep what it compiled."""
        function = self._function()
        known, before = len(function.overloads), sum(function.stats.cache_misses.values())
        answer = int(function(*arguments))
        self.num_compiled += sum(function.stats.cache_misses.values()) > before
        if len(function.overloads) > known:
            with suppress(NotKept):
                code = code_of(list(function.overloads.values())[-1], number)
                save(folders(f"schedulers/{self.policy}")[0] / self._file(types), MAGIC, code, f"{self.name}-code.")
        return answer


@cache
def entry(policy: str, name: str) -> Entry:
    """The same entry whenever it is asked for, so that code is loaded once."""
    return Entry(policy, name)

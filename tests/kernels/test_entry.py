"""Kernels run from kept machine code as Numba runs them, and never run the wrong code."""

import os
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastsim
from fastsim.deployment.description import Deployment
from fastsim.deployment.resolve import resolve
from fastsim.deployment.schedulers import POLICIES
from fastsim.kernels import _entry, _machine_code
from fastsim.kernels._machine_code import NotKept, code_of, flatten

ROOT = Path(__file__).resolve().parents[2]
run_module: Any = import_module("fastsim.simulation.run")
INTERPRETED = (os.environ.get("NUMBA_DISABLE_JIT") or "0") != "0"
TOY = '''
import sys, warnings
warnings.simplefilter("always")
from typing import NamedTuple
import numpy as np
from fastsim.kernels import _entry

class Nested(NamedTuple):
    reals: np.ndarray
    flags: np.ndarray
    number: int

def module(text):
    """Compile on demand: a stand-in for a module of kernels.schedulers."""
    from types import SimpleNamespace
    from fastsim.kernels import _cache
    from fastsim.kernels._jit import kernel

    _cache.SILENT_S = 60.0  # a busy machine may take longer than a second

    @kernel
    def run(state, scale, whole, late):
        state[0].reals[0] += scale * state[0].number
        state[0].flags[1, 0] = late
        total = state[0].flags.size
        for i in range(state[1].size):
            state[1][i] += whole
            total += state[1][i]
        return total

    return SimpleNamespace(run=run)

_entry.import_module = lambda *_: module(None)
run = _entry.Entry("toy", "run")
kinds = {"short": [np.int32], "both": [np.int64, np.int32]}.get(sys.argv[-1], [np.int64])
answers = []
for first, scale in [(first, scale) for first in kinds for scale in (0.5, 2.0)]:
    nested = Nested(np.ones(3), np.zeros((2, 2), bool), 7)
    counts = np.arange(5, dtype=first)
    answers += [run((nested, counts), scale, 3, True), float(nested.reals[0]), bool(nested.flags[1, 0]), int(counts[4])]
print(answers, run.num_compiled, "numba" in sys.modules)
'''
ANSWER = "[29, 4.5, True, 7, 29, 15.0, True, 7]"


class Toy:
    def __init__(self, folder: Path) -> None:
        self.script, self.cache = folder / "toy.py", folder / "cache"
        self.script.write_text(TOY)

    def run(self, *arguments: str) -> tuple[str, str]:
        env = {**os.environ, "FASTSIM_CACHE_DIR": str(self.cache), "PYTHONPATH": str(ROOT)}
        command = [sys.executable, str(self.script), *arguments]
        done = subprocess.run(command, text=True, capture_output=True, env=env)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip(), done.stderr

    def files(self) -> list[Path]:
        return sorted(self.cache.rglob("*.code"))


pytestmark = pytest.mark.skipif(INTERPRETED, reason="kernels are interpreted")


def test_kept_code_gives_the_same_answers_without_numba(tmp_path: Path) -> None:
    toy = Toy(tmp_path)
    assert toy.run() == (f"{ANSWER} 1 True", "")
    assert toy.run() == (f"{ANSWER} 0 False", "")
    assert toy.run("short") == (f"{ANSWER} 1 True", "")  # other types are other code
    assert toy.run("short") == (f"{ANSWER} 0 False", "") and len(toy.files()) == 2
    assert toy.run() == (f"{ANSWER} 0 False", "")


@pytest.mark.parametrize(
    "settings", [[f"scheduler.policy={name}"] for name in POLICIES] + [["pipeline_parallel_size=2"]], ids=str
)
def test_kept_kernels_equal_those_of_numba(settings: list[str]) -> None:
    deployment = Deployment.load(None, settings)
    workload = fastsim.load_workload("chat", num_requests=300, rate=30)
    first = fastsim.simulate(deployment, workload, iterations=True)  # by Numba, unless the code is kept already
    _entry.entry.cache_clear()
    again = fastsim.simulate(deployment, workload, iterations=True)
    policy = resolve(deployment).scheduler.policy.name
    stages = "run_stages" if "pipeline_parallel_size=2" in settings else "run"
    loaded = _entry.entry(policy, stages)
    assert loaded._runs and all(loaded._runs.values()) and not loaded.num_compiled
    by_numba = getattr(import_module(f"fastsim.kernels.schedulers.{policy}"), stages)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(run_module, "kernel_of", lambda *_: by_numba)
        compiled = fastsim.simulate(deployment, workload, iterations=True)
    for other in (again, compiled):
        assert other.requests.equals(first.requests) and other.iterations == first.iterations


def test_kept_code_leaves_numba_what_its_own_code_refers_to(tmp_path: Path) -> None:
    toy = Toy(tmp_path)
    toy.run()
    answer = f"[{ANSWER[1:-1]}, {ANSWER[1:-1]}]"
    assert toy.run("both") == (f"{answer} 1 True", "") and toy.run("both") == (f"{answer} 0 False", "")


def emptied(content: bytes) -> bytes:
    return b""


def truncated(content: bytes) -> bytes:
    return content[:-100]


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize("damage", [emptied, truncated, flipped], ids=lambda one: one.__name__)
def test_damaged_code_is_not_run(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    toy = Toy(tmp_path)
    toy.run()
    (path,) = toy.files()
    path.write_bytes(damage(path.read_bytes()))
    answer, said = toy.run()
    assert answer == f"{ANSWER} 0 True" and str(path) in said and said.count("UserWarning") == 1
    assert toy.run() == (f"{ANSWER} 0 False", "")  # it has been kept again


@pytest.mark.parametrize(
    "value", [np.ones((3, 3))[:, 1], np.ones(3, ">f8"), np.array(["a"]), "a", None, {}], ids=lambda one: str(type(one))
)
def test_what_words_cannot_say_is_left_to_numba(value: Any) -> None:
    with pytest.raises(NotKept):
        flatten((1, value), [], [])


def words_of(*arguments: Any) -> list[int]:
    words: list[int] = []
    flatten(arguments, words, [])
    return words


def test_words_are_those_of_the_array_that_is_there_now() -> None:
    for number in range(3000):  # most of them have the id of one before
        array = np.zeros(number % 7 + 1, np.int32)
        assert words_of(array) == [0, 0, array.size, 4, array.ctypes.data, array.size, 4] == words_of(array)


def test_a_call_is_made_again_only_with_the_same_arrays_and_numbers() -> None:
    array = np.ones(3)
    given: tuple[Any, ...] = ((array, 1, 2.0), (3,))
    assert _entry._same(given, ((array, 1, 2.0), (3,)))
    for other in ((array.copy(), 1, 2.0), (array, 1.0, 2.0), (array, 1, 2.5), (array, 1)):
        assert not _entry._same(given, (other, (3,)))
    assert not _entry._same(None, given)


def test_code_that_refers_to_what_is_not_there_is_not_run() -> None:
    with pytest.raises(NotKept, match="no_such_name"):
        _machine_code._provide(["no_such_name"])


def test_functions_that_do_not_answer_with_a_number_are_left_to_numba() -> None:
    from fastsim.kernels._jit import kernel

    @kernel
    def half(value: float) -> float:
        return value / 2

    assert half(3.0) == 1.5
    with pytest.raises(NotKept, match="half"):
        code_of(next(iter(half.overloads.values())), 1)  # type: ignore[attr-defined]

"""The docstrings of public names: every parameter is documented, and every example gives the output it shows."""

import doctest
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import fastsim

NAMES = [name for name in fastsim.__all__ if name != "__version__"]
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def methods(name: str) -> Iterator[tuple[str, Callable[..., Any]]]:
    """The public function of this name, or the methods that the public class of this name defines."""
    value = getattr(fastsim, name)
    if not inspect.isclass(value):
        yield name, value
        return
    for each in vars(value):
        found = inspect.getattr_static(value, each)
        if not each.startswith("_") and (inspect.isfunction(found) or isinstance(found, classmethod)):
            yield f"{name}.{each}", getattr(value, each)


def documented(text: str, *sections: str) -> set[str]:
    """The names that the numpydoc sections of a docstring list, as ``a, b : type``."""
    found: set[str] = set()
    for section in sections:
        match = re.search(rf"^{section}\n-+\n(.*?)(?=^\S[^\n]*\n-+\n|\Z)", text, re.MULTILINE | re.DOTALL)
        entries = re.findall(r"^(\w+(?:, \w+)*)(?: : |$)", match[1], re.MULTILINE) if match else []
        found |= {name for entry in entries for name in entry.split(", ")}
    return found


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_is_documented(name: str) -> None:
    for called, function in methods(name):
        parameters = set(inspect.signature(function).parameters) - {"self"}
        assert documented(inspect.getdoc(function) or "", "Parameters") == parameters, called


@pytest.mark.parametrize("name", [name for name in NAMES if inspect.isclass(getattr(fastsim, name))])
def test_every_field_is_documented(name: str) -> None:
    kind = getattr(fastsim, name)
    text = inspect.getdoc(kind) or ""
    assert documented(text, "Parameters", "Attributes") == set(kind.__annotations__)


@pytest.mark.parametrize("name", NAMES)
def test_examples_give_what_they_show(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    value = getattr(fastsim, name)
    found = doctest.DocTestFinder().find(value, name, globs={"fastsim": fastsim})
    assert any(test.name == name and test.examples for test in found), f"{name} has no example"
    said: list[str] = []
    for test in found:
        doctest.DocTestRunner(optionflags=OPTIONS).run(test, out=said.append)
    assert not said, "".join(said)


def test_the_sections_of_a_docstring_are_read() -> None:
    text = "Do it.\n\nParameters\n----------\na, b : int\n    Two.\nc\n    One.\n\nReturns\n-------\nint\n    Sum.\n"
    assert documented(text, "Parameters") == {"a", "b", "c"}
    assert documented(text, "Attributes") == set()

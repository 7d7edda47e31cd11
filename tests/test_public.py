"""What users build on: public names, commands and their options, files and columns. All of it is in public.txt.

After a change that is meant, write public.txt again: ``FASTSIM_UPDATE_PUBLIC=1 python -m pytest tests/test_public.py``.
"""

import difflib
import inspect
import json
import os
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from pydantic import BaseModel

import fastsim
from fastsim.cli import cli
from fastsim.result.metrics.definitions import STATISTICS

PINNED = Path(__file__).with_name("public.txt")
UPDATE = "FASTSIM_UPDATE_PUBLIC"
SPACE = "axes: {scheduler.max_num_seqs: [64, 128]}\nworkload: {source: chat, rate: 3, num_requests: 200}\n"


def names() -> Iterator[str]:
    """A line per public function, and a line per public class with its attributes below."""
    for name in fastsim.__all__:
        value = getattr(fastsim, name)
        if inspect.isclass(value):
            yield f"class {name}"
            yield from indented(sorted(set(attributes(value))))
        elif callable(value):
            yield name + signature(value)
        else:
            yield name


def attributes(kind: type) -> Iterator[str]:
    """Fields, and the methods that the class itself defines."""
    yield from kind.model_fields if issubclass(kind, BaseModel) else getattr(kind, "__dataclass_fields__", ())
    for name, value in vars(kind).items():
        if name.startswith("_") or name == "model_config":
            continue
        if isinstance(value, classmethod | staticmethod):
            value = getattr(kind, name)
        if callable(value):
            yield name + signature(value)
        elif hasattr(value, "__get__"):
            yield name


def signature(function: Any) -> str:
    """The parameters with their defaults; annotations are left to mypy."""
    parameters = inspect.signature(function).parameters.values()
    bare = [one.replace(annotation=inspect.Parameter.empty) for one in parameters if one.name != "self"]
    return str(inspect.Signature(bare))


def commands(command: click.Command, called: str) -> Iterator[str]:
    """A line per command with its arguments, and a line per option below; then the commands of a group."""
    arguments = [one for one in command.params if isinstance(one, click.Argument)]
    yield " ".join([called, *(argument(one) for one in arguments)])
    for one in command.params:
        if isinstance(one, click.Option):
            yield f"  {option(one)}"
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from commands(below, f"{called} {name}")


def argument(one: click.Argument) -> str:
    text = (one.name or "").upper() + ("..." if one.nargs == -1 else "") + default(one)
    return text if one.required else f"[{text}]"


def option(one: click.Option) -> str:
    notes = [", repeatable"] * one.multiple + [", required"] * one.required
    return ", ".join(one.opts) + ("" if one.is_flag else f" {kind(one.type)}{default(one)}") + "".join(notes)


def kind(value: Any) -> str:
    """What an option takes, in words of our own: those of click differ between its versions."""
    match value:
        case click.Choice():
            return "|".join(map(str, value.choices))
        case click.IntRange() | click.FloatRange():
            whole = "INTEGER" if isinstance(value, click.IntRange) else "NUMBER"
            return f"{whole} {'' if value.min is None else value.min}..{'' if value.max is None else value.max}"
        case click.Path():
            return "PATH"
    return {click.INT: "INTEGER", click.FLOAT: "NUMBER", click.STRING: "TEXT"}[value]


def default(one: click.Parameter) -> str:
    return f" = {one.default}" if isinstance(one.default, str | int | float | list | tuple) else ""


def files(folder: Path) -> Iterator[str]:
    """A line per file, with the columns of a table and the keys of a JSON file below."""
    for path in sorted(folder.iterdir()):
        if path.name.endswith(".lock") or (path.match("part-*") and path.name != "part-00000.parquet"):
            continue  # a sweep writes as many parts as its time takes
        yield path.name
        if path.suffix == ".parquet":
            schema = pq.read_schema(path)
            yield from wrapped(f"{name}:{kind}" for name, kind in zip(schema.names, schema.types, strict=True))
        elif path.suffix == ".csv":
            yield from wrapped(path.read_text().partition("\n")[0].replace('"', "").split(","))
        elif path.suffix == ".json":
            yield from wrapped(json.loads(path.read_text()))


def wrapped(words: Iterable[str]) -> Iterator[str]:
    """The words in order, in lines; the statistics of a distribution become one word."""
    words, short = list(words), []
    stems = Counter(map(distribution, words))
    whole = {stem for stem, count in stems.items() if stem and count == len(STATISTICS)}
    for word in words:
        stem = distribution(word)
        word = f"{stem}.*:{word.partition(':')[2]}" if stem in whole else word
        if word not in short:
            short.append(word)
    text = ", ".join(short)
    yield from indented(textwrap.wrap(text, 116, break_long_words=False, break_on_hyphens=False))


def distribution(word: str) -> str:
    """``latency.ttft`` of ``latency.ttft.p99:double``; empty where the word is no statistic of a distribution."""
    stem, _, last = word.partition(":")[0].rpartition(".")
    return stem if last in STATISTICS else ""


def indented(lines: Iterable[str]) -> Iterator[str]:
    return (f"  {line}" for line in lines)


def run(*arguments: str) -> None:
    done = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folders that simulate, sweep and search write, each with all that can be in it."""
    folder = tmp_path_factory.mktemp("public")
    (folder / "space.yaml").write_text(SPACE)
    space = str(folder / "space.yaml")
    asked = ["--requests", "300", "--iterations", "--csv", "--replicates", "2", "--exclude", "5s,5s"]
    run("simulate", *asked, "--slo", "ttft:p90<2s", "--out", str(folder / "simulate"))
    run("sweep", space, "--out", str(folder / "sweep"))
    run("search", space, "--requests", "300", "--rate", "3", "--out", str(folder / "search"))
    return folder


def lines(written: Path) -> Iterator[str]:
    yield "# Names of the package"
    yield from names()
    yield "\n# Commands"
    yield from commands(cli, "fastsim")
    for name in ("simulate", "sweep", "search"):
        yield f"\n# Files of fastsim {name} --out"
        yield from files(written / name)
    yield "\n# Statistics of a distribution, where a name ends in .*"
    yield f"  {', '.join(STATISTICS)}"


def test_public_names_commands_files_and_columns_are_those_of_public_txt(written: Path) -> None:
    found = "\n".join(lines(written)) + "\n"
    if os.environ.get(UPDATE):
        PINNED.write_text(found)
    pinned = PINNED.read_text()
    change = "\n".join(difflib.unified_diff(pinned.splitlines(), found.splitlines(), "public.txt", "now", lineterm=""))
    assert found == pinned, (
        f"what users build on has changed:\n{change}\n"
        f"If that is meant, run {UPDATE}=1 python -m pytest tests/test_public.py, and commit public.txt."
    )

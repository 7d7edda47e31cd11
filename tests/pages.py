"""Pages of Markdown whose blocks run: files are written, commands and Python run in order, outputs are compared.

A block of YAML or Python that begins with ``# NAME`` is a file. A block without a language is what the commands before
it print. The comment ``<!-- not run: why -->`` before a block, or the language ``text``, leaves it out.
"""

import math
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

BLOCK = re.compile(
    r"(?P<skip><!-- not run: [^\n]+ -->\n)?^```(?P<kind>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
NAME = re.compile(r"# ([\w.-]+\.(?:yaml|py))\n")
LAST_DIGITS = 0.02  # by so much figures may differ
NUMBER = r"[\d,]*\.?\d+"
# How long something took differs from run to run.
TOOK = re.compile(r"(?<=\bin )\d[\d.,]* (?:ms|s|min)\b")


class Block(NamedTuple):
    """A block of a page: its language, what it holds, where it begins and ends in the page, and its line."""

    kind: str
    text: str
    span: tuple[int, int]
    line: int


def blocks(page: str) -> Iterator[Block]:
    """The blocks that are run, in order."""
    for found in BLOCK.finditer(page):
        if not found["skip"] and found["kind"] != "text":
            line = page.count("\n", 0, found.start("text")) + 1
            yield Block(found["kind"], found["text"], found.span("text"), line)


def run(page: str, folder: Path) -> Iterator[tuple[Block, str]]:
    """Run a page in an empty folder. Yields each block of output with what the commands before it printed."""
    printed = ""
    for block in blocks(page):
        name = NAME.match(block.text)
        if block.kind == "":
            yield block, printed
        elif name:
            (folder / name[1]).write_text(block.text)
        elif block.kind == "sh":
            printed = _output(["bash", "-euo", "pipefail", "-c", block.text], folder, block)
        elif block.kind == "python":
            printed = _output([sys.executable, "-c", block.text], folder, block)


def _output(command: list[str], folder: Path, block: Block) -> str:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(folder), "COLUMNS": "120"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, f"line {block.line}: {block.text}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


def same(shown: str, printed: str) -> bool:
    """Whether an output is the one shown, save for how long things took, and for last digits.

    Machine code of another CPU may round otherwise, and a queue that is nearly overloaded makes more of that.
    """
    one, other = (TOOK.sub("…", text).split() for text in (shown, printed))
    return len(one) == len(other) and all(map(_alike, one, other))


def _alike(shown: str, printed: str) -> bool:
    numbers = [re.findall(NUMBER, text) for text in (shown, printed)]
    if len(numbers[0]) != len(numbers[1]) or re.sub(NUMBER, "", shown) != re.sub(NUMBER, "", printed):
        return False
    pairs = ((float(text.replace(",", "")) for text in found) for found in numbers)
    return all(math.isclose(a, b, rel_tol=LAST_DIGITS) for a, b in zip(*pairs, strict=True))

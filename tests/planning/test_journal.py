"""The journal keeps what was added before a kill, lets one process write at a time, and refuses what it cannot read."""

import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from fastsim.errors import InputError, OutputError
from fastsim.planning.journal import FILE, Journal

ROOT = Path(__file__).resolve().parents[2]
ABOUT = {"version": "1", "requests": [1000, 2000]}
WRITER = """
import sys
from pathlib import Path
from fastsim.errors import OutputError
from fastsim.planning.journal import Journal

folder, most = Path(sys.argv[1]), int(sys.argv[2])
sys.stdin.readline()
try:
    journal = Journal(folder, {"version": "1", "requests": [1000, 2000]})
except OutputError as problem:
    print(problem, flush=True)
    sys.exit()
number = len(journal.known)
print("open", flush=True)
while number < most:
    journal.add(str(number), {"rate": number / 7, "error": None})
    print(number, flush=True)
    number += 1
sys.stdin.readline()
journal.close()
"""


def opened(folder: Path) -> dict[str, object]:
    journal = Journal(folder, ABOUT)
    journal.close()
    return journal.known


@contextmanager
def writer(folder: Path, most: int) -> Iterator[subprocess.Popen[str]]:
    """A process that opens the journal after a line on its standard input, adds outcomes, and waits for another."""
    command = [sys.executable, "-c", WRITER, str(folder), str(most)]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def pipe(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream


def go(process: subprocess.Popen[str]) -> None:
    pipe(process.stdin).write("\n")
    pipe(process.stdin).flush()


def test_outcomes_are_read_back_and_one_key_is_kept_once(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "deep" / "er", ABOUT)
    journal.add("a", {"rate": 1.5, "figures": None})
    journal.add("a", {"rate": 0.1 + 0.2, "figures": {"ttft:p90": 1e-300}})
    journal.close()
    assert opened(tmp_path / "deep" / "er") == {"a": {"rate": 0.1 + 0.2, "figures": {"ttft:p90": 1e-300}}}
    assert [path.name for path in (tmp_path / "deep" / "er").iterdir()] == [FILE]
    in_memory = Journal(None, ABOUT)
    in_memory.add("a", 1)
    assert in_memory.known == {"a": 1}


@pytest.mark.parametrize("after", [0, 1, 30, 400])
def test_a_process_killed_while_it_adds_loses_no_outcome(after: int, tmp_path: Path) -> None:
    """The process would go on for ever, so it is always killed in the middle."""
    with writer(tmp_path, sys.maxsize) as process:
        go(process)
        for _ in range(1 + after):  # the first line says that the journal is open
            last = pipe(process.stdout).readline().strip()
        process.send_signal(signal.SIGKILL)
        said = [last, *pipe(process.stdout).read().split("\n")[:-1]]
        assert process.wait() == -signal.SIGKILL
    added = int(said[-1]) + 1 if said[-1] != "open" else 0
    known = opened(tmp_path)
    assert len(known) in (added, added + 1)  # the last outcome may be kept and not printed
    assert known == {str(number): {"rate": number / 7, "error": None} for number in range(len(known))}


def test_a_second_process_is_refused_until_the_first_ends(tmp_path: Path) -> None:
    with writer(tmp_path, 3) as first:
        go(first)
        assert [pipe(first.stdout).readline().strip() for _ in range(4)] == ["open", "0", "1", "2"]
        with pytest.raises(OutputError, match="another search is writing into it; wait for it, or name another folder"):
            opened(tmp_path)
        go(first)
        assert first.wait() == 0
    assert len(opened(tmp_path)) == 3


def test_of_processes_that_begin_together_one_writes(tmp_path: Path) -> None:
    with writer(tmp_path, 5) as one, writer(tmp_path, 5) as two, writer(tmp_path, 5) as three:
        for process in (one, two, three):
            go(process)
        said = sorted(pipe(process.stdout).readline().strip() for process in (one, two, three))
    refused = f"{tmp_path}: another search is writing into it; wait for it, or name another folder with --out"
    assert said == [refused, refused, "open"]


def test_the_journal_of_another_search_is_refused(tmp_path: Path) -> None:
    opened(tmp_path)
    for other, name in (({**ABOUT, "version": "2"}, "version"), ({**ABOUT, "rank": "cost"}, "rank")):
        with pytest.raises(InputError, match=rf"holds another search \({name} differ\); name another folder"):
            Journal(tmp_path, other)
    assert opened(tmp_path) == {}  # a refusal releases it


def test_the_journal_of_an_earlier_fastsim_is_refused(tmp_path: Path) -> None:
    (tmp_path / "findings.jsonl").write_text('{"version": "1"}\n')
    with pytest.raises(
        InputError, match=r"holds findings\.jsonl of an earlier version of fastsim.*; remove that file to search"
    ):
        opened(tmp_path)
    (tmp_path / "findings.jsonl").unlink()
    assert opened(tmp_path) == {}


def test_a_damaged_journal_is_refused(tmp_path: Path) -> None:
    journal = Journal(tmp_path, ABOUT)
    for number in range(300):
        journal.add(str(number), {"rate": number, "text": "x" * 50})
    journal.close()
    path = tmp_path / FILE
    whole = path.read_bytes()
    flipped = whole[:8192] + bytes(255 - byte for byte in whole[8192:8392]) + whole[8392:]
    for content in (whole[:50], whole[:1000], whole[:5000], whole[:-4096], b"nonsense\n" * 99, whole[4096:], flipped):
        path.write_bytes(content)
        with pytest.raises(InputError, match=rf"{FILE}: is damaged; remove it to search again, or name another folder"):
            opened(tmp_path)
    for statement in ("PRAGMA user_version = 99", "UPDATE findings SET outcome = '{'", "DROP TABLE about"):
        path.write_bytes(whole)
        with sqlite3.connect(path) as database:
            database.execute(statement)
        database.close()
        with pytest.raises(InputError, match="is damaged"):
            opened(tmp_path)
    path.write_bytes(b"")  # as a process leaves it that is killed before its first write
    assert opened(tmp_path) == {}


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="is a file, not a folder"):
        opened(tmp_path / "file")
    with pytest.raises(OutputError, match="cannot be written"):
        opened(tmp_path / "file" / "below")
    (tmp_path / FILE).mkdir()
    with pytest.raises(
        OutputError, match=r"cannot be written \(unable to open database file\); name a folder that can"
    ):
        opened(tmp_path)

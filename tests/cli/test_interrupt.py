"""SIGINT and SIGTERM end processes of the command line, whatever they are doing, and nothing is half-written."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTHING = "fastsim: interrupted; nothing was written"
WAIT_S = 600.0  # kernels may have to be compiled first

# Sends itself a signal at some moment. A process in the background ignores SIGINT, unless that is undone.
KILLED = """
import hashlib, os, signal, sys, threading
import pyarrow.parquet
from fastsim.cli import main
from fastsim.cli.terminal import result as show
from fastsim.planning import store
from fastsim.simulation import lanes, run

when, sent = sys.argv.pop(1), signal.Signals[sys.argv.pop(1)]
signal.signal(signal.SIGINT, signal.default_int_handler)
write = pyarrow.parquet.write_table

def send():
    os.kill(os.getpid(), sent)

def first(then):  # sends the signal to Python, which handles it at once
    def send_first(*arguments, **options):
        send()
        return then(*arguments, **options)
    return send_first

def compiled(*arguments, **options):  # sends the signal while the main thread is in compiled code without an end
    threading.Timer(0.2, send).start()
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)

match when:
    case "ignored":
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        run.finish = first(run.finish)
    case "simulating":
        run.finish = first(run.finish)
    case "writing":
        pyarrow.parquet.write_table = lambda *given, **options: (write(*given, **options), send())
    case "written":
        show.summary = first(show.summary)
    case "found":
        store.save = first(store.save)
    case "in compiled code":
        run.get_ready = compiled
    case "in a compiled writer":
        pyarrow.parquet.write_table = lambda *given, **options: (write(*given, **options), compiled())
    case "in a kernel":
        lanes.SLICE = 2**60  # iterations: the kernel does not come back before the simulation ends
        finish = run.finish
        run.finish = lambda *given: (threading.Timer(0.2, send).start(), finish(*given))[1]
main()
"""

# Takes about 10^8 iterations.
LONG = """
lengths: {kind: fixed, num_prompt_tokens: 10, num_output_tokens: 8000}
gaps: {kind: static, rate: 0.001}
num_requests: 20000
"""


def killed(when: str, sent: signal.Signals, *arguments: str) -> tuple[int, str]:
    """The exit code of a command that is killed at some moment, and what it says."""
    command = [sys.executable, "-c", KILLED, when, sent.name, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=WAIT_S)
    return done.returncode, done.stderr.strip()


def start(*arguments: str, environment: dict[str, str], folder: Path) -> subprocess.Popen[str]:
    """Start a command in a process group of its own, which handles SIGINT."""
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); import fastsim.cli as c; c.main()"
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=folder,
        env={**environment, "PYTHONPATH": environment.get("PYTHONPATH", str(ROOT))},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def end(process: subprocess.Popen[str], sent: signal.Signals, *, group: bool) -> list[str]:
    """Send a signal to a process, or to it and its children as a terminal does; return what all of them say.

    The pipe that they say it into is closed only when none of them is left.
    """
    try:
        (os.killpg if group else os.kill)(process.pid, sent)
        _, said = process.communicate(timeout=WAIT_S)
    finally:
        process.kill()
    assert process.returncode == 128 + sent, said
    return [line for line in said.splitlines() if line]


def wait_for(folder: Path, pattern: str, process: subprocess.Popen[str]) -> None:
    """Wait until there is a file in ``folder``."""
    deadline = time.monotonic() + WAIT_S
    while not any(folder.rglob(pattern)):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("when", "sent"),
    [
        ("simulating", signal.SIGINT),
        ("simulating", signal.SIGTERM),
        ("writing", signal.SIGINT),
        ("writing", signal.SIGKILL),
        ("in compiled code", signal.SIGINT),
        ("in a compiled writer", signal.SIGTERM),
    ],
)
def test_a_killed_run_leaves_nothing_half_written(tmp_path: Path, when: str, sent: signal.Signals) -> None:
    out = tmp_path / "out"
    code, said = killed(when, sent, "simulate", "data/default.yaml", "chat", "--requests", "10", "--out", str(out))
    if sent == signal.SIGKILL:
        assert (code, said) == (-sent, "")
        assert not out.exists()
    else:
        assert (code, said) == (128 + sent, NOTHING)
        assert not list(tmp_path.iterdir())


def test_a_kernel_that_does_not_end(tmp_path: Path) -> None:
    workload = tmp_path / "long.yaml"
    workload.write_text(LONG)
    arguments = ("simulate", "data/default.yaml", str(workload))
    assert killed("in a kernel", signal.SIGTERM, *arguments) == (143, NOTHING)


def test_what_was_written_is_said(tmp_path: Path) -> None:
    arguments = ("simulate", "data/default.yaml", "chat", "--requests", "10", "--out", str(tmp_path))
    said = f"fastsim: interrupted; {tmp_path} was written"
    assert killed("written", signal.SIGTERM, *arguments) == (143, said)
    assert killed("writing", signal.SIGINT, *arguments) == (130, NOTHING)  # the first run had written it


def test_a_search_that_is_interrupted_at_its_end_keeps_its_findings(tmp_path: Path) -> None:
    space, out = tmp_path / "space.yaml", tmp_path / "out"
    space.write_text("{workload: {source: chat, num_requests: 100}, axes: {seed: [1]}}")
    arguments = ("search", str(space), "--requests", "100", "--tolerance", "0.5", "--out", str(out))
    said = f"fastsim: interrupted; {out} holds what is found, and the same command resumes"
    code, last = killed("found", signal.SIGINT, *arguments)
    assert (code, last.splitlines()[-1]) == (130, said)


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_kernels_that_compile(tmp_path: Path, sent: signal.Signals) -> None:
    """As a terminal sends SIGINT, to all processes, and as an operator sends SIGTERM, to one of them."""
    process = start("warm", environment={**os.environ, "FASTSIM_CACHE_DIR": str(tmp_path / "cache")}, folder=tmp_path)
    wait_for(tmp_path, "*.lock", process)
    assert end(process, sent, group=sent == signal.SIGINT)[1:] == [
        "fastsim: interrupted; what is ready is kept, and the same command goes on"
    ]
    assert not list(tmp_path.rglob("*.part"))


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    """As in a shell script, which starts commands in the background so that Ctrl-C does not reach them."""
    code, said = killed("ignored", signal.SIGINT, "simulate", "data/default.yaml", "chat", "--requests", "10")
    assert (code, said) == (0, "")

"""Kill a process that overwrites a result, many times: `python bench/kills.py [--kills 300]`.

Two results take turns in one folder. After every kill the folder must hold one of them, whole.
"""

import argparse
import os
import random
import signal
import tempfile
import time
from collections import Counter
from pathlib import Path

import fastsim

OTHER = "notes.txt"  # a file of the user's in the same folder


def overwrite_for_ever(results: list[fastsim.Result], folder: Path) -> None:
    """Save the results in turn until killed."""
    while True:
        for result in reversed(results):
            result.save(folder)


def kill(results: list[fastsim.Result], folder: Path, kills: int, seed: int = 0) -> Counter[str]:
    """Return how often each result was in the folder after a kill. Raises AssertionError for anything else."""
    delays, found = random.Random(seed), Counter[str]()
    results[0].save(folder)
    (folder / OTHER).write_text("mine")
    for _ in range(kills):
        process = os.fork()
        if process == 0:
            try:
                overwrite_for_ever(results, folder)
            finally:
                os._exit(1)
        time.sleep(delays.uniform(0, 0.25))
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        loaded = fastsim.Result.load(folder)
        (which,) = [
            number
            for number, result in enumerate(results)
            if loaded.config == result.config and loaded.requests.equals(result.requests)
        ]
        assert loaded.summary["latency"] == results[which].summary["latency"]
        found[f"result {which}"] += 1
    return found


def left_over(folder: Path) -> list[Path]:
    """Temporary folders beside the result."""
    return sorted(folder.parent.glob(f".{folder.name}.*"))


def clean_up(results: list[fastsim.Result], folder: Path) -> None:
    """Write once more, a minute later as far as the temporary folders know."""
    for path in left_over(folder):
        os.utime(path, (0, 0))
    results[0].save(folder)
    assert not left_over(folder), left_over(folder)
    assert (folder / OTHER).read_text() == "mine"


def two_results() -> list[fastsim.Result]:
    """Results of two deployments on the same requests."""
    chat = fastsim.load_workload("chat", num_requests=200)
    deployments = [fastsim.Deployment.load(None, [f"scheduler.max_num_seqs={number}"]) for number in (128, 4)]
    return [fastsim.simulate(deployment, chat) for deployment in deployments]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=300)
    kills = parser.parse_args().kills
    with tempfile.TemporaryDirectory() as folder:
        results, run = two_results(), Path(folder) / "run"
        found = kill(results, run, kills)
        litter = len(left_over(run))
        clean_up(results, run)
    print(f"{kills} kills: {dict(found)}; {litter} temporary folders were left, and removed by the next run")


if __name__ == "__main__":
    main()

"""Fuzz the command line: `python bench/fuzzing.py [--inputs 20000] [--seed 0] [--subject NAME]`.

Odd inputs of every kind are run in child processes. A traceback, an exit code other than 0 or 2, a crash, more than
20 s of CPU time or more than 2 GiB fail; each failure is printed with its command, and its files are kept.
"""

import argparse
import faulthandler
import multiprocessing
import sys
import zlib
from collections import Counter
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from fuzz.attempt import MAX_SECONDS, attempt
from fuzz.subjects import SUBJECTS

BATCH = 200  # inputs of a child process


def run_batch(name: str, seeds: range, sender: "multiprocessing.connection.Connection") -> None:
    """Run the inputs of ``seeds``, and send what became of each."""
    subject = next(subject for subject in SUBJECTS if subject.__name__ == name)
    for seed in seeds:
        sender.send(("began", seed))
        faulthandler.dump_traceback_later(6 * MAX_SECONDS, exit=True)
        code, arguments, wrong = attempt(subject, Random(zlib.crc32(f"{name}{seed}".encode())))
        sender.send((code, arguments, wrong))
    faulthandler.cancel_dump_traceback_later()


def fuzz(name: str, seeds: range) -> tuple[Counter[str], list[str]]:
    """Return how often the inputs of ``seeds`` succeeded, were refused and failed, and a line for each failure."""
    counts: Counter[str] = Counter()
    failures = []
    context = multiprocessing.get_context("spawn")
    while seeds:
        receiver, sender = context.Pipe(duplex=False)
        child = context.Process(target=run_batch, args=(name, seeds[:BATCH], sender))
        child.start()
        sender.close()
        running = None
        try:
            while True:
                message = receiver.recv()
                if message[0] == "began":
                    running = message[1]
                    continue
                code, arguments, wrong = message
                counts["failed" if wrong else "succeeded" if code == 0 else "refused"] += 1
                if wrong:
                    failures.append(f"{name} {running}: {wrong.strip()}: {arguments}")
                running = None
        except EOFError:
            child.join()
        if running is not None:
            counts["failed"] += 1
            failures.append(f"{name} {running}: the process ended with {child.exitcode}")
            seeds = range(running + 1, seeds.stop)
        else:
            seeds = seeds[BATCH:]
    return counts, failures


def main() -> None:
    """Fuzz, print the counts by subject, and exit with 1 if anything failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--subject", choices=[subject.__name__ for subject in SUBJECTS])
    given = parser.parse_args()
    names = [given.subject] if given.subject else [subject.__name__ for subject in SUBJECTS]
    total: Counter[str] = Counter()
    each = -(-given.inputs // len(names))
    for name in names:
        counts, failures = fuzz(name, range(given.seed, given.seed + each))
        total += counts
        print(f"{name:12}", dict(counts), *failures, sep="\n  " if failures else " ", flush=True)
    print("all", dict(total))
    sys.exit(bool(total["failed"]))


if __name__ == "__main__":
    main()

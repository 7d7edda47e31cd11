"""Replays recorded runs of a real vLLM engine: `python bench/fidelity/replayed_engine.py GROUNDTRUTH [--release 0.19]`.

Given when each request entered the scheduler's queue and how long each step took, the batches must be those of the
recording: requests, tokens and computed tokens in order, preemptions, running and waiting requests, KV blocks, and the
calls of schedule() that returned nothing. For each run it prints how many steps of the twin and of the compiled kernel
are equal and the first that is not.

It also prints for how many requests the order would be open if only an earlier time stamp were known: those that
another step would have seen first, had every request taken the same time from that stamp to the queue.

The runs are those of a folder ``groundtruth/vllm_cpu``, which is no part of this project. All stamps are of one clock,
in seconds with seven digits; they are read as whole ticks of 100 ns, so that the sums of step times are exact.
"""

import argparse
import json
import sys
from bisect import bisect_left
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

from reference.vllm_v1.engine import Outcome, simulate
from reference.vllm_v1.recordings import Clock
from reference.vllm_v1.releases import RELEASES, Release
from reference.vllm_v1.state import Member, Request, Settings
from vllm_v1_kernel import serve

TICKS = 10**7  # per second
NEAREST = {"0.19.1": "0.19", "0.32.0": "0.33"}  # the release with recordings of its scheduler
SAME_NAME = (
    "max_num_seqs",
    "max_num_batched_tokens",
    "max_model_len",
    "block_size",
    "enable_prefix_caching",
    "enable_chunked_prefill",
    "async_scheduling",
)
Rows = list[dict[str, Any]]


class Step(NamedTuple):
    """One batch that has tokens, and the state after its schedule() call."""

    call: int  # schedule() calls since the first one, empty ones included
    requests: list[int]
    tokens: list[int]
    computed_before: list[int]
    num_preempted: int
    num_running: int
    num_waiting: int
    blocks_used: int


class Run(NamedTuple):
    """One recorded run: what is given to a scheduler, and what the engine did."""

    name: str
    version: str
    settings: Settings
    requests: list[Request]  # in ticks
    durations: list[int]  # ticks, of each batch that has tokens
    steps: list[Step]
    step_starts: list[int]  # ticks
    stamps: dict[
        str, list[int]
    ]  # ticks, by request: when the client sent it, the server got it, the scheduler queued it


Scheduler = Callable[[Run, Release], list[Step]]


def ticks(seconds: float) -> int:
    return round(seconds * TICKS)


def read(folder: Path) -> Run:
    """A request arrives for a scheduler with the first schedule() call after it was queued.

    A step lasts until the next one starts, host work included, unless the engine had nothing to do in between: then
    it made calls that returned nothing, which have numbers but no rows.
    """
    config = json.loads((folder / "config.json").read_text())
    scheduler = config["scheduler"]
    rows: Rows = pq.read_table(folder / "steps.parquet").to_pylist()
    sent: Rows = pq.read_table(folder / "requests.parquet").to_pylist()
    starts = [ticks(row["start"]) for row in rows]
    durations = [
        ticks(later["start"] if later["step"] == row["step"] + 1 else row["model_end"]) - ticks(row["start"])
        for row, later in zip(rows, [*rows[1:], {"step": -1}], strict=True)
    ]
    return Run(
        folder.name,
        config["engine_version"],
        Settings(
            num_blocks=scheduler["num_gpu_blocks"] - 1,
            executor_blocks=True,
            **{name: scheduler[name] for name in SAME_NAME},
        ),
        [
            Request(
                starts[bisect_left(starts, ticks(row["queued"]))],
                row["num_prompt_tokens"],
                row["num_output_tokens"],
                block_hashes=shared_hashes(row, scheduler["block_size"]),
            )
            for row in sent
        ],
        durations,
        [recorded_step(row, rows[0]["step"]) for row in rows],
        starts,
        {name: [ticks(row[name]) for row in sent] for name in ("sent", "arrived", "queued")},
    )


def shared_hashes(row: dict[str, Any], block_size: int) -> list[int]:
    """Those of the blocks that a request shares with its group; all others are its own."""
    if not row["prefix_tokens"]:
        return []
    group = int.from_bytes(str(row["prefix_group"]).encode())
    return [group << 16 | place for place in range(row["prefix_tokens"] // block_size)]


def recorded_step(row: dict[str, Any], first: int) -> Step:
    return Step(
        row["step"] - first,
        row["request_index"],
        row["tokens"],
        row["computed_before"],
        row["num_preempted"],
        row["num_running"],
        row["num_waiting"],
        row["kv_blocks_used"],
    )


def twin(run: Run, release: Release) -> list[Step]:
    """The steps of the plain-Python twin of vLLM V1."""
    remaining = iter(run.durations)

    def stage_time(stage: int, members: Sequence[Member]) -> int:
        return next(remaining, 1)

    return steps_of(run, simulate(run.requests, run.settings, release, stage_time))


def kernel(run: Run, release: Release) -> list[Step]:
    """The steps of the compiled kernel, which is told before each call how long the next batch takes."""
    return steps_of(run, serve(run.requests, run.settings, release, Clock(1000), run.durations))


def steps_of(run: Run, outcome: Outcome) -> list[Step]:
    """The batches that have tokens, as they are recorded."""
    return [
        Step(
            call,
            [member.request.id for member in decision.members],
            [member.num_tokens for member in decision.members],
            [member.num_computed_before for member in decision.members],
            len(decision.preempted),
            decision.num_running,
            decision.num_waiting,
            run.settings.num_blocks - decision.num_free_blocks,
        )
        for call, decision in enumerate(outcome.decisions)
        if decision.members
    ]


SCHEDULERS: dict[str, Scheduler] = {"twin": twin, "kernel": kernel}


def difference(expected: Sequence[Step], got: Sequence[Step]) -> tuple[int, str]:
    """The number of equal steps before the first that is not, and what differs there."""
    for number, (theirs, ours) in enumerate(zip(expected, got, strict=False)):
        for name in Step._fields:
            if getattr(theirs, name) != getattr(ours, name):
                return number, f"{name}: {getattr(theirs, name)} recorded, {getattr(ours, name)} here"
    if len(expected) != len(got):
        return min(len(expected), len(got)), f"{len(expected)} steps recorded, {len(got)} here"
    return len(expected), ""


def num_open(run: Run, stamp: str) -> tuple[int, float]:
    """Requests that enter with another step when the queue is a fixed time after a stamp; the best such time, ms."""
    delays = sorted(q - s for q, s in zip(run.stamps["queued"], run.stamps[stamp], strict=True))

    def misplaced(delay: int) -> int:
        seen = [bisect_left(run.step_starts, given + delay) for given in run.stamps[stamp]]
        return sum(
            step >= len(run.step_starts) or run.step_starts[step] != request.arrived_at
            for step, request in zip(seen, run.requests, strict=True)
        )

    fewest, delay = min((misplaced(delay), delay) for delay in {*delays, *range(0, delays[-1], TICKS // 10_000)})
    return fewest, delay / TICKS * 1e3


def main() -> None:
    """Parse the command line, replay every run, and print how far each agrees."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("groundtruth", type=Path)
    parser.add_argument("--release", action="append", choices=RELEASES, help="default: the nearest to the engine's")
    arguments = parser.parse_args()
    total = equal = 0
    for folder in sorted(path.parent for path in (arguments.groundtruth / "vllm_cpu").glob("*/steps.parquet")):
        run = read(folder)
        print(f"{run.name}: vLLM {run.version}, {len(run.steps)} steps, {len(run.requests)} requests")
        for release in arguments.release or [NEAREST[run.version]]:
            for name, scheduler in SCHEDULERS.items():
                number, why = difference(run.steps, scheduler(run, RELEASES[release]))
                total, equal = total + len(run.steps), equal + number
                print(
                    f"    {name}, rules of {release}: " + (f"{number} steps equal, then {why}" if why else "all equal")
                )
        for stamp in ("arrived", "sent"):
            count, delay = num_open(run, stamp)
            print(f"    queued {delay:.1f} ms after {stamp}: {count} requests would enter with another step")
    print(f"{equal} of {total} steps equal")
    sys.exit(equal != total)


if __name__ == "__main__":
    main()

"""Recordings of vLLM, request by request: by a recorder inside the engine, and those of LLMServingSim."""

import json
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastsim.errors import WorkloadError
from fastsim.measured import bench_results, files
from fastsim.measured.columns import Columns, positive
from fastsim.measured.own_columns import numbers
from fastsim.measured.sending import Sending
from fastsim.workload.tables import short

if TYPE_CHECKING:
    import pyarrow as pa

RECORDER = "a recording of vLLM and its client"
RECORDER_MARKS = ("sent", "client_ttft", "client_e2e", "num_prompt_tokens", "num_output_tokens")
SERVING_SIM = "a run recorded for LLMServingSim"
SERVING_SIM_MARKS = ("queued_s", "ttft_ms", "e2e_ms", "input_toks", "output_toks")
GROUPS = ("prefix_group", "prefix_tokens")
CONFIG, RESULT = "config.json", "bench.json.gz"
LOST = "no hashes of blocks are beside the file, so that prefixes which prompts share are lost"


def of_recorder(table: "pa.Table", path: Path) -> Columns:
    """The columns of a recorder's requests.parquet: a request arrives when the client sends it.

    ``config.json`` beside it says how many users there were and what a block is, and ``bench.json.gz``, the client's
    own result, has all times between tokens.
    """
    place, config = str(path), _beside(path, CONFIG)
    sent, prompts, outputs, ttft, e2e = (
        numbers(table, name, place)
        for name in ("sent", "num_prompt_tokens", "num_output_tokens", "client_ttft", "client_e2e")
    )
    finished = positive(outputs) & ~np.isnan(e2e)
    if "error" in table.column_names:
        finished &= ~np.array([bool(error) for error in table["error"].to_pylist()])
    scheduler = config.get("scheduler")
    size = scheduler.get("block_size") if isinstance(scheduler, dict) else None
    notes: tuple[str, ...] = ()
    shared = None
    if all(name in table.column_names for name in GROUPS):
        if isinstance(size, int) and 0 < size < 2**20:
            shared = shared_hashes(table, size)
        else:
            notes = (
                f"{CONFIG} beside the file names no block_size, so that the prefixes which prompts share are lost",
            )
    gaps = None
    with suppress(WorkloadError):
        if path.with_name(RESULT).is_file():
            gaps = bench_results.gaps_of(files.document(path.with_name(RESULT)), RESULT)
    return Columns(
        place,
        RECORDER,
        ("num_prompt_tokens", "num_output_tokens"),
        prompts,
        outputs,
        ttft,
        e2e,
        finished,
        sent,
        numbers(table, "scheduled", place) if "scheduled" in table.column_names else None,
        shared,
        size if shared is not None and isinstance(size, int) else 16,
        gaps,
        said=Sending(users=_users(config)),
        notes=notes,
    )


def of_serving_sim(table: "pa.Table", path: Path) -> Columns:
    """The columns of a run of LLMServingSim's: a request arrives when it enters the engine's queue.

    ``NAME_meta.json`` beside it names the dataset, whose hashes of blocks of 16 tokens are in ``workloads``.
    """
    place = str(path)
    queued, prompts, outputs, ttft, e2e = (
        numbers(table, name, place) for name in (SERVING_SIM_MARKS[0], *SERVING_SIM_MARKS[3:], *SERVING_SIM_MARKS[1:3])
    )
    about = _beside(path, f"{path.stem}_meta.json")
    shared = _hashes(table, path, about.get("dataset_path"))
    return Columns(
        place,
        SERVING_SIM,
        ("input_toks", "output_toks"),
        prompts,
        outputs,
        ttft / 1e3,
        e2e / 1e3,
        positive(outputs) & ~np.isnan(e2e),
        queued,
        numbers(table, "scheduled_s", place) if "scheduled_s" in table.column_names else None,
        shared,
        notes=() if shared is not None else (LOST,),
    )


def shared_hashes(table: "pa.Table", block_size: int) -> list[list[int]]:
    """Of each request the blocks that it shares with its group; all others are its own."""
    groups, tokens = (table[name].to_pylist() for name in GROUPS)
    found: list[list[int]] = []
    for group, shared in zip(groups, tokens, strict=True):
        first = int.from_bytes(str(group).encode()) % 2**40 << 16
        found.append([first | block for block in range(int(shared or 0) // block_size)])
    return found


def _hashes(table: "pa.Table", path: Path, dataset: Any) -> list[list[int]] | None:
    """The hashes of each request's prompt; None where the dataset is not beside the file."""
    if not isinstance(dataset, str) or "idx" not in table.column_names:
        return None
    requests = path.parent / "workloads" / f"{Path(dataset).stem}.parquet"
    if not requests.is_file():
        return None
    columns = files.table(requests)
    if not {"idx", "hash_blocks"} <= {*columns.column_names}:
        return None
    try:
        pairs = zip(columns["idx"].to_pylist(), columns["hash_blocks"].to_pylist(), strict=True)
        hashed = {index: [int(value, 16) for value in text.split()] for index, text in pairs}
        return [hashed[index] for index in table["idx"].to_pylist()]
    except (ValueError, KeyError, AttributeError) as problem:
        raise WorkloadError(
            f"{requests}: hash_blocks do not fit the requests of {path}: {short(str(problem))}"
        ) from None


def _beside(path: Path, name: str) -> dict[str, Any]:
    """The object in a JSON file beside another; empty where there is none."""
    try:
        found = json.loads(path.with_name(name).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _users(config: dict[str, Any]) -> int | None:
    """The users that the client was started with; None where it sent requests at a rate."""
    arguments = config.get("bench_args")
    if not isinstance(arguments, list) or "--max-concurrency" not in arguments[:-1]:
        return None
    number = str(arguments[arguments.index("--max-concurrency") + 1])
    return int(number) if number.isdecimal() and int(number) else None

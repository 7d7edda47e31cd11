"""KV blocks of models some of whose layers keep a window only: by hand for requests of one length, and end to end."""

from typing import Any

import numpy as np
import pytest

import fastsim
from fastsim.deployment.description import Deployment
from fastsim.deployment.memory.plan import free_bytes
from fastsim.deployment.resolve import resolve
from fastsim.deployment.resolved import Resolved
from fastsim.simulation.windows import with_windows
from fastsim.workload import Workload

GEMMA = {"model": "google/gemma-3-27b-it", "device": "h100", "max_model_len": 131072}
CHUNK = {"policy": "sarathi", "chunk_size": 8192, "max_num_seqs": 256}
LAYER = 2 * 16 * 128 * 2  # bytes of a token: keys and values, 16 heads of 128, two bytes


def gemma(**fields: Any) -> Resolved:
    return resolve(Deployment.load(GEMMA | {"scheduler": CHUNK} | fields))


def requests(prompt: int, outputs: int, number: int = 8) -> Workload:
    return Workload(np.arange(number, dtype=np.float64), np.full(number, prompt), np.full(number, outputs))


def test_a_long_request_keeps_all_tokens_in_ten_layers_of_62_only() -> None:
    planned = gemma()
    # 10 layers of 131,072 tokens, and 52 of 1,023 + 8,192 tokens in 576 blocks and one more; 60 with vLLM's padding.
    whole = LAYER * (10 * 131072 + 60 * 577 * 16)
    assert whole < 62 * 131072 * LAYER / 4
    free = free_bytes(planned.model, planned.device, planned.layout, 0)
    assert planned.memory.kv_tokens == int(free / whole * 131072)
    assert planned.memory.kv_tokens > 4 * free / (62 * LAYER)


def test_short_requests_take_blocks_in_all_layers() -> None:
    planned = gemma()
    free = free_bytes(planned.model, planned.device, planned.layout, 0)
    short = with_windows(planned, requests(900, 100))
    assert short.memory.num_blocks == pytest.approx(free / (70 * LAYER * 16), abs=2)  # 62 layers and 8 of padding
    long = with_windows(planned, requests(100_000, 300))
    # 13 iterations for the prompt, with a window and 8,192 tokens; 300 outputs with the window and a block more.
    share = (10 * 100_150 + 60 * 16 * (13 * 577 + 300 * 65) / 313) / (70 * 100_150)
    assert long.memory.num_blocks == pytest.approx(short.memory.num_blocks / share, rel=0.001)
    assert long.deployment.scheduler.num_blocks == long.memory.num_blocks
    (note,) = long.warnings[-1:]
    assert note.endswith(f"fit; {long.memory.num_blocks:,} KV blocks hold what fits of these requests")


def test_what_needs_no_window_stays_as_it_is() -> None:
    given = gemma(scheduler=CHUNK | {"num_blocks": 5000})
    assert with_windows(given, requests(1000, 100)) is given
    plain = resolve(Deployment.load(None))
    assert with_windows(plain, requests(1000, 100)) is plain


def test_a_result_repeats_from_its_own_files() -> None:
    workload = requests(20_000, 20, 4)
    first = fastsim.simulate(gemma().deployment.model_copy(update={"scheduler": gemma_scheduler()}), workload)
    again = fastsim.simulate(Deployment.load(first.config["deployment"]), workload)
    assert again.summary["latency"] == first.summary["latency"]
    (run,) = fastsim.simulate_many([(Deployment.load(GEMMA | {"scheduler": CHUNK}), workload)])
    assert run.summary is not None and run.summary["latency"] == first.summary["latency"]


def gemma_scheduler() -> Any:
    return Deployment.load(GEMMA | {"scheduler": CHUNK}).scheduler

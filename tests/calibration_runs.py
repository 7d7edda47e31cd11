"""Recorded steps with known coefficients, for tests of calibrations."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fastsim.result.result import Result

# The time of a step, ns; a batch of two tokens takes 2 ms more, one of 6 or more nothing.
TRUE = {
    "constant_ns": 6e6,
    "per_token_ns": 0.0,
    "per_sequence_ns": 3e5,
    "per_context_token_ns": 1200.0,
    "per_prefill_token_ns": 250_000.0,
    "per_attention_pair_ns": 210.0,
}
BENT = [[1, 1.5e6], [2, 2e6], [6, 0.0]]


def batches(number: int, seed: int = 3) -> dict[str, np.ndarray[Any, Any]]:
    """Random batches: decodes, and prompts in a fifth of them."""
    rng = np.random.default_rng(seed)
    decodes = rng.integers(1, 16, number)
    context = decodes * rng.integers(50, 800, number)
    prompts = rng.integers(1, 3, number) * (rng.random(number) < 0.2)
    lengths, done = rng.integers(20, 700, number), rng.integers(0, 2, number) * rng.integers(0, 500, number)
    return {
        "num_prefill_seqs": prompts,
        "num_prefill_tokens": prompts * lengths,
        "num_decode_seqs": decodes,
        "prefill_context_tokens": prompts * done,
        "prefill_attention_pairs": prompts * (lengths * done + lengths * (lengths + 1) // 2),
        "decode_context_tokens": context,
    }


def seconds(of: dict[str, np.ndarray[Any, Any]], terms: dict[str, float], bent: list[list[float]]) -> Any:
    """What the batches take, s."""
    tokens = of["num_prefill_tokens"] + of["num_decode_seqs"]
    sequences = of["num_prefill_seqs"] + of["num_decode_seqs"]
    context = of["prefill_context_tokens"] + of["num_prefill_tokens"] + of["decode_context_tokens"]
    ns = terms["constant_ns"] + terms["per_token_ns"] * tokens + terms["per_sequence_ns"] * sequences
    ns = ns + terms["per_context_token_ns"] * context + terms["per_prefill_token_ns"] * of["num_prefill_tokens"]
    ns = ns + terms["per_attention_pair_ns"] * of["prefill_attention_pairs"]
    return (ns + np.interp(tokens, [at for at, _ in bent], [more for _, more in bent])) * 1e-9


def steps_file(folder: Path, number: int = 3000, name: str = "steps.parquet", **changed: Any) -> Path:
    """Steps with pauses that are long and rare, as a file; ``changed``: columns in place of these."""
    of = batches(number)
    rng = np.random.default_rng(5)
    took = seconds(of, TRUE, BENT) * rng.lognormal(0.0, 0.03, number)
    took += (rng.random(number) < 0.02) * rng.uniform(0.005, 0.05, number)
    start = np.concatenate([[0.0], np.cumsum(took)[:-1]])
    columns = {"step": np.arange(number), "start": start, **of, **changed}
    table = pa.table({name: values for name, values in columns.items() if values is not None})
    pq.write_table(table, folder / name)
    return folder / name


def requests_file(result: Result, folder: Path) -> Path:
    """The latencies of a simulated run as if they were measured, in columns of one's own."""
    names = ("arrived_at", "num_prompt_tokens", "num_output_tokens", "ttft", "e2e")
    pq.write_table(pa.table({name: result.column(name) for name in names}), folder / "requests.parquet")
    return folder / "requests.parquet"

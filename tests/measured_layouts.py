"""Writes a simulated result in the layouts of measured runs, as if it had been measured."""

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fastsim.result.result import Result

CLOCK = 1234.5  # s, of the first arrival


def columns(result: Result) -> dict[str, Any]:
    return {name: values.tolist() for name, values in result.columns().items()}


def gaps(ttft: float, e2e: float, outputs: int) -> list[float]:
    """Equal gaps whose sum is exact to rounding."""
    return [(e2e - ttft) / (outputs - 1)] * (outputs - 1) if outputs > 1 else []


def bench(result: Result, path: Path, times: bool = True, **more: Any) -> Path:
    """A result of `vllm bench serve --save-detailed`."""
    column = columns(result)
    document: dict[str, Any] = {
        "input_lens": column["num_prompt_tokens"],
        "output_lens": column["num_output_tokens"],
        "ttfts": column["ttft"],
        "itls": [gaps(*one) for one in zip(column["ttft"], column["e2e"], column["num_output_tokens"], strict=True)],
        "errors": [""] * result.requests.num_rows,
    }
    if times:
        document["start_times"] = [CLOCK + time for time in column["arrived_at"]]
    text = json.dumps(document | more)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return path


def guidellm(result: Result, path: Path, old: bool, strategy: dict[str, Any] | None = None) -> Path:
    """A report of GuideLLM, with times in the fields of an old or of a new version."""
    requests = []
    for row in result.requests.to_pylist():
        start, first, last = (CLOCK + row[name] for name in ("arrived_at", "first_token_at", "finished_at"))
        request: dict[str, Any] = {"request_id": str(row["request_id"]), "output": "text"}
        if old:
            request |= {"start_time": start, "first_token_time": first, "end_time": last}
            request |= {"prompt_tokens": row["num_prompt_tokens"], "output_tokens": row["num_output_tokens"]}
        else:
            request |= {"request_latency": row["e2e"], "time_to_first_token_ms": row["ttft"] * 1e3}
            request |= {"info": {"timings": {"request_start": start}}}
            request |= {"input_metrics": {"total_tokens": row["num_prompt_tokens"]}}
            request |= {"output_metrics": {"total_tokens": row["num_output_tokens"]}}
        requests.append(request)
    listed = requests if strategy else requests[::-1]
    groups = {"successful": listed, "errored": [{"request_id": "late"}], "incomplete": []}
    path.write_text(json.dumps({"benchmarks": [{"config": {"strategy": strategy or {}}, "requests": groups}]}))
    return path


def own(result: Result, path: Path, names: tuple[str, ...]) -> Path:
    """Our own columns, some of those of a result."""
    table = result.requests.select(["arrived_at", "num_prompt_tokens", "num_output_tokens", *names])
    if path.suffix == ".parquet":
        pq.write_table(table, path)
    else:
        with path.open("w") as file:
            writer = csv.writer(file)
            writer.writerow(table.column_names)
            writer.writerows(row.values() for row in table.to_pylist())
    return path


def recorder(result: Result, folder: Path, users: int | None = None) -> Path:
    """A recorder's folder, with the client's own result."""
    column = result.column
    table = {
        "sent": column("arrived_at") + CLOCK,
        "scheduled": column("scheduled_at") + CLOCK,
        "num_prompt_tokens": column("num_prompt_tokens"),
        "num_output_tokens": column("num_output_tokens"),
        "client_ttft": column("ttft"),
        "client_e2e": column("e2e"),
        "error": pa.nulls(result.requests.num_rows),
    }
    folder.mkdir()
    pq.write_table(pa.table(table), folder / "requests.parquet")
    arguments = [] if users is None else ["--max-concurrency", str(users)]
    (folder / "config.json").write_text(json.dumps({"bench_args": arguments, "scheduler": {"block_size": 16}}))
    bench(result, folder / "bench.json.gz")
    return folder


def serving_sim(result: Result, path: Path) -> Path:
    """A run recorded for LLMServingSim."""
    with path.open("w") as file:
        writer = csv.writer(file)
        writer.writerow(("idx", "input_toks", "output_toks", "queued_s", "scheduled_s", "ttft_ms", "tpot_ms", "e2e_ms"))
        for row in result.requests.to_pylist():
            lengths = row["request_id"], row["num_prompt_tokens"], row["num_output_tokens"]
            times = row["arrived_at"], row["scheduled_at"], row["ttft"] * 1e3, row["tpot"] * 1e3, row["e2e"] * 1e3
            writer.writerow((*lengths, *times))
    return path

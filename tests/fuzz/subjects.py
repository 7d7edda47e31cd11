"""What is fuzzed: for each kind of input a function that writes an odd one into a folder and returns a command line."""

import json
import shlex
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from published import EXPERTS, HYBRIDS, NESTED, OLDER

import fastsim
from fastsim.deployment.vllm import flags
from fastsim.predictors.times.times import LAYER_OPERATORS

from .mutations import FLOATS, NUMBERS, TEXTS, as_json, as_yaml, changed, damaged

DEPLOYMENT: dict[str, Any] = {
    "model": "meta-llama/Llama-2-7b-hf",
    "device": "a100",
    "tensor_parallel_size": 1,
    "pipeline_parallel_size": 1,
    "num_replicas": 2,
    "max_model_len": 2048,
    "gpu_memory_utilization": 0.9,
    "seed": 1,
    "scheduler": {"policy": "sarathi", "max_num_seqs": 32, "block_size": 16, "chunk_size": 256, "watermark": 0.01},
    "router": {"policy": "round_robin"},
    "memory": {"planner": "fastsim"},
    "predictor": {"source": "default"},
}
MODEL: dict[str, Any] = {
    "model_type": "qwen3_moe",
    "hidden_size": 2048,
    "num_hidden_layers": 8,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
    "head_dim": 128,
    "intermediate_size": 6144,
    "vocab_size": 151936,
    "max_position_embeddings": 40960,
    "hidden_act": "silu",
    "num_experts": 16,
    "num_experts_per_tok": 8,
    "moe_intermediate_size": 768,
    "n_shared_experts": 1,
    "first_k_dense_replace": 1,
    "mlp_only_layers": [0],
    "decoder_sparse_step": 1,
    "layer_types": ["full_attention"] * 8,
    "sliding_window": 1024,
    "use_sliding_window": False,
    "max_window_layers": 8,
    "tie_word_embeddings": False,
    "attention_bias": False,
    "kv_lora_rank": None,
    "q_lora_rank": None,
    "quantization_config": {
        "quant_method": "compressed-tensors",
        "bits": 8,
        "group_size": 128,
        "weight_block_size": [128, 128],
        "ignore": ["lm_head", "re:.*self_attn.*", "model.layers.0.mlp*"],
        "kv_cache_scheme": {"num_bits": 8, "type": "float"},
        "config_groups": {
            "group_0": {
                "targets": ["Linear"],
                "weights": {"num_bits": 8, "type": "float", "strategy": "channel"},
                "input_activations": {"num_bits": 8, "type": "float"},
            }
        },
        "quantized_layers": {"model.layers.1.mlp": {"quant_algo": "FP8", "group_size": 16}},
        "dynamic": {"-:.*mlp.*": {}, "+:.*self_attn.*": {"bits": 8, "group_size": 32}},
        "extra_config": {"model.layers.0.mlp": {"bits": 16}},
        "quant_type": {"default": {"_type": "Int4WeightOnlyConfig", "_data": {"group_size": 64}}},
    },
}
PUBLISHED = [fields for _, fields in (OLDER | EXPERTS | HYBRIDS | NESTED).values()]
WORKLOAD: dict[str, Any] = {
    "lengths": {
        "kind": "uniform",
        "num_prompt_tokens": {"min": 10, "max": 90},
        "num_output_tokens": {"min": 1, "max": 20},
    },
    "gaps": {"kind": "gamma", "rate": 2.0, "cv": 2.0},
    "num_requests": 10,
    "max_tokens": 4096,
    "seed": 1,
    "about": "short",
}
QUANTILES: dict[str, Any] = WORKLOAD | {
    "lengths": {
        "kind": "quantiles",
        "num_prompt_tokens": {"probability": [0.1, 0.5, 0.9], "tokens": [50, 400, 1600]},
        "num_output_tokens": {"probability": [0.1, 0.9], "tokens": [5, 60]},
        "correlation": 0.2,
    }
}
SHARED: dict[str, Any] = WORKLOAD | {
    "prefix": [
        {"kind": "system_prompt", "number": 3, "exponent": 1.0, "num_tokens": 40},
        {"kind": "documents", "number": 9, "num_tokens": {"min": 5, "max": 50}, "per_request": 3},
        {"kind": "examples", "number": 2, "num_tokens": 20, "shots": {"min": 1, "max": 4}},
    ],
    "sessions": {
        "turns": {"kind": "geometric", "mean": 3.0},
        "think_time": {"kind": "lognormal", "median": 2.0, "sigma": 0.5},
        "context": {"min": 5, "max": 9},
        "fan_out": 2,
    },
    "block_size": 16,
}
TENANTS: dict[str, Any] = WORKLOAD | {
    "tenants": [
        {
            "name": "chat",
            "share": 0.6,
            "priority": -1,
            "gaps": {"kind": "mmpp", "states": [{"rate": 4.0, "mean_dwell": 3.0}, {"rate": 0.0, "mean_dwell": 5.0}]},
            "sessions": {"turns": 3, "think_time": 1.5},
        },
        {
            "name": "batch",
            "share": 0.4,
            "lengths": {
                "kind": "empirical",
                "num_prompt_tokens": {"edges": [1, 11, 101], "weights": [2, 1]},
                "num_output_tokens": {"edges": [1, 9], "weights": [1]},
            },
            "gaps": {"kind": "piecewise", "steps": [{"duration": 10.0, "rate": 3.0}], "repeat": True},
        },
        {"name": "users", "share": 0.2, "gaps": {"kind": "closed_loop", "concurrency": 2, "ramp_up": 1.0}},
        {
            "name": "others",
            "share": 0.1,
            "lengths": {
                "kind": "lognormal",
                "num_prompt_tokens": {"median": 300, "sigma": 1.0, "max": 2000},
                "num_output_tokens": {"mean": 30, "sigma": 0.5},
                "correlation": -0.2,
            },
            "gaps": {"kind": "diurnal", "trough": 0.5, "peak": 4.0, "period": 600.0},
        },
    ]
}
DEVICE: dict[str, Any] = {
    "name": "mine",
    "architecture": "hopper",
    "compute_capability": "9.0",
    "memory_gib": 80,
    "torch_memory_gib": 79.1,
    "bandwidth_gb_s": 3350,
    "tflops": {"bf16": 989.4, "fp8": 1979},
    "num_sms": 132,
    "price_per_hour": 2.5,
    "power_w": 700,
    "skew": 0.3,
    "predictor": "h100_sxm",
    "source": "its data sheet",
}
SPACE: dict[str, Any] = {
    "deployment": DEPLOYMENT,
    "workload": {"source": WORKLOAD, "num_requests": 5, "seed": 2},
    "axes": {"scheduler.policy": ["vllm"], "scheduler.max_num_seqs": {"from": 8, "to": 16, "factor": 2}},
    "zip": [{"num_replicas": [1, 2], "tensor_parallel_size": [2, 1]}],
    "where": ["num_gpus <= 4 and scheduler.max_num_seqs > 1", "device in ['a100', 'h100']"],
}
TABLES_META: dict[str, Any] = {
    "kv_cache_prediction_granularity": 64,
    "attention_decode_batching_overhead_fraction_effective": 0.1,
    "attention_prefill_batching_overhead_fraction_effective": 0.2,
    "nccl_cpu_launch_overhead_ms": 0.02,
    "nccl_cpu_skew_overhead_per_device_ms": 0.003,
}
LINE = (
    "vllm serve meta-llama/Llama-3.1-8B -tp 2 --max-model-len 8K --max-num-seqs 64 --max-num-batched-tokens 2048 "
    "--dtype auto --quantization fp8 --kv-cache-dtype fp8_e4m3 --enable-chunked-prefill --compilation-config.level 3 "
    "--gpu-memory-utilization=0.8 --seed 7 --data-parallel-size 2 --port 8000 --swap-space 4 --block-size 16"
)
OF_SGLANG = (
    "sglang serve --model-path meta-llama/Llama-3.1-8B --tp 2 --context-length 8Ki --max-running-requests 64 "
    "--dtype auto --quantization fp8 --kv-cache-dtype fp8_e4m3 --chunked-prefill-size 2048 --dp-size 2 "
    "--max-prefill-tokens 16384 --mem-fraction-static=0.8 --page-size 16 --schedule-policy lpm --port 30000"
)
CSV = b"arrived_at,num_prompt_tokens,num_output_tokens\n" + b"".join(b"%d.5,%d,3\n" % (i, 10 + i) for i in range(8))
JSONL = b"".join(
    b'{"arrived_at": %d, "num_prompt_tokens": 9, "num_output_tokens": 3, "x": "y"}\n' % i for i in range(8)
)


AZURE = b"TIMESTAMP,ContextTokens,GeneratedTokens\n" + b"".join(
    b"2023-11-16 18:15:%d.6805900,%d,4\n" % (10 + i, 9 + i) for i in range(8)
)
BURSTGPT = b"Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n" + b"".join(
    b"%d,GPT-4,9,%d,9,API log\n" % (i, i % 3) for i in range(8)
)
MOONCAKE = {"timestamp": 5, "input_length": 1030, "output_length": 3, "hash_ids": [0, 1, 2]}
AIPERF = {
    "metadata": {"session_num": 1, "request_start_ns": 1759813207532900363},
    "metrics": {"input_sequence_length": {"value": 9}, "output_sequence_length": {"value": 3}},
    "error": None,
}
VLLM: dict[str, Any] = {
    "backend": "vllm",
    "request_throughput": 3.5,
    "input_lens": [9, 8, 7],
    "output_lens": [3, 2, 0],
    "start_times": [5000.5, 5001.5, 5001.25],
    "errors": ["", "", "timeout"],
}
GUIDELLM: dict[str, Any] = {
    "benchmarks": [
        {
            "requests": {
                "successful": [{"request_id": "x", "prompt_tokens": 9, "output_tokens": 3, "start_time": 1.7e9}],
                "errored": [{"request_id": "y"}],
            }
        }
    ]
}


MEASURED: dict[str, list[Any]] = {
    "arrived_at": [0.0, 0.5, 1.0],
    "num_prompt_tokens": [50, 60, 70],
    "num_output_tokens": [3, 1, 2],
    "scheduled_at": [0.1, 0.6, 1.1],
    "ttft": [0.2, 0.3, 0.2],
    "e2e": [0.4, 0.3, 0.3],
}
BENCH: dict[str, Any] = {
    "duration": 2.5,
    "request_rate": "inf",
    "burstiness": 1.0,
    "max_concurrency": 2,
    "request_throughput": 1.5,
    "input_lens": [50, 60, 70],
    "output_lens": [3, 1, 2],
    "ttfts": [0.2, 0.3, 0.2],
    "itls": [[0.1, 0.1], [], [0.1]],
    "start_times": [7.5, 8.0, 8.5],
    "errors": ["", "", "late"],
}
REPORT: dict[str, Any] = {
    "benchmarks": [
        {
            "config": {"strategy": {"type_": "concurrent", "streams": 2}},
            "requests": {
                "successful": [
                    {
                        "request_id": "x",
                        "request_start_time": 7.5,
                        "request_latency": 0.4,
                        "time_to_first_token_ms": 200.0,
                        "prompt_tokens": 50,
                        "output_tokens": 3,
                    },
                    {
                        "request_id": "y",
                        "info": {"timings": {"request_start": 8.0, "first_token_iteration": 8.2, "request_end": 8.5}},
                        "input_metrics": {"total_tokens": 60},
                        "output_metrics": {"total_tokens": 2},
                    },
                ],
                "errored": [{"request_id": "z"}],
            },
        }
    ]
}


def _changed_or_damaged(random: Random, document: dict[str, Any], write: Callable[[Any], bytes]) -> bytes:
    content = write(changed(random, document))
    return damaged(random, content) if random.random() < 0.2 else content


def deployment(random: Random, folder: Path) -> list[str]:
    """A deployment file, which is launched or simulated."""
    suffix, write = random.choice(((".yaml", as_yaml), (".json", as_json)))
    file = folder / f"d{suffix}"
    words = random.sample(sorted(flags.NAMES | set(flags.SHORT)), 2) if random.random() < 0.3 else []
    given = DEPLOYMENT | {word: random.choice((True, 2, "auto", "32k")) for word in words}
    file.write_bytes(_changed_or_damaged(random, given, write))
    (folder / "w.csv").write_bytes(CSV)
    kubernetes = ["--kubernetes"] if random.random() < 0.5 else []
    return random.choice((["launch", str(file), *kubernetes], ["simulate", str(file), str(folder / "w.csv")]))


def model(random: Random, folder: Path) -> list[str]:
    """The config.json of a model: one with all usual fields, or a published one, in every third input."""
    known = random.choice(PUBLISHED) if random.random() < 0.3 else MODEL
    (folder / "config.json").write_bytes(_changed_or_damaged(random, known, as_json))
    (folder / "d.yaml").write_bytes(as_yaml({"model": str(folder), "device": "h100"}))
    return ["launch", str(folder / "d.yaml")]


def command(random: Random, folder: Path) -> list[str]:
    """A command of vLLM or SGLang, or a manifest with one; one in ten commands is left whole."""
    line, image = random.choice(((LINE, "vllm/vllm-openai:v0.11.0"), (OF_SGLANG, "lmsysorg/sglang:v0.5.10.post1")))
    if random.random() < 0.1:
        (folder / "start.txt").write_text(line)
        return ["import", str(folder / "start.txt")]
    words = [random.choice(TEXTS) if random.random() < 0.1 else word for word in line.split()]
    pod = {"spec": {"replicas": 2, "containers": [{"image": image, "args": words[2:]}]}}
    write = random.choice((as_yaml, as_json))
    text = shlex.join(words).encode() if random.random() < 0.5 else _changed_or_damaged(random, pod, write)
    (folder / "start.txt").write_bytes(damaged(random, text) if random.random() < 0.3 else text)
    return ["import", str(folder / "start.txt")]


def device(random: Random, folder: Path) -> list[str]:
    """A device file."""
    (folder / "gpu.yaml").write_bytes(_changed_or_damaged(random, DEVICE, as_yaml))
    (folder / "d.yaml").write_bytes(as_yaml({**DEPLOYMENT, "device": str(folder / "gpu.yaml"), "node": "pcie_gen4"}))
    return ["launch", str(folder / "d.yaml"), *(["--kubernetes"] if random.random() < 0.5 else [])]


def table(random: Random, folder: Path) -> list[str]:
    """A table of requests: CSV, JSON lines or Parquet."""
    suffix = random.choice((".csv", ".jsonl", ".parquet"))
    file = folder / f"w{suffix}"
    if suffix == ".parquet":
        columns = {"arrived_at": [0.0, 1.0], "num_prompt_tokens": [5, 6], "num_output_tokens": [1, 2]}
        columns = changed(random, columns) if random.random() < 0.5 else columns
        try:
            pq.write_table(pa.table(columns), file)
        except (pa.ArrowException, TypeError, ValueError, AttributeError, OverflowError):
            file.write_bytes(b"PAR1")
        if random.random() < 0.5:
            file.write_bytes(damaged(random, file.read_bytes()))
    else:
        file.write_bytes(damaged(random, CSV if suffix == ".csv" else JSONL))
    (folder / "d.yaml").write_bytes(as_yaml(DEPLOYMENT))
    return random.choice(
        (
            ["trace", "describe", str(file)],
            ["simulate", str(folder / "d.yaml"), str(file)],
            ["trace", "convert", str(file), str(folder / "out.csv")],
        )
    )


def published(random: Random, folder: Path) -> list[str]:
    """A file of requests in a published layout, or as a benchmark writes it."""
    kind = random.choice(("csv", "jsonl", "json"))
    if kind == "csv":
        content = damaged(random, random.choice((AZURE, BURSTGPT)))
    elif kind == "jsonl":
        row = random.choice((MOONCAKE, AIPERF))
        rows = [as_json(changed(random, row) if random.random() < 0.3 else row) for _ in range(3)]
        content = b"\n".join(b" ".join(each.split()) for each in rows)
        content = damaged(random, content) if random.random() < 0.3 else content
    else:
        content = _changed_or_damaged(random, random.choice((VLLM, GUIDELLM)), as_json)
    file = folder / f"w.{kind}"
    file.write_bytes(content)
    (folder / "d.yaml").write_bytes(as_yaml(DEPLOYMENT))
    unit = ["--unit", random.choice(("s", "ms", "ns", "h"))] if random.random() < 0.2 else []
    too_long = ["--too-long", random.choice(("drop", "clip"))]
    return random.choice(
        (
            ["trace", "describe", str(file), *unit],
            ["simulate", str(folder / "d.yaml"), str(file), *too_long, *unit],
            ["trace", "convert", str(file), str(folder / f"out.{random.choice(('csv', 'jsonl', 'parquet'))}"), *unit],
        )
    )


def measured(random: Random, folder: Path) -> list[str]:
    """A measured run: the result of a benchmark, a report, or a table."""
    kind = random.choice(("json", "csv", "parquet"))
    file = folder / f"m.{kind}"
    if kind == "json":
        file.write_bytes(_changed_or_damaged(random, random.choice((BENCH, REPORT)), as_json))
    elif kind == "csv":
        rows = [",".join(MEASURED), *(",".join(map(str, row)) for row in zip(*MEASURED.values(), strict=True))]
        file.write_bytes(damaged(random, "\n".join(rows).encode()))
    else:
        pq.write_table(pa.table(MEASURED), file)
        _change_parquet(random, file)
    (folder / "deployment.yaml").write_bytes(as_yaml(DEPLOYMENT))
    more = random.choice(([], ["--json"], ["--users", "2"], ["--rate", "3"], ["--out", str(folder / "out")]))
    return ["validate", str(file), *more]


def workload(random: Random, folder: Path) -> list[str]:
    """A description of a workload."""
    described = random.choice((WORKLOAD, QUANTILES, SHARED, TENANTS))
    (folder / "w.yaml").write_bytes(_changed_or_damaged(random, described, as_yaml))
    return ["trace", random.choice(("describe", "synthesise")), str(folder / "w.yaml")]


def space(random: Random, folder: Path) -> list[str]:
    """A space of configurations, which is swept or searched."""
    (folder / "space.yaml").write_bytes(_changed_or_damaged(random, SPACE, as_yaml))
    out = ["--out", str(folder / "out")]
    if random.random() < 0.8:
        return ["sweep", str(folder / "space.yaml"), *out]
    return ["search", str(folder / "space.yaml"), "--requests", "5", "--budget", random.choice(("2", "$9", "16 GPUs"))]


def objective(random: Random, folder: Path) -> list[str]:
    """A latency objective, or a time to exclude."""
    option, valid = random.choice((("--slo", "ttft:p90<2s"), ("--exclude", "1s,2s")))
    text = damaged(random, valid.encode()).decode(errors="replace") if random.random() < 0.9 else valid
    return ["simulate", *_simulated(folder), option, text]


def _simulated(folder: Path) -> list[str]:
    (folder / "d.yaml").write_bytes(as_yaml(DEPLOYMENT))
    (folder / "w.csv").write_bytes(CSV)
    return [str(folder / "d.yaml"), str(folder / "w.csv")]


def condition(random: Random, folder: Path) -> list[str]:
    """A condition of a space."""
    fields = ("num_gpus", "scheduler.max_num_seqs", "seed", "tensor_parallel_size", "max_model_len", "device", "dtype")
    numbers = ("1", "1.5", "0", "1e308", "9" * 400, "0x" + "f" * 400, "-1")
    others = ("null", "true", "'a100'", "[1, 2]", "1j", "b'x'", "f'{1}'", "(", ")", "not ", ".", "[0]", " if ", "()")
    signs, comparisons = (" + ", " * ", " / ", " // ", " % ", " - ", " ** "), (" < ", " == ", " >= ", " != ", " in ")
    operands = random.choice(((*fields[:5], *numbers), (*fields, *numbers, *others)))
    text = "".join(
        f"{random.choice(operands)}{random.choice(signs)}{random.choice(operands)}{random.choice(comparisons)}"
        f"{random.choice(operands)}{random.choice((' and ', ' or ', ' + '))}"
        for _ in range(random.randint(1, 3))
    )
    text = text.rpartition(" ")[0].rpartition(" ")[0] if random.random() < 0.9 else text
    (folder / "space.yaml").write_bytes(as_yaml({**SPACE, "where": [text]}))
    return ["sweep", str(folder / "space.yaml"), "--out", str(folder / "out")]


def tables(random: Random, folder: Path) -> list[str]:
    """Operator times of ``tables:DIR``."""
    shutil.copytree(_tables(), folder / "tables")
    files = sorted((folder / "tables").iterdir())
    file = random.choice(files)
    if file.suffix == ".json":
        file.write_bytes(_changed_or_damaged(random, TABLES_META, as_json))
    else:
        _change_parquet(random, file)
    (folder / "d.yaml").write_bytes(
        as_yaml({**DEPLOYMENT, "num_replicas": 1, "predictor": {"source": f"tables:{folder / 'tables'}"}})
    )
    return ["explain", str(folder / "d.yaml"), "--decode", "4@60"]


@cache
def _temporary() -> TemporaryDirectory[str]:
    """Return a folder that is removed when the process ends."""
    return TemporaryDirectory(prefix="fuzz-")


def _folder(name: str) -> Path:
    return Path(_temporary().name) / name


@cache
def _tables() -> Path:
    """Return a folder of small valid tables."""
    folder = _folder("tables")
    folder.mkdir()
    (folder / "meta.json").write_text(json.dumps(TABLES_META))
    tokens = np.arange(1, 21)

    def write(name: str, **columns: Any) -> None:
        pq.write_table(pa.table(columns), folder / f"{name}.parquet")

    for name in (*LAYER_OPERATORS, "all_reduce", "send_recv"):
        write(name, num_tokens=tokens, ms=tokens / 7)
    batch, kv = (grid.ravel() for grid in np.mgrid[1:5, 0:3])
    write("attn_decode", batch_size=batch, kv_cache_size=kv * 64, ms=np.ones(12))
    kv, chunk = (grid.ravel() for grid in np.mgrid[0:3, 1:21])
    write("attn_prefill", kv_cache_size=kv * 64, prefill_chunk_size_squared=chunk**2, ms=np.ones(60))
    return folder


def _change_parquet(random: Random, file: Path) -> None:
    """Change a column of a Parquet file, or some of its bytes."""
    read = pq.read_table(file)
    index = random.randrange(read.num_columns)
    name, column = read.column_names[index], read.column(index)
    match random.randrange(6):
        case 0:
            file.write_bytes(damaged(random, file.read_bytes()))
            return
        case 1:
            read = read.append_column(name, column)
        case 2:
            read = read.remove_column(index)
        case 3:
            values: list[Any] = column.to_pylist()
            values[random.randrange(len(values))] = random.choice((None, *FLOATS, *NUMBERS[:8]))
            try:
                read = read.set_column(index, name, pa.array(values))
            except (pa.ArrowException, OverflowError):
                read = read.set_column(index, name, pa.nulls(len(values)))
        case 4:
            read = read.set_column(index, name, column.cast("string"))
        case _:
            read = read.slice(0, random.choice((0, 1)))
    pq.write_table(read, file)


def result(random: Random, folder: Path) -> list[str]:
    """The folder of a result."""
    out = folder / "out"
    shutil.copytree(_result(), out)
    file = random.choice(sorted(out.iterdir()))
    if file.suffix == ".json":
        file.write_bytes(_changed_or_damaged(random, json.loads(file.read_text()), as_json))
    else:
        _change_parquet(random, file)
    return random.choice(
        (
            ["result", "show", str(out)],
            ["result", "show", "--json", str(out)],
            ["result", "series", str(out)],
            ["report", str(out), "-o", str(folder / "report.html")],
            ["timeline", str(out), "-o", str(folder / "trace.json.gz")],
            ["compare", str(out), str(_result())],
            ["launch", str(out)],
        )
    )


@cache
def _result() -> Path:
    """Return the folder of a small result."""
    folder = _folder("result")
    fastsim.simulate(fastsim.Deployment.load(DEPLOYMENT), WORKLOAD, iterations=True).save(folder)
    return folder


def arguments(random: Random, folder: Path) -> list[str]:
    """The arguments of a command."""
    given = _simulated(folder)
    (folder / "space.yaml").write_bytes(as_yaml(SPACE))
    lines = (
        [
            "simulate",
            *given,
            "--set",
            "scheduler.max_num_seqs=8",
            "--rate",
            "2",
            "--requests",
            "4",
            "--replicates",
            "1",
        ],
        ["simulate", *given, "--out", str(folder / "out"), "--slo", "ttft:p90<2s", "--exclude", "1s"],
        ["explain", given[0], "--prefill", "512@0,512@4096", "--decode", "64@1500"],
        ["launch", given[0], "--engine", "sglang", "--kubernetes", "--image", "x"],
        ["trace", "synthesise", "chat", "--requests", "4", "--rate", "2", "--seed", "3"],
        ["trace", "convert", given[1], str(folder / "out.jsonl")],
        ["result", "series", str(_result()), "--every", "1s"],
        ["result", "show", str(_result())],
        ["timeline", str(_result()), "--from", "0", "--to", "1", "--every", "2", "-o", str(folder / "t.json")],
        ["compare", str(_result()), str(_result()), "--top", "2", "--slo", "ttft:p90<2s"],
        ["report", str(_result()), "-o", str(folder / "r.html")],
        ["sweep", str(folder / "space.yaml"), "--out", str(folder / "out")],
        ["catalog", "models"],
    )
    line = list(random.choice(lines))
    for _ in range(random.randint(1, 2)):
        at = random.randrange(1, len(line))
        text = random.choice((*TEXTS, *map(str, FLOATS), *map(str, NUMBERS[:-1])))
        if text in ("/", "..", "."):  # where this would write
            continue
        before, equals, _ = line[at].partition("=")
        if line[at].startswith("/"):  # never the name of a file elsewhere
            line[at] = text
        else:
            other = damaged(random, line[at].encode()).decode(errors="replace")
            line[at] = random.choice((text, f"{before}{equals}{text}", other))
    return [argument.replace("\0", "") for argument in line]  # as no operating system passes it on


SUBJECTS: tuple[Callable[[Random, Path], list[str]], ...] = (
    deployment,
    model,
    command,
    device,
    table,
    published,
    measured,
    workload,
    space,
    objective,
    condition,
    tables,
    result,
    arguments,
)

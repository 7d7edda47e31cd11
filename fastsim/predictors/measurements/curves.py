"""Operators that need no forest: measured curves of all-reduce and all-to-all, and the speed of small kernels."""

from typing import Any

import numpy as np

from .aiconfigurator import PROVENANCE, data_folder, find_system, read_table

SLOWER_TABLES = {"rtx_pro_6000_server": "0.19.0"}  # measured on two GPUs with another PCIe topology
# The all-reduce of vLLM before 0.11, which took its own kernel at any size (vllm-project/vllm#24111 added another).
# vLLM's own rows of it are unsound: on 8 H200 1 MB takes longer than 2 MB, and on 8 H100 128 MB take 1.2 times as long
# as in five other runs. Those of SGLang are taken, which has the same kernel: up to 2 MB they agree within 2 %.
BEFORE_0_11 = dict.fromkeys(("h100_sxm", "h200_sxm"), ("sglang", "0.5.10"))
SGLANG, TRTLLM = ("0.5.10", "0.5.14"), "1.3.0rc20"
OUTLIER = 1.5
NVLINK = ("h100_sxm", "h200_sxm", "b200_sxm")
A2A_VERSION = {"h100_sxm": "0.24.0", "h200_sxm": "0.24.0", "b200_sxm": "0.24.0"}
NCCL_VERSION = {
    "a100_sxm": "2.27.3",
    "h100_sxm": "2.29.2",
    "h200_sxm": "2.29.2",
    "b200_sxm": "2.29.2",
    "l40s": "2.27.3",
    "rtx_pro_6000_server": "2.29.2",
}
LOW_LATENCY, HIGH_THROUGHPUT = "deepep_ll", "deepep_ht"
EFFICIENCY, LAUNCH_MS = 0.8, 0.002  # where nothing is measured
QUANTISE_BYTES = 3  # per element: bf16 read, fp8 written
BIG_BYTES, SMALL_BYTES = 4e8, 1e5

Curves = dict[str, dict[str, list[list[float]]]]


def _curves(name: str, version: str, framework: str = "vllm") -> Curves:
    path = data_folder() / name / "comm" / framework / version / "custom_allreduce_perf.parquet"
    keys = ["num_gpus", "message_size"]  # message_size counts elements
    curves: Curves = {}
    for mode in ("graph", "eager"):
        # TensorRT-LLM's were timed in one way only, and have no such column.
        table = read_table(path, keys, allreduce_dtype="bfloat16", backend=f"{framework}_{mode}")
        rows = sorted(zip(*(table[key].to_pylist() for key in (*keys, "latency")), strict=True))
        curves[mode] = {}
        for gpus, elements, ms in rows:
            curves[mode].setdefault(str(gpus), []).append([elements, ms])
        curves[mode] = {gpus: _without_outliers(curve) for gpus, curve in curves[mode].items()}
    return curves


def _without_outliers(curve: list[list[float]]) -> list[list[float]]:
    """A curve without points that take over OUTLIER times as long as the points on both of their sides."""
    near = zip([curve[0], *curve], curve, [*curve[1:], curve[-1]], strict=False)
    return [one for left, one, right in near if one[1] <= OUTLIER * max(left[1], right[1])]


def all_reduce(name: str) -> dict[str, Any]:
    """The card of vLLM's all-reduce: mode -> number of GPUs -> [elements, ms]; others: those of other frameworks."""
    system = find_system(name)
    card = {
        "family": "all_reduce",
        "system": name,
        "precision": "bf16",
        "curves": _curves(name, system.all_reduce),
        "units": "mode -> GPUs -> [elements, ms]; graph: inside a CUDA graph, eager: launched one by one",
        "link_gb_s": system.link_gb_s,
        "source": {"rows": PROVENANCE, "frameworks": [f"vllm {system.all_reduce}"]},
    }
    if name in SLOWER_TABLES:
        # The GPUs of this machine reach each other through another socket, 2.3 to 5 times slower: the link is an input.
        card["slower_link"] = {"curves": _curves(name, SLOWER_TABLES[name]), "vllm": SLOWER_TABLES[name]}
    if name in NVLINK:
        card["others"] = _others(name)
    return card


def _others(name: str) -> list[dict[str, Any]]:
    """The curves of other frameworks and of older releases, the oldest first."""
    others: list[dict[str, Any]] = []
    if name in BEFORE_0_11:
        framework, version = BEFORE_0_11[name]
        others.append({"framework": "vllm", "before": [0, 11], "rows": f"{framework} {version}"})
        others[-1]["curves"] = _curves(name, version, framework)
    for version in SGLANG:
        others.append({"framework": "sglang", "since": [int(part) for part in version.split(".")]})
        others[-1] |= {"rows": f"sglang {version}", "curves": _curves(name, version, "sglang")}
    return [*others, {"framework": "trtllm", "rows": f"trtllm {TRTLLM}", "curves": _curves(name, TRTLLM, "trtllm")}]


def all_to_all(name: str) -> dict[str, Any] | None:
    """The card of the exchange of tokens among experts on the 8 GPUs of a node; None where it was not measured.

    Kind (decode: low latency, prefill: high throughput) -> phase -> [tokens of a GPU, hidden, topk, ms].
    """
    if name not in A2A_VERSION:
        return None
    path = data_folder() / name / "comm" / "vllm" / A2A_VERSION[name] / "moe_a2a_perf.parquet"
    keys = ["num_tokens", "hidden_size", "topk"]
    curves: Curves = {}
    for kind, backend in (("decode", LOW_LATENCY), ("prefill", HIGH_THROUGHPUT)):
        curves[kind] = {}
        for phase in ("dispatch", "combine"):
            table = read_table(path, keys, comm_backend=backend, phase=phase, ep_size=8, node_num=1)
            rows = sorted(zip(*(table[key].to_pylist() for key in (*keys, "latency")), strict=True))
            # Unlike the others this table is in microseconds: its column latency equals transmit_us.
            curves[kind][phase] = [[*shape, us / 1000] for *shape, us in rows]
    return {
        "family": "moe_a2a",
        "system": name,
        "precision": "bf16",
        "gpus": 8,
        "curves": curves,
        "units": "decode | prefill -> dispatch | combine -> [tokens of one GPU, hidden, topk, ms]",
        "source": {"rows": PROVENANCE, "frameworks": [f"vllm {A2A_VERSION[name]}"]},
    }


def gather_scatter(name: str) -> dict[str, Any] | None:
    """The card of NCCL's all-gather and reduce-scatter: operation -> number of GPUs -> [elements, ms].

    ``elements`` are those of all GPUs together, in 16 bits. None where they were not measured.
    """
    if name not in NCCL_VERSION:
        return None
    path = data_folder() / name / "comm" / "nccl" / NCCL_VERSION[name] / "nccl_perf.parquet"
    keys = ["num_gpus", "message_size"]
    curves: Curves = {}
    for operation in ("all_gather", "reduce_scatter"):
        table = read_table(path, keys, nccl_dtype="half", op_name=operation)
        rows = sorted(zip(*(table[key].to_pylist() for key in (*keys, "latency")), strict=True))
        curves[operation] = {}
        for gpus, elements, ms in rows:
            curves[operation].setdefault(str(gpus), []).append([elements, ms])
    return {
        "family": "gather_scatter",
        "system": name,
        "precision": "bf16",
        "curves": curves,
        "units": "operation -> GPUs -> [elements of all GPUs, ms]",
        "link_gb_s": find_system(name).link_gb_s,
        "source": {"rows": PROVENANCE, "frameworks": [f"nccl {NCCL_VERSION[name]}"]},
    }


def elementwise(name: str) -> dict[str, Any]:
    """The card of small kernels: ms = launch_ms + bytes / (efficiency * DRAM bandwidth).

    It is fitted to the one such kernel that is measured, bf16 to fp8 with a given scale: the efficiency to arrays
    larger than any cache, the launch to nearly empty arrays. Where the kernel was not measured, defaults are used.
    """
    system = find_system(name)
    card = {
        "family": "elementwise",
        "system": name,
        "units": "efficiency: of DRAM bandwidth; launch_ms: per kernel inside a CUDA graph",
    }
    path = data_folder() / name / "quantize" / "vllm" / system.vllm / "scale_matrix_perf.parquet"
    if not path.exists():
        return {**card, "efficiency": EFFICIENCY, "launch_ms": LAUNCH_MS, "source": {"rows": "default, not measured"}}
    table = read_table(path, ["m", "k"], quant_dtype="fp8")
    moved = QUANTISE_BYTES * table["m"].to_numpy().astype(np.float64) * table["k"].to_numpy()
    ms = table["latency"].to_numpy()
    sustained = float(np.median(moved[moved > BIG_BYTES] / ms[moved > BIG_BYTES])) / 1e6
    return {
        **card,
        "efficiency": round(sustained / system.chip.bandwidth_gb_s, 3),
        "launch_ms": round(float(np.median(ms[moved < SMALL_BYTES])), 5),
        "source": {"rows": PROVENANCE, "frameworks": [f"vllm {system.vllm}"]},
    }

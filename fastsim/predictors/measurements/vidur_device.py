"""What Vidur's profiles hold of one GPU, over all models and tensor parallel sizes: what its forests are trained on."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fastsim.errors import TableError
from fastsim.predictors.chip import Floats

from .curves import LAUNCH_MS
from .records import Records, checked
from .small_kernels import fitted
from .vidur import BYTES, Columns, profiling, read, times_of

SHAPE = ("n_embd", "n_head", "n_kv_head", "n_expanded_embd", "num_tokens", "num_tensor_parallel_workers")
GEMMS = ("attn_pre_proj", "attn_post_proj", "mlp_up_proj", "mlp_down_proj")
SMALL = ("input_layernorm", "post_attention_layernorm", "add", "mlp_act", "attn_rope")
POINTS = 24  # of each curve of send times


def gemms(folder: Path, device: str) -> Records:
    """The projections of every mlp.csv of a device, as products (m, n, k) in 16 bits.

    Raises TableError for a folder that is no checkout of Vidur, and for files that are missing or cannot be read.
    """
    shapes, times = [], []
    for path in _files(folder, device):
        for gated in _gated(path):
            columns = read(path, [*SHAPE, *map(_median, GEMMS)], {"use_gated_mlp": gated})
            for name, (n, k) in _products(columns, gated).items():
                ms = times_of(path, columns, _median(name))
                shapes.append(np.column_stack([columns["num_tokens"], n, k])[ms > 0])
                times.append(ms[ms > 0])
    return checked(
        Records(
            "gemm", device, "bf16", ("vidur",), np.concatenate(shapes), np.concatenate(times), _source(folder, device)
        )
    )


def elementwise(folder: Path, device: str, bandwidth_gb_s: float) -> dict[str, Any] | None:
    """The card of small kernels: norms, additions, activations and rope; None where no speed can be fitted.

    Vidur times each kernel alone, without the gap before it, so the launch is not taken to be below LAUNCH_MS.
    """
    moved, times = [], []
    for path in _files(folder, device):
        for gated in _gated(path):
            columns = read(path, [*SHAPE, *map(_median, SMALL)], {"use_gated_mlp": gated})
            for name, width in _moved(columns, gated).items():
                ms = times_of(path, columns, _median(name))
                moved.append((width * columns["num_tokens"])[ms > 0])
                times.append(ms[ms > 0])
    source = {"rows": _source(folder, device), "frameworks": ["vidur"]}
    card = fitted(np.concatenate(moved), np.concatenate(times), device, bandwidth_gb_s, source)
    return None if card is None else card | {"launch_ms": max(card["launch_ms"], LAUNCH_MS)}


def sends(folder: Path, device: str) -> dict[str, Any] | None:
    """The card of sends between two GPUs: node -> inside it or between two -> [bytes, ms]; None where none is there."""
    curves: dict[str, dict[str, list[list[float]]]] = {}
    for path in sorted((profiling(folder) / "network").glob(f"{device}_*/send_recv.csv")):
        columns = read(path, ["size", "devices_per_node", _median("send_recv")], {"num_workers": 2})
        ms = times_of(path, columns, _median("send_recv"))
        curves[path.parent.name] = {
            where: _thinned(columns["size"][rows], ms[rows])
            for where, count in (("inside", 2), ("between", 1))
            if (rows := columns["devices_per_node"] == count).any()
        }
    if not curves:
        return None
    return {
        "family": "send_recv",
        "system": device,
        "precision": "bf16",
        "curves": curves,
        "units": "node -> inside it or between two of them -> [bytes, ms]",
        "source": {"rows": _source(folder, device), "frameworks": ["vidur"]},
    }


def _files(folder: Path, device: str) -> list[Path]:
    root = profiling(folder) / "compute"
    paths = sorted((root / device).glob("*/*/mlp.csv"))
    if not paths:
        have = ", ".join(sorted(path.name for path in root.iterdir() if path.is_dir())) or "none"
        raise TableError(f"{root}: has no mlp.csv of a device {device!r}; it has devices {have}")
    return paths


def _gated(path: Path) -> Iterator[bool]:
    """Whether the MLPs of a file are gated; a file may hold both kinds."""
    for gated in (True, False):
        try:
            read(path, ["num_tokens"], {"use_gated_mlp": gated})
        except TableError as problem:
            if "no rows for use_gated_mlp" not in str(problem):
                raise
        else:
            yield gated


def _products(columns: Columns, gated: bool) -> dict[str, tuple[Floats, Floats]]:
    """The sizes n and k of each projection on one GPU, float64[rows] each."""
    heads, kv_heads, dim, ffn = _per_gpu(columns)
    hidden = columns["n_embd"]
    return {
        "attn_pre_proj": ((heads + 2 * kv_heads) * dim, hidden),
        "attn_post_proj": (hidden, heads * dim),
        "mlp_up_proj": ((2 if gated else 1) * ffn, hidden),
        "mlp_down_proj": (hidden, ffn),
    }


def _moved(columns: Columns, gated: bool) -> dict[str, Floats]:
    """Bytes that each small kernel reads and writes for one token, float64[rows]."""
    heads, kv_heads, dim, ffn = _per_gpu(columns)
    return {
        "input_layernorm": 2 * BYTES * columns["n_embd"],
        "post_attention_layernorm": 2 * BYTES * columns["n_embd"],
        "add": 3 * BYTES * columns["n_embd"],
        "mlp_act": (3 if gated else 2) * BYTES * ffn,
        "attn_rope": 2 * BYTES * (heads + kv_heads) * dim,
    }


def _per_gpu(columns: Columns) -> tuple[Floats, Floats, Floats, Floats]:
    """Heads, KV heads, head size and width of the MLP on one GPU."""
    tp = columns["num_tensor_parallel_workers"]
    dim = columns["n_embd"] / columns["n_head"]
    return columns["n_head"] / tp, np.maximum(1, columns["n_kv_head"] // tp), dim, columns["n_expanded_embd"] / tp


def _thinned(size: Floats, ms: Floats) -> list[list[float]]:
    """Medians of groups of points, by logarithm of their size."""
    edges = np.geomspace(size.min(), size.max() * 1.001, POINTS + 1)
    groups = np.digitize(size, edges)
    return [
        [float(np.median(size[groups == group])), round(float(np.median(ms[groups == group])), 4)]
        for group in np.unique(groups)
    ]


def _source(folder: Path, device: str) -> str:
    models = ", ".join(sorted({path.parent.name for path in _files(folder, device)}))
    return f"Vidur's profiles (github.com/microsoft/vidur, MIT): {device}, {models}"


def _median(name: str) -> str:
    return f"time_stats.{name}.median"

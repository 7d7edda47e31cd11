"""Operator measurements of aiconfigurator-core (NVIDIA, Apache-2.0): GPU kernel times anyone can install.

The Parquet files are read as files: importing the package would load its native library.
"""

import importlib.metadata
import importlib.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fastsim.errors import CatalogError, TableError, did_you_mean

from .roofline import Chip, Floats

PACKAGE, VERSION, LICENCE = "aiconfigurator-core", "0.12.0", "Apache-2.0"
INSTALL = 'pip install "fastsim[aic]"'


@dataclass(frozen=True, slots=True)
class System:
    """A machine with tables: its chip, the link between its GPUs (GB/s, one way), the tables' versions."""

    chip: Chip
    link_gb_s: float
    vllm: str
    sglang: str


SYSTEMS = {
    "a100_sxm": System(Chip(312.0, 2039.0, 108), 300.0, "0.14.0", "0.5.10"),
    "h100_sxm": System(Chip(989.0, 3350.0, 132), 450.0, "0.24.0", "0.5.14"),
}


@dataclass(frozen=True, slots=True)
class Measured:
    """Times of one operator: ``shape`` float64[rows, columns] as in roofline.SHAPES, ``ms`` float64[rows]."""

    operator: str
    shape: Floats
    ms: Floats
    frameworks: tuple[str, ...]


def find_system(name: str) -> System:
    """The system of that name; CatalogError otherwise."""
    if name not in SYSTEMS:
        raise CatalogError(f"device: {name!r} has no tables we train on; {did_you_mean(name, SYSTEMS)}")
    return SYSTEMS[name]


def data_folder() -> Path:
    """Where the package keeps its tables; TableError when it is absent or not the version we know."""
    spec = importlib.util.find_spec("aiconfigurator_core")
    if spec is None or not spec.submodule_search_locations:
        raise TableError(f"source aic: {PACKAGE} is not installed; {INSTALL}")
    version = importlib.metadata.version(PACKAGE)
    if version != VERSION:
        raise TableError(f"source aic: {PACKAGE} {version} is installed, {VERSION} is known; {INSTALL}")
    return Path(spec.submodule_search_locations[0]) / "systems" / "data"


def _read(path: Path, columns: list[str], **equal: str | int) -> pa.Table:
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as problem:
        reason = str(problem).splitlines()[0]
        raise TableError(f"{path}: {PACKAGE} {VERSION} should hold this table ({reason}); {INSTALL}") from None
    missing = [name for name in (*columns, "latency") if name not in table.column_names]
    if missing:
        raise TableError(f"{path}: column {missing[0]!r} is missing; {PACKAGE} {VERSION} has it, {INSTALL}")
    for name, value in equal.items():
        # A table of one window size, or head width, may leave the column out.
        if name in table.column_names:
            table = table.filter(pc.equal(table[name], pa.scalar(value)))
    if not table.num_rows:
        raise TableError(f"{path}: no rows with {equal}; {PACKAGE} {VERSION} has some, {INSTALL}")
    return table


def _columns(table: pa.Table, names: list[str]) -> Floats:
    return np.column_stack([table[name].to_numpy().astype(np.float64) for name in names])


def _gemm(name: str, system: System) -> Measured:
    """Geometric mean of both frameworks: they call the same library, and their noise is 10 %.

    A shape that only one of them holds is moved by half their mean distance on common shapes.
    """
    root, keys = data_folder() / name / "gemm", ["m", "n", "k"]
    times = []
    for framework, version in (("vllm", system.vllm), ("sglang", system.sglang)):
        table = _read(root / framework / version / "gemm_perf.parquet", keys, gemm_dtype="bfloat16")
        shapes = _columns(table, keys)
        times.append(dict(zip(map(tuple, shapes.tolist()), np.log(table["latency"].to_numpy()), strict=True)))
    vllm, sglang = times
    half = float(np.mean([vllm[shape] - sglang[shape] for shape in vllm if shape in sglang])) / 2
    rows = sorted({**vllm, **sglang})
    logs = [
        (vllm.get(shape, sglang.get(shape, 0.0) + 2 * half) + sglang.get(shape, vllm.get(shape, 0.0) - 2 * half)) / 2
        for shape in rows
    ]
    used = (f"vllm {system.vllm}", f"sglang {system.sglang}")
    return Measured("gemm", np.array(rows), np.exp(np.array(logs)), used)


def _attention(name: str, system: System, operator: str) -> Measured:
    """vLLM's rows alone: frameworks use different kernels. They hold the writing of the KV cache, no rope."""
    kind = "context" if operator == "prefill_attention" else "generation"
    path = data_folder() / name / "attention" / "vllm" / system.vllm / f"{kind}_attention_perf.parquet"
    keys = ["batch_size", "isl", "num_heads", "num_key_value_heads", "head_dim"]
    table = _read(path, [*keys, "step"], attn_dtype="bfloat16", kv_cache_dtype="bfloat16", window_size=0, beam_width=1)
    table = table.filter(pc.less_equal(table["head_dim"], pa.scalar(256)))  # wider heads run another kernel
    shape = _columns(table, keys)
    if kind == "generation":
        shape[:, 1] += table["step"].to_numpy()
    order = np.lexsort(shape.T[::-1])
    return Measured(operator, shape[order], table["latency"].to_numpy()[order], (f"vllm {system.vllm}",))


def read(name: str, operator: str) -> Measured:
    """All bf16 rows of ``operator`` (a key of roofline.SHAPES) on the system ``name``, sorted by shape."""
    system = find_system(name)
    measured = _gemm(name, system) if operator == "gemm" else _attention(name, system, operator)
    if not ((measured.ms > 0) & np.isfinite(measured.ms)).all():
        raise TableError(f"{PACKAGE} {VERSION}: {name}: {operator}: a time is not positive; {INSTALL}")
    return measured


def read_all_reduce(name: str) -> dict[str, dict[str, list[list[float]]]]:
    """``graph`` and ``eager`` -> number of GPUs -> [elements, ms] rows, of vLLM's own all-reduce."""
    version = find_system(name).vllm
    path = data_folder() / name / "comm" / "vllm" / version / "custom_allreduce_perf.parquet"
    keys = ["num_gpus", "message_size"]  # message_size counts elements
    curves: dict[str, dict[str, list[list[float]]]] = {}
    for mode in ("graph", "eager"):
        table = _read(path, keys, allreduce_dtype="bfloat16", backend=f"vllm_{mode}")
        rows = sorted(zip(*(table[key].to_pylist() for key in (*keys, "latency")), strict=True))
        curves[mode] = {}
        for gpus, elements, ms in rows:
            curves[mode].setdefault(str(gpus), []).append([elements, ms])
    return curves

"""Operator measurements of aiconfigurator-core (NVIDIA, Apache-2.0): GPU kernel times that anyone can install.

Its Parquet files are read directly, because importing the package would load its native library.
"""

import importlib.metadata
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fastsim.errors import CatalogError, TableError, did_you_mean
from fastsim.predictors.chip import PRECISIONS, Chip, Floats
from fastsim.predictors.families import FAMILIES

from .expert_rows import as_gated, not_too_fast, not_too_slow
from .records import Records, checked

PACKAGE, VERSION, LICENCE = "aiconfigurator-core", "0.12.0", "Apache-2.0"
INSTALL = 'pip install "fastsim[aic]"'
PROVENANCE = f"{PACKAGE} {VERSION} ({LICENCE}, NVIDIA aiconfigurator)"
MIN_ROWS = 600  # fewer rows are not enough to learn from
MAX_HEAD_DIM = 256  # wider heads run another kernel
DTYPES = {
    "bf16": "bfloat16",
    "int8": "sq",
    "mxfp4": "w4a16_mxfp4",
}  # fastsim's name -> the package's, where they differ
Source = tuple[str, str]  # framework, version
# The H100 and the H200 have the same SMs and clocks, so that a product which FLOPs bound takes as long on both. In bf16
# their rows of it agree within 2 % on average, in fp8 those of the H100 took 7 to 12 % longer: each counts as the mean.
TWINS = {("h100_sxm", "fp8"): "h200_sxm", ("h200_sxm", "fp8"): "h100_sxm"}
BOUND_BY_FLOPS = 2  # times as long as the bytes, on both
# The attention of other frameworks, on systems that have tables of it which are not thin.
ATTENTION = ("prefill_attention", "decode_attention")
OTHERS = {
    **dict.fromkeys(("h100_sxm", "h200_sxm", "b200_sxm"), ("sglang", "trtllm")),
    "rtx_pro_6000_server": ("trtllm",),
}
# Precisions in which the experts of another framework are taken too: on Blackwell TensorRT-LLM's grouped products by
# CUTLASS, which it runs by default, take twice as long in nvfp4 as the fused kernel that vLLM runs there.
EXPERTS = {(system, "trtllm"): ("bf16", "nvfp4") for system in ("b200_sxm", "rtx_pro_6000_server")}
NOT_DEFAULT = "moe_torch_flow_min_latency"  # a kernel of TensorRT-LLM that has to be asked for
GATED: Source = ("sglang", "0.5.10")  # which timed experts without a gate as if they had one


@dataclass(frozen=True, slots=True)
class Table:
    """The Parquet table of a family in the package.

    Attributes
    ----------
    folder, file : where it is.
    columns : the shape columns, in the order of families.FAMILIES.
    dtype : the column that holds the precision.
    equal : values that other columns must have.
    framework : the framework whose rows are used unless a system says otherwise.
    pooled : precisions whose rows are pooled with SGLang's.
    has_steps : whether the KV tokens are those of the prompt and of the decode steps since.
    """

    folder: str
    file: str
    columns: tuple[str, ...]
    dtype: str
    equal: Mapping[str, str | int] = field(default_factory=dict)
    framework: Literal["vllm", "trtllm"] = "vllm"
    pooled: tuple[str, ...] = ()
    has_steps: bool = False


HEADS = ("batch_size", "isl", "num_heads", "num_key_value_heads", "head_dim")
FULL: Mapping[str, str | int] = {"attn_dtype": "bfloat16", "window_size": 0, "beam_width": 1}
LATENT: Mapping[str, str | int] = {"mla_dtype": "bfloat16"}
TABLES = {
    "gemm": Table("gemm", "gemm_perf", ("m", "n", "k"), "gemm_dtype", pooled=("bf16",)),
    "prefill_attention": Table("attention", "context_attention_perf", HEADS, "kv_cache_dtype", FULL),
    "decode_attention": Table("attention", "generation_attention_perf", HEADS, "kv_cache_dtype", FULL, has_steps=True),
    "moe": Table(
        "moe",
        "moe_perf",
        ("num_tokens", "hidden_size", "inter_size", "num_experts", "topk", "moe_tp_size", "moe_ep_size"),
        "moe_dtype",
        # Evenly spread tokens: the skewed rows are drawn anew for each shape, and imbalance is an input of ours.
        {"distribution": "balanced"},
    ),
    "mla_prefill": Table("mla", "context_mla_perf", HEADS[:3], "kv_cache_dtype", LATENT, "trtllm"),
    "mla_decode": Table("mla", "generation_mla_perf", HEADS[:3], "kv_cache_dtype", LATENT, "trtllm", has_steps=True),
}


@dataclass(frozen=True, slots=True)
class System:
    """A machine with tables: its chip, the link between its GPUs (GB/s, one way), and the versions whose rows are
    used.

    ``vllm``, ``sglang``, ``trtllm``: version of each framework. ``all_reduce``: version of vLLM's curves.
    ``others``: (family, precision) -> framework and version, where vLLM's rows are too few or unsound.
    """

    chip: Chip
    link_gb_s: float
    vllm: str
    sglang: str
    trtllm: str
    all_reduce: str
    others: dict[tuple[str, str], Source]

    def sources(self, family: str, precision: str, framework: str = "") -> list[Source]:
        """Frameworks and versions whose rows are read; several are pooled. ``framework``: that one alone."""
        if framework:
            return [(framework, {"vllm": self.vllm, "sglang": self.sglang, "trtllm": self.trtllm}[framework])]
        if (family, precision) in self.others:
            return [self.others[family, precision]]
        table = TABLES[family]
        own = (table.framework, self.trtllm if table.framework == "trtllm" else self.vllm)
        return [own, ("sglang", self.sglang)] if precision in table.pooled else [own]


# fp8_block GEMM is not vLLM's: it was timed launch by launch, outside of a CUDA graph, so that 64 tokens take 0.09 ms
# (median) on the H100 where the kernels of SGLang and TensorRT-LLM take 0.013. SGLang has no such rows of the L40S.
# Neither are experts in fp8 on Hopper: at 8 to 128 tokens they take 2.4 (H100) and 3.2 times as long as those in bf16.
SYSTEMS = {
    "a100_sxm": System(
        Chip(312.0, 2039.0, 108),
        300.0,
        *("0.14.0", "0.5.10", "1.0.0", "0.14.0"),
        {
            ("gemm", "int8"): ("trtllm", "1.0.0"),
            ("gemm", "int8_wo"): ("trtllm", "1.0.0"),
            ("gemm", "int4_wo"): ("trtllm", "1.0.0"),
            ("moe", "bf16"): ("sglang", "0.5.10"),
            ("moe", "int4_wo"): ("sglang", "0.5.10"),
        },
    ),
    "h100_sxm": System(
        Chip(989.4, 3350.0, 132),
        450.0,
        *("0.24.0", "0.5.14", "1.3.0rc20", "0.24.0"),
        {
            ("gemm", "fp8_block"): ("sglang", "0.5.14"),
            ("moe", "fp8"): ("trtllm", "1.3.0rc20"),
            ("moe", "int4_wo"): ("sglang", "0.5.10"),
        },
    ),
    "h200_sxm": System(
        Chip(989.4, 4800.0, 132),
        450.0,
        *("0.24.0", "0.5.14", "1.3.0rc20", "0.24.0"),
        {
            ("gemm", "fp8_block"): ("sglang", "0.5.14"),
            ("moe", "fp8"): ("trtllm", "1.3.0rc20"),
            ("moe", "int4_wo"): ("sglang", "0.5.10"),
        },
    ),
    "l40s": System(
        Chip(362.05, 864.0, 142),
        32.0,
        *("0.24.0", "0.5.14", "1.0.0", "0.22.0"),
        {("gemm", "fp8_block"): ("trtllm", "1.3.0rc20")},
    ),
    "b200_sxm": System(
        Chip(2250.0, 7700.0, 148),
        900.0,
        *("0.24.0", "0.5.14", "1.3.0rc20", "0.24.0"),
        {("gemm", "fp8_block"): ("sglang", "0.5.14")},
    ),
    "rtx_pro_6000_server": System(Chip(503.8, 1792.0, 188), 64.0, *("0.24.0", "0.5.14", "1.3.0rc20", "0.24.0"), {}),
}


def find_system(name: str) -> System:
    """The system of that name. Raises CatalogError otherwise."""
    if name not in SYSTEMS:
        raise CatalogError(f"device: {name!r} has no tables we train on; {did_you_mean(name, SYSTEMS)}")
    return SYSTEMS[name]


def data_folder() -> Path:
    """The folder of the package's tables. Raises TableError when the package is missing or has another version."""
    spec = importlib.util.find_spec("aiconfigurator_core")
    if spec is None or not spec.submodule_search_locations:
        raise TableError(f"source aic: {PACKAGE} is not installed; {INSTALL}")
    version = importlib.metadata.version(PACKAGE)
    if version != VERSION:
        raise TableError(f"source aic: {PACKAGE} {version} is installed, {VERSION} is known; {INSTALL}")
    return Path(spec.submodule_search_locations[0]) / "systems" / "data"


def read_table(path: Path, columns: Sequence[str], **equal: str | int) -> pa.Table:
    """Rows of a Parquet file in which every column of ``equal`` has the given value; such a column may be absent."""
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as problem:
        reason = str(problem).splitlines()[0]
        raise TableError(f"{path}: {PACKAGE} {VERSION} should hold this table ({reason}); {INSTALL}") from None
    missing = [name for name in (*columns, "latency") if name not in table.column_names]
    if missing:
        raise TableError(f"{path}: column {missing[0]!r} is missing; {PACKAGE} {VERSION} has it, {INSTALL}")
    for name, value in equal.items():
        # A table with a single window size or head width may not have the column.
        if name in table.column_names:
            table = table.filter(pc.equal(table[name], pa.scalar(value)))
    if not table.num_rows:
        raise TableError(f"{path}: no rows with {equal}; {PACKAGE} {VERSION} has some, {INSTALL}")
    return table


def _path(name: str, family: str, source: Source) -> Path:
    table = TABLES[family]
    return data_folder() / name / table.folder / source[0] / source[1] / f"{table.file}.parquet"


def _rows(name: str, family: str, precision: str, source: Source) -> tuple[Floats, Floats]:
    described, path = TABLES[family], _path(name, family, source)
    keys, equal = described.columns, {described.dtype: DTYPES.get(precision, precision), **described.equal}
    table = read_table(path, keys, **equal)
    if "head_dim" in keys:
        table = table.filter(pc.less_equal(table["head_dim"], pa.scalar(MAX_HEAD_DIM)))
    if "kernel_source" in table.column_names:
        table = table.filter(pc.not_equal(table["kernel_source"], pa.scalar(NOT_DEFAULT)))
    shape = np.column_stack([table[key].to_numpy().astype(np.float64) for key in keys])
    if described.has_steps:
        shape[:, 1] += table["step"].to_numpy()
    ms = table["latency"].to_numpy().astype(np.float64)
    if family != "moe":
        return shape, ms
    if source != GATED:
        shape = as_gated(shape)
    chip, kind = find_system(name).chip, PRECISIONS[precision]
    kept = not_too_fast(shape, ms, chip, kind)
    if source[0] == "trtllm":
        kept &= not_too_slow(shape, ms, chip, kind)
    return shape[kept], ms[kept]


def _pooled(parts: list[tuple[Floats, Floats]]) -> tuple[Floats, Floats]:
    """Geometric mean of two frameworks' times, which call the same library and differ by 10 % of noise.

    A shape that only one of them measured is moved by half their mean distance on shapes that both measured.
    """
    first, second = (dict(zip(map(tuple, shape.tolist()), np.log(ms), strict=True)) for shape, ms in parts)
    half = float(np.mean([first[shape] - second[shape] for shape in first if shape in second])) / 2
    rows = sorted({**first, **second})
    logs = [
        (first.get(shape, second.get(shape, 0.0) + 2 * half) + second.get(shape, first.get(shape, 0.0) - 2 * half)) / 2
        for shape in rows
    ]
    return np.array(rows), np.exp(np.array(logs))


def _with_twin(name: str, precision: str, source: Source, shape: Floats, ms: Floats) -> Floats:
    """Times of GEMMs, ms: where FLOPs bound them, the geometric mean with those of a GPU that computes as fast."""
    twin = TWINS[name, precision]
    work = [FAMILIES["gemm"].work(shape, find_system(one).chip, PRECISIONS[precision])[1] for one in (name, twin)]
    bound = np.all([terms["compute"] >= BOUND_BY_FLOPS * terms["memory"] for terms in work], axis=0)
    other_shape, other_ms = _rows(twin, "gemm", precision, source)
    other = dict(zip(map(tuple, other_shape.tolist()), other_ms.tolist(), strict=True))
    same = np.array([other.get(row, own) for row, own in zip(map(tuple, shape.tolist()), ms.tolist(), strict=True)])
    return np.where(bound, np.sqrt(ms * same), ms)


def families_of(name: str, framework: str) -> tuple[str, ...]:
    """The families of which another framework's rows are taken."""
    return (*ATTENTION, *(["moe"] if (name, framework) in EXPERTS else []))


def precisions(name: str, family: str, framework: str = "") -> list[str]:
    """Precisions with enough rows in the system's tables, bf16 first. ``framework``: in its tables alone."""
    system, usable = find_system(name), []
    if family not in FAMILIES:
        raise CatalogError(f"family: {family!r} is not one; {did_you_mean(family, FAMILIES)}")
    for precision in EXPERTS.get((name, framework), PRECISIONS) if family == "moe" else PRECISIONS:
        source = system.sources(family, precision, framework)[0]
        try:
            shape, _ = _rows(name, family, precision, source)
        except TableError:
            if not _path(name, family, source).exists():
                raise
            continue
        if len(shape) >= MIN_ROWS:
            usable.append(precision)
    return usable


def read(name: str, family: str, precision: str = "bf16", framework: str = "") -> Records:
    """All rows of a family and precision on the system ``name``, sorted by shape. Raises TableError where there are
    none.

    ``framework``: its rows alone. bf16 GEMMs are pooled from two frameworks. Attention includes the writing of the KV
    cache but not rope; latent attention is the attention kernel alone, without projections.
    """
    system = find_system(name)
    if family not in FAMILIES:
        raise CatalogError(f"family: {family!r} is not one; {did_you_mean(family, FAMILIES)}")
    sources = system.sources(family, precision, framework)
    parts = [_rows(name, family, precision, source) for source in sources]
    shape, ms = _pooled(parts) if len(parts) > 1 else parts[0]
    if family == "gemm" and (name, precision) in TWINS:
        ms = _with_twin(name, precision, sources[0], shape, ms)
    frameworks = tuple(f"{framework} {version}" for framework, version in sources)
    return checked(Records(family, name, precision, frameworks, shape, ms, PROVENANCE))

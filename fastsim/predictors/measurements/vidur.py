"""``vidur:DIR``: the CSV files of a Vidur checkout (data/profiling).

Layout and columns: microsoft/vidur at 7d47513, data/profiling and sklearn_execution_time_predictor.py.
"""

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.csv

from fastsim.errors import TableError
from fastsim.predictors.chip import Floats

if TYPE_CHECKING:
    from fastsim.catalog.model import Model
    from fastsim.deployment.resolved import Resolved

LFS_POINTER = b"version https://git-lfs"
MLP_OPERATORS = (
    "attn_pre_proj",
    "attn_post_proj",
    "attn_rope",
    "mlp_up_proj",
    "mlp_down_proj",
    "mlp_act",
    "input_layernorm",
    "post_attention_layernorm",
    "add",
)
PARALLEL_OPERATORS = ("post_attention_layernorm",)  # absent where attention and MLP share a norm
HOST_OPERATORS = (
    "schedule_median",
    "sampler_e2e_median",
    "prepare_inputs_e2e_median",
    "process_model_outputs_median",
    "ray_comm_time_mean",
)
BYTES = 2

Columns = dict[str, Floats]


@dataclass(frozen=True, slots=True)
class Files:
    """The profile files of a deployment. ``all_reduce``, ``send_recv`` and ``host`` are None where they are not
    needed.
    """

    mlp: Path
    attention: Path
    all_reduce: Path | None
    send_recv: Path | None
    host: Path | None

    def digest(self) -> str:
        """SHA-256 over the bytes of all files."""
        total = hashlib.sha256()
        for path in (self.mlp, self.attention, self.all_reduce, self.send_recv, self.host):
            if path is not None:
                total.update(path.name.encode() + b"\0" + hashlib.sha256(_bytes(path)).digest())
        return total.hexdigest()


def profiling(folder: Path) -> Path:
    """The profiling folder: ``folder`` may be a checkout, its data folder, or that folder. Raises TableError
    otherwise.
    """
    for path in (folder / "data" / "profiling", folder / "profiling", folder):
        if (path / "compute").is_dir():
            return path
    raise TableError(f"predictor.source: vidur:{folder}: no data/profiling/compute there; give a checkout of Vidur")


def _among(folder: Path, name: str, what: str) -> Path:
    path = folder / name
    if not path.is_dir():
        have = sorted(str(found.parent.relative_to(folder)) for found in folder.rglob("*.csv"))
        raise TableError(f"{folder}: no profiles of {what} {name!r}; it has {', '.join(dict.fromkeys(have)) or 'none'}")
    return path


def find(folder: Path, resolved: "Resolved") -> Files:
    """The files that a deployment needs. Raises TableError, naming the files that exist instead."""
    root = profiling(folder)
    tp, pp = resolved.tensor_parallel_size, resolved.pipeline_parallel_size
    device = _among(root / "compute", resolved.device.name, "device")
    model = _among(device, resolved.model.name, "model")
    network = _among(root / "network", resolved.node.name, "node") if tp > 1 or pp > 1 else None
    host = root / "cpu_overhead" / resolved.node.name / resolved.model.name / "cpu_overheads.csv"
    return Files(
        mlp=model / "mlp.csv",
        attention=model / "attention.csv",
        all_reduce=network / "all_reduce.csv" if network and tp > 1 else None,
        send_recv=network / "send_recv.csv" if network and pp > 1 else None,
        host=host if host.exists() else None,
    )


def _bytes(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as problem:
        raise TableError(f"{path}: cannot be read ({problem.strerror}); Vidur keeps this file there") from None
    if content.startswith(LFS_POINTER):
        raise TableError(f"{path}: is a Git LFS pointer, not the table itself; run `git lfs pull` in that checkout")
    return content


def read(path: Path, needed: Sequence[str], keep: Mapping[str, float | bool]) -> Columns:
    """The numeric columns ``needed`` of the rows in which every column of ``keep`` has the given value.

    Raises TableError for a Git LFS pointer, for missing columns, and when no row is left.
    """
    try:
        table = pyarrow.csv.read_csv(io.BytesIO(_bytes(path)))
    except pa.ArrowInvalid as problem:
        raise TableError(f"{path}: not a readable CSV file ({str(problem).splitlines()[0]})") from None
    for name in (*keep, *needed):
        if table.column_names.count(name) != 1:
            raise TableError(f"{path}: column {name!r} is missing, or there twice; Vidur's profiler writes it once")
    rows = np.ones(table.num_rows, dtype=bool)
    for name, value in keep.items():
        column = np.array(table[name].to_pylist(), dtype=object)
        same = column == value
        rows &= same
        if not rows.any():
            have = ", ".join(map(str, sorted(set(column.tolist()), key=str)[:12]))
            raise TableError(f"{path}: no rows for {name}={value}; have {name}={have}")
    return {name: table[name].to_numpy(zero_copy_only=False).astype(np.float64)[rows] for name in needed}


def _median(name: str) -> str:
    return f"time_stats.{name}.median"


def times_of(path: Path, columns: Columns, name: str) -> Floats:
    """A column of times, ms. Raises TableError for one that is no time."""
    ms = columns[name]
    wrong = np.flatnonzero(~(np.isfinite(ms) & (ms >= 0)))
    if wrong.size:
        raise TableError(f"{path}: {name}: {ms[wrong[0]]} is not a time; give milliseconds from 0 up")
    return ms


def _model_rows(model: "Model", tp: int) -> dict[str, float | bool]:
    return {
        "n_embd": model.hidden_size,
        "n_head": model.num_attention_heads,
        "n_kv_head": model.num_key_value_heads,
        "n_expanded_embd": model.intermediate_size,
        "use_gated_mlp": model.gated_mlp,
        "num_tensor_parallel_workers": tp,
    }


def read_mlp(path: Path, model: "Model", tp: int) -> tuple[Floats, Columns]:
    """Numbers of tokens, and the times of every operator that depends on them alone, ms."""
    names = [name for name in MLP_OPERATORS if model.post_attention_norm or name not in PARALLEL_OPERATORS]
    columns = read(path, ["num_tokens", *map(_median, names)], _model_rows(model, tp))
    return columns["num_tokens"], {name: times_of(path, columns, _median(name)) for name in names}


def read_attention(path: Path, model: "Model", tp: int, decode: bool) -> tuple[Floats, Floats, Floats]:
    """Batch (decode) or chunk (prefill), KV tokens before it, and time, ms; float64[rows] each."""
    first, time = ("batch_size", "attn_decode") if decode else ("prefill_chunk_size", "attn_prefill")
    keep = {
        "n_embd": model.hidden_size,
        "n_q_head": model.num_attention_heads,
        "n_kv_head": model.num_key_value_heads,
        "num_tensor_parallel_workers": tp,
        "is_prefill": not decode,
    }
    columns = read(path, [first, "kv_cache_size", _median(time)], keep)
    return columns[first], columns["kv_cache_size"], times_of(path, columns, _median(time))


def read_network(path: Path, name: str, num_workers: int, devices_per_node: int, hidden: int) -> tuple[Floats, Floats]:
    """Numbers of tokens with ``hidden`` bf16 elements each, and times of all_reduce or send_recv, ms."""
    keep = {"num_workers": num_workers, "devices_per_node": devices_per_node}
    columns = read(path, ["size", _median(name)], keep)
    return columns["size"] / (BYTES * hidden), times_of(path, columns, _median(name))


def read_host(path: Path, tp: int) -> tuple[Floats, Floats]:
    """Numbers of sequences, and host time, ms, which Vidur leaves out by default."""
    columns = read(path, ["batch_size", *HOST_OPERATORS], {"tensor_parallel_degree": tp})
    return columns["batch_size"], sum((times_of(path, columns, name) for name in HOST_OPERATORS), np.zeros(1))

"""``vidur:DIR``: a small checkout made here, and real rows where they are."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastsim.deployment.description import Deployment
from fastsim.deployment.resolve import resolve
from fastsim.deployment.resolved import Resolved
from fastsim.errors import TableError
from fastsim.predictors.measurements import vidur
from fastsim.predictors.tables.compose import fastsim_tables, vidur_tables
from fastsim.predictors.times.exact import read_tables
from fastsim.predictors.times.reach import reach_of
from fastsim.predictors.times.vidur import operator_times

SHARED = Path(__file__).resolve().parents[3] / "shared"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared")
MODEL = "meta-llama/Llama-2-7b-hf"
ROWS = {
    "n_embd": 4096,
    "n_head": 32,
    "n_kv_head": 32,
    "n_expanded_embd": 11008,
    "use_gated_mlp": True,
    "vocab_size": 32768,
}


def deployed(*settings: str, model: str = MODEL, compose: str = "fastsim", **more: Any) -> Resolved:
    given = {"model": model, "device": "a100", "node": "a100_dgx", "max_model_len": 2048, **more}
    scheduler = {"policy": "sarathi", "chunk_size": 256, "max_num_seqs": 16}
    return resolve(Deployment.load({**given, "scheduler": scheduler}, [f"predictor.compose={compose}", *settings]))


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(dict.fromkeys(name for row in rows for name in row)))
        writer.writeheader()
        writer.writerows(rows)


def decode_ms(batch: int, kv: int) -> float:
    return 0.02 + batch * kv * 1e-5


def prefill_ms(chunk: int, kv: int) -> float:
    return 0.03 + chunk * (kv + chunk / 2) * 2e-7


def checkout(root: Path) -> Path:
    """A checkout in Vidur's layout: TP 1 and 2, times that follow simple laws."""
    profiling = root / "data" / "profiling"
    compute = profiling / "compute" / "a100" / MODEL
    mlp, attention = [], []
    for tp in (1, 2):
        for tokens in (1, 8, 64, 256, 512):
            times = {
                f"time_stats.{name}.median": (i + 1) * tokens * 1e-4 / tp for i, name in enumerate(vidur.MLP_OPERATORS)
            }
            mlp.append({**times, **ROWS, "num_tokens": tokens, "num_tensor_parallel_workers": tp})
        fixed = {"n_embd": 4096, "n_q_head": 32, "n_kv_head": 32, "num_tensor_parallel_workers": tp}
        for kv in (32, 64, 128, 256, 512, 1024, 2048):
            for batch in (1, 2, 4, 8, 16, 32):
                ms = {"time_stats.attn_decode.median": decode_ms(batch, kv), "time_stats.attn_prefill.median": ""}
                attention.append(
                    {
                        **ms,
                        **fixed,
                        "batch_size": batch,
                        "prefill_chunk_size": 0,
                        "kv_cache_size": kv,
                        "is_prefill": False,
                    }
                )
            for chunk in (64, 128, 256, 512):
                ms = {"time_stats.attn_decode.median": "", "time_stats.attn_prefill.median": prefill_ms(chunk, kv)}
                attention.append(
                    {
                        **ms,
                        **fixed,
                        "batch_size": 1,
                        "prefill_chunk_size": chunk,
                        "kv_cache_size": kv,
                        "is_prefill": True,
                    }
                )
    write(compute / "mlp.csv", mlp)
    write(compute / "attention.csv", attention)
    for name in ("all_reduce", "send_recv"):
        sizes = [
            {f"time_stats.{name}.median": size * 1e-8, "num_workers": 2, "devices_per_node": 2, "size": size}
            for size in (8192, 2**20)
        ]
        write(profiling / "network" / "a100_dgx" / f"{name}.csv", sizes)
    return root


def test_measured_points_are_used_as_they_are(tmp_path: Path) -> None:
    resolved = deployed("tensor_parallel_size=2", "pipeline_parallel_size=2")
    times, about = operator_times(checkout(tmp_path), resolved, reach_of(resolved))
    assert len(about["digest"]) == 64
    for i, name in enumerate(vidur.MLP_OPERATORS):
        assert times.tokens[name][64] == pytest.approx((i + 1) * 64 * 1e-4 / 2)
        assert times.tokens[name][100] == pytest.approx((i + 1) * 100 * 1e-4 / 2)  # a line between two points
    assert times.tokens["all_reduce"][1] == times.tokens["send_recv"][1] == pytest.approx(8192e-8)
    for batch, kv in ((1, 64), (4, 512), (16, 2048)):
        assert times.decode[batch, kv // times.kv_step] == pytest.approx(decode_ms(batch, kv))
    for chunk, kv in ((64, 64), (256, 1024)):
        got = times.prefill[kv // times.kv_step, chunk // times.chunk_step]
        assert got == pytest.approx(prefill_ms(chunk, kv))
    assert times.decode[3, 1024 // times.kv_step] == pytest.approx(decode_ms(3, 1024), rel=0.1)
    assert times.prefill[0, 256 // times.chunk_step] == pytest.approx(prefill_ms(256, 0), rel=0.25)
    assert times.launch_ms == 0.02 and times.decode_overhead == 0.0  # as many KV heads as heads


def test_both_compositions_take_it(tmp_path: Path) -> None:
    root = checkout(tmp_path)
    resolved = deployed(compose="vidur")
    times, _ = operator_times(root, resolved, reach_of(resolved))
    assert "all_reduce" not in times.tokens and times.launch_ms == 0
    theirs = vidur_tables(times, 1, 32)
    assert np.isfinite(theirs.decode).all() and np.isfinite(theirs.prefill).all()
    assert np.isfinite(theirs.before_attention).all()
    resolved = deployed()
    times, _ = operator_times(root, resolved, reach_of(resolved))
    ours = fastsim_tables(times, 1, 32, 16, 0.0)
    assert np.isfinite(ours.decode_ms).all() and np.isfinite(ours.token_ms).all()
    assert ours.decode_ms[4, 512 // ours.kv_step] == pytest.approx(32 * decode_ms(4, 512))


def test_host_times_are_read_where_they_are(tmp_path: Path) -> None:
    root = checkout(tmp_path)
    host = [
        {**dict.fromkeys(vidur.HOST_OPERATORS, 0.1 * size), "batch_size": size, "tensor_parallel_degree": 1}
        for size in (1, 16)
    ]
    write(root / "data" / "profiling" / "cpu_overhead" / "a100_dgx" / MODEL / "cpu_overheads.csv", host)
    resolved = deployed()
    times, _ = operator_times(root, resolved, reach_of(resolved))
    assert times.host[16] == pytest.approx(0.5 * 16) and times.host[8] == pytest.approx(0.5 * 8)


def refused(root: Path, message: str, *settings: str, **more: Any) -> None:
    resolved = deployed(*settings, **more)
    with pytest.raises(TableError, match=message):
        operator_times(root, resolved, reach_of(resolved))


def test_what_is_wrong_with_a_checkout_is_said(tmp_path: Path) -> None:
    refused(tmp_path, "give a checkout of Vidur")
    root = checkout(tmp_path)
    compute = root / "data" / "profiling" / "compute" / "a100" / MODEL
    other = "meta-llama/Llama-2-13b-hf"
    refused(root, f"no profiles of model '{other}'; it has {MODEL}", model=other)
    refused(root, "no profiles of device 'h100'; it has a100", device="h100", node="h100_dgx")
    refused(
        root,
        "no rows for num_tensor_parallel_workers=4; have num_tensor_parallel_workers=1, 2",
        "tensor_parallel_size=4",
    )
    mlp = (compute / "mlp.csv").read_text()
    (compute / "mlp.csv").write_text(mlp.replace("4096", "5120"))
    refused(root, "no rows for n_embd=4096; have n_embd=5120")
    (compute / "mlp.csv").write_text(mlp.replace("time_stats.add.median", "time_stats.plus.median"))
    refused(root, "column 'time_stats.add.median' is missing")
    lines = mlp.splitlines()
    (compute / "mlp.csv").write_text("\n".join([lines[0], "-1" + lines[1][lines[1].index(",") :], *lines[2:]]))
    refused(root, "time_stats.attn_pre_proj.median: -1.0 is not a time")
    (compute / "mlp.csv").write_text(mlp)
    (compute / "attention.csv").unlink()
    refused(root, "attention.csv: cannot be read")
    (compute / "attention.csv").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4e3d\nsize 1\n")
    refused(root, "attention.csv: is a Git LFS pointer, not the table itself; run `git lfs pull`")


@needs_shared
def test_real_rows_give_the_times_that_vidur_itself_used() -> None:
    resolved = deployed(
        "tensor_parallel_size=2",
        "pipeline_parallel_size=2",
        "scheduler.max_num_seqs=64",
        model="meta-llama/Llama-2-70b-hf",
        compose="vidur",
    )
    times, _ = operator_times(SHARED / "vidur_profiles", resolved, reach_of(resolved))
    theirs = read_tables(SHARED / "golden" / "tables" / "874d2a779a92", 2, 2)
    for name, table in theirs.tokens.items():
        if table[1:].any():
            got, wanted = times.tokens[name][1:257], table[1:257]
            assert np.mean(np.abs(got / wanted - 1)) < 0.03, name
    width = min(times.decode.shape[1], theirs.decode.shape[1])
    off = times.decode[1:65, :width] / theirs.decode[1:65, :width] - 1
    assert np.mean(np.abs(off)) < 0.02
    rows = min(times.prefill.shape[0], theirs.prefill.shape[0])
    off = times.prefill[:rows, 64:257] / theirs.prefill[:rows, 64:257] - 1
    assert np.mean(np.abs(off)) < 0.08


@needs_shared
def test_the_pointer_of_a_real_checkout_is_refused() -> None:
    refused(SHARED / "vidur_profiles", "Git LFS pointer")

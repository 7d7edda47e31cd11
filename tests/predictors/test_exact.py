"""``tables:DIR``: both compositions against the formula, and every way a folder of tables can be wrong."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastsim.deployment.description import Deployment
from fastsim.deployment.resolve import resolve
from fastsim.errors import TableError
from fastsim.predictors.capture import capture_cap, captured, largest_captured, padded, sizes_up_to
from fastsim.predictors.tables.compose import _lines, fastsim_tables, vidur_tables
from fastsim.predictors.times.exact import digest, read_tables
from fastsim.predictors.times.times import LAYER_OPERATORS

GOLDEN = Path(__file__).resolve().parents[3] / "shared" / "golden" / "tables"
META: dict[str, Any] = {
    "kv_cache_prediction_granularity": 64,
    "attention_decode_batching_overhead_fraction_effective": 0.1,
    "attention_prefill_batching_overhead_fraction_effective": 0.2,
    "nccl_cpu_launch_overhead_ms": 0.02,
    "nccl_cpu_skew_overhead_per_device_ms": 0.003,
}


def write(path: Path, **columns: Any) -> None:
    pq.write_table(pa.table(columns), path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Tables of 1..20 tokens, 4 decodes, 3 KV steps and chunks to 20, with times that no two look-ups share."""
    rng = np.random.default_rng(5)
    (tmp_path / "meta.json").write_text(json.dumps(META))
    tokens = np.arange(1, 21)
    for name in (*LAYER_OPERATORS, "all_reduce", "send_recv"):
        write(tmp_path / f"{name}.parquet", num_tokens=tokens, ms=rng.random(20) + tokens / 7)
    batch, kv = (grid.ravel() for grid in np.mgrid[1:5, 0:3])
    write(tmp_path / "attn_decode.parquet", batch_size=batch, kv_cache_size=kv * 64, ms=rng.random(12))
    kv, chunk = (grid.ravel() for grid in np.mgrid[0:3, 1:21])
    write(
        tmp_path / "attn_prefill.parquet",
        kv_cache_size=kv * 64,
        prefill_chunk_size_squared=chunk**2,
        ms=rng.random(60),
    )
    return tmp_path


def lookups(folder: Path) -> dict[str, dict[Any, float]]:
    """Every file as a dictionary, read apart from the code under test."""
    found = {}
    for path in folder.glob("*.parquet"):
        rows = pq.read_table(path).to_pylist()
        found[path.stem] = {tuple(row.values())[:-1]: row["ms"] for row in rows}
    return found


def test_vidur_tables_keep_its_order_of_additions(folder: Path) -> None:
    tables, at = vidur_tables(read_tables(folder, 4, 2), 4, 7), lookups(folder)
    for n in range(1, 17):
        r8 = ((n + 7) // 8 * 8,)
        tp = at["all_reduce"][r8] + 0.02 + 0.003 * 4**1.25
        before = at["attn_pre_proj"][r8] + at["attn_post_proj"][r8] + at["attn_rope"][r8]
        assert tables.before_attention[n] == before + at["attn_kv_cache_save"][(n,)]
        assert tables.all_reduce[n] == tp
        mlp = at["mlp_up_proj"][r8] + at["mlp_down_proj"][r8] + at["mlp_act"][r8] + tp
        assert tables.mlp[n] == mlp + at["post_attention_layernorm"][r8]
        assert tables.input_norm[n] == at["input_layernorm"][r8]
        assert tables.add[n] == at["add"][r8]
        assert tables.send[n] == at["send_recv"][r8]
    # Rounded up to 24, a batch of 17 lies outside the tables.
    assert np.isnan(tables.mlp[17:]).all() and np.isnan(tables.before_attention[17:]).all()
    assert tables.decode[3, 2] == at["attn_decode"][(3, 128)]
    assert tables.prefill[1, 20] == at["attn_prefill"][(64, 400)]
    assert (tables.decode_factor, tables.prefill_factor) == (1.1, 1.2)
    assert (tables.num_layers, tables.kv_step, tables.host_ms) == (7, 64, 0.0)


def test_what_one_gpu_and_one_norm_do_not_need(folder: Path) -> None:
    for name in ("all_reduce", "send_recv", "post_attention_layernorm"):
        (folder / f"{name}.parquet").unlink()
    tables, at = vidur_tables(read_tables(folder, 1, 1), 1, 7), lookups(folder)
    assert not tables.all_reduce.any() and not tables.send.any()
    assert tables.mlp[3] == at["mlp_up_proj"][(8,)] + at["mlp_down_proj"][(8,)] + at["mlp_act"][(8,)]


def test_fastsim_tables_sum_a_stage_at_captured_sizes(folder: Path) -> None:
    tables, at = fastsim_tables(read_tables(folder, 2, 2), 2, 7, 5, 0.05), lookups(folder)
    for n, ran in ((1, 1), (2, 2), (3, 4), (4, 4), (5, 8), (8, 8), (9, 9), (20, 20)):  # graphs up to 2 * 5
        layer = sum(at[name][(ran,)] for name in LAYER_OPERATORS)
        layer += 2 * (at["all_reduce"][(ran,)] + 0.02 + 0.003 * 2**1.25)
        assert tables.token_ms[n] == pytest.approx(7 * layer, rel=1e-12)
    assert tables.send_ms[3] == at["send_recv"][(3,)]
    assert tables.decode_ms[3, 2] == 7 * at["attn_decode"][(3, 128)]
    assert tables.prefill_ms[1, 20] == 7 * at["attn_prefill"][(64, 400)]
    assert not tables.decode_ms[0].any()
    assert tables.decode_ms.shape[0] >= 6 and tables.last_ms.size >= 6 and tables.host_ms.size >= 6
    assert (tables.skew, tables.kv_step, tables.chunk_step) == (0.05, 64, 1)
    for array in tables:
        if isinstance(array, np.ndarray):
            assert np.isfinite(array).all() and array.flags.c_contiguous and array.flags.writeable


def test_gaps_are_lines_in_ours_and_missing_in_vidurs(folder: Path) -> None:
    write(folder / "add.parquet", num_tokens=[4, 8, 12], ms=[4.0, 8.0, 12.0])
    write(folder / "attn_decode.parquet", batch_size=[2, 2, 4, 4], kv_cache_size=[0, 128, 0, 128], ms=[1.0, 3, 5, 9])
    times = read_tables(folder, 1, 1)
    theirs = vidur_tables(times, 1, 1)
    assert theirs.add[3] == 8.0 and np.isnan(theirs.add[9])
    assert np.isnan(theirs.decode[3]).all() and np.isnan(theirs.decode[2, 1])
    ours = fastsim_tables(times, 1, 1, 6, 0.0)
    np.testing.assert_allclose(ours.decode_ms[2], [1.0, 2.0, 3.0])
    np.testing.assert_allclose(ours.decode_ms[3], [3.0, 4.5, 6.0])
    np.testing.assert_allclose(ours.decode_ms[6], [9.0, 12.0, 15.0])
    others = fastsim_tables(read_without_add(folder), 1, 1, 6, 0.0)
    # 1 stands for tokens before the first entry, 20 for those after the last.
    np.testing.assert_allclose((ours.token_ms - others.token_ms)[[1, 4, 8, 20]], [4.0, 4.0, 8.0, 20.0])


def read_without_add(folder: Path) -> Any:
    write(folder / "add.parquet", num_tokens=[1, 20], ms=[0.0, 0.0])
    return read_tables(folder, 1, 1)


def test_capture_sizes() -> None:
    assert padded(np.arange(10), sizes_up_to(512)).tolist() == [0, 1, 2, 4, 4, 8, 8, 8, 8, 16]
    assert padded(np.array([256, 257, 272, 511, 512, 513, 9999]), sizes_up_to(512)).tolist() == [
        256,
        272,
        272,
        512,
        512,
        513,
        9999,
    ]
    assert padded(np.array([5, 8, 9, 11]), sizes_up_to(10)).tolist() == [8, 8, 9, 11]
    assert (capture_cap(4), capture_cap(128), capture_cap(1024)) == (8, 256, 512)


def test_a_batch_of_sglang_is_padded_to_the_graphs_that_it_captures() -> None:
    """SGLang captures decodes of 12 requests, and on one H100 none of more than 256."""
    fields = {"model": "llama-3-8b", "device": "h100"}
    sglang, vllm = (resolve(Deployment.load({**fields, "engine": e})).scheduler for e in ("sglang-0.5.10", "vllm-0.33"))
    assert padded(np.array([9, 13, 257]), captured(sglang)).tolist() == [12, 16, 257]
    assert padded(np.array([9, 13, 257]), captured(vllm)).tolist() == [16, 16, 272]
    assert (largest_captured(sglang), largest_captured(vllm)) == (256, 512)


def test_digest_sees_every_byte(folder: Path) -> None:
    before = digest(folder)
    assert before == digest(folder)
    (folder / "meta.json").write_text(json.dumps(META) + " ")
    assert digest(folder) != before


def rewrite(name: str, change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        columns = pq.read_table(folder / f"{name}.parquet").to_pydict()
        change(columns)
        write(folder / f"{name}.parquet", **columns)

    return apply


def meta(**changes: Any) -> Callable[[Path], Any]:
    kept = {key: value for key, value in {**META, **changes}.items() if value is not None}
    return lambda folder: (folder / "meta.json").write_text(json.dumps(kept))


def put(column: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda columns: columns[column].__setitem__(2, value)


NONE = pa.array([], pa.int64())
WRONG: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no meta": (lambda folder: (folder / "meta.json").unlink(), "meta.json: no such file; tables:DIR needs"),
    "meta is no JSON": (lambda folder: (folder / "meta.json").write_text("{"), "meta.json:1: not valid JSON"),
    "meta is a list": (lambda folder: (folder / "meta.json").write_text("[]"), "meta.json: [] is not a mapping"),
    "no granularity": (meta(kv_cache_prediction_granularity=None), "granularity: missing; a valid value is 64"),
    "granularity 0": (meta(kv_cache_prediction_granularity=0), "0 is not a positive integer"),
    "negative launch": (meta(nccl_cpu_launch_overhead_ms=-1), "-1 is not a number from 0 up"),
    "NaN launch": (meta(nccl_cpu_launch_overhead_ms=math.nan), "nan is not a number from 0 up"),
    "tables of another TP": (meta(predictor={"num_tensor_parallel_workers": 8}), "8 differs from"),
    "no operator": (lambda folder: (folder / "mlp_act.parquet").unlink(), "mlp_act.parquet: not there"),
    "no all-reduce": (lambda folder: (folder / "all_reduce.parquet").unlink(), "tensor_parallel_size 2 needs it"),
    "no send": (lambda folder: (folder / "send_recv.parquet").unlink(), "pipeline_parallel_size 2 needs it"),
    "not Parquet": (lambda folder: (folder / "add.parquet").write_bytes(b"ms"), "cannot be read as Parquet"),
    "no column": (rewrite("add", lambda columns: columns.pop("ms")), "column 'ms' is missing"),
    "no rows": (rewrite("add", lambda columns: columns.update(num_tokens=NONE, ms=NONE)), "has no rows"),
    "text": (rewrite("add", lambda columns: columns.update(num_tokens=["a"] * 20)), "num_tokens: type string"),
    "fractions": (rewrite("add", lambda columns: columns.update(num_tokens=[0.5] * 20)), "num_tokens: type double"),
    "text for times": (rewrite("add", lambda columns: columns.update(ms=["a"] * 20)), "ms: type string"),
    "empty cell": (rewrite("add", put("num_tokens", None)), "num_tokens: 1 rows are empty"),
    "no tokens": (rewrite("add", put("num_tokens", 0)), "num_tokens: 0 is below 1"),
    "no sequences": (rewrite("attn_decode", put("batch_size", -1)), "batch_size: -1 is below 1"),
    "NaN": (rewrite("add", put("ms", math.nan)), "ms: nan at num_tokens 3 is not a time"),
    "empty time": (rewrite("add", put("ms", None)), "ms: nan at num_tokens 3 is not a time"),
    "infinite": (rewrite("attn_decode", put("ms", math.inf)), "ms: inf at batch_size 1, kv_cache_size 128"),
    "negative time": (rewrite("add", put("ms", -1e-9)), "ms: -1e-09 at num_tokens 3 is not a time"),
    "twice": (rewrite("add", put("num_tokens", 1)), "several rows for one shape"),
    "off the grid": (rewrite("attn_decode", put("kv_cache_size", 100)), "100 is not a multiple of 64"),
    "no square": (rewrite("attn_prefill", put("prefill_chunk_size_squared", 10)), "10 is not a square"),
    "too large": (rewrite("add", put("num_tokens", 2**40)), "too large"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_wrong_tables_end_in_a_sentence(folder: Path, case: str) -> None:
    spoil, message = WRONG[case]
    read_tables(folder, 2, 2)
    spoil(folder)
    with pytest.raises(TableError) as error:
        read_tables(folder, 2, 2)
    assert message in str(error.value) and str(folder) in str(error.value)
    assert "\n" not in str(error.value)


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="no such folder"):
        read_tables(tmp_path / "nowhere", 1, 1)


@pytest.mark.skipif(not GOLDEN.is_dir(), reason="the golden tables are not here")
@pytest.mark.parametrize("name", sorted(path.name for path in GOLDEN.glob("*")))
def test_recorded_tables_compose_to_the_bit(name: str) -> None:
    folder = GOLDEN / name
    tp = json.loads((folder / "meta.json").read_text())["predictor"]["num_tensor_parallel_workers"]
    times = read_tables(folder, tp, 1)
    tables = vidur_tables(times, tp, 32)
    at = times.tokens
    for n in (1, 7, 8, 9, 511, 1000, 4089, 4096):
        r8 = (n + 7) // 8 * 8
        tp_ms = 0.0 if tp == 1 else at["all_reduce"][r8] + 0.02 + 0.0 * tp**1.25
        mlp = at["mlp_up_proj"][r8] + at["mlp_down_proj"][r8] + at["mlp_act"][r8] + tp_ms
        assert tables.mlp[n] == mlp + at["post_attention_layernorm"][r8]
    ours = fastsim_tables(times, tp, 32, 128, 0.05)
    assert np.isfinite(ours.token_ms).all() and np.isfinite(ours.prefill_ms).all() and (ours.token_ms[1:] > 0).all()


@given(st.data(), st.integers(1, 30), st.integers(1, 4), st.integers(0, 20))
def test_rows_between_known_entries_are_those_of_numpy_to_the_bit(data: Any, width: int, rows: int, more: int) -> None:
    places = data.draw(st.sets(st.integers(0, width - 1), min_size=1))
    known = np.array(sorted(places))
    times = st.lists(st.floats(0, 1e6), min_size=len(known), max_size=len(known))
    values = np.full((rows, width), np.nan)
    values[:, known] = [data.draw(times) for _ in range(rows)]
    made, last = _lines(values, width + more, known), int(known[-1])
    for row, given_row in zip(made, values, strict=True):
        np.testing.assert_array_equal(row[: last + 1], np.interp(np.arange(last + 1), known, given_row[known]))
        half = known[np.searchsorted(known, last // 2)]
        slope = max(0.0, (given_row[last] - given_row[half]) / (last - half)) if half < last else 0.0
        beyond = given_row[last] + slope * np.arange(width + more - last)
        np.testing.assert_array_equal(row[last:], beyond)

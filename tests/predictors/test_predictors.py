"""Tables made of forests, and what becomes of them on disk."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest

from fastsim.catalog.load import load_node
from fastsim.deployment.description import Deployment
from fastsim.deployment.resolve import resolve
from fastsim.deployment.resolved import Resolved
from fastsim.files.writing import locked
from fastsim.kernels.tables import COMPOSE_FASTSIM, COMPOSE_VIDUR, FastsimTables, VidurTables
from fastsim.predictors.build import build_cost
from fastsim.predictors.forests import forest
from fastsim.predictors.tables import cache
from fastsim.predictors.times.times import monotone, monotone_grid

ROOT = Path(__file__).resolve().parents[2]
LLAMA = {"model": "meta-llama/Meta-Llama-3-8B", "max_model_len": 8192, "scheduler": {"policy": "vllm"}}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(cache, "CACHE_FOLDER", tmp_path / "kernels" / "x")
    return tmp_path / "tables"


def resolved(*settings: str, device: str = "h100") -> Resolved:
    return resolve(Deployment.load({**LLAMA, "device": device}, settings))


def ours(*settings: str, device: str = "h100") -> FastsimTables:
    tables = build_cost(resolved(*settings, device=device)).cost.fastsim
    cache.finish_writing()
    return tables


def arrays(tables: Sequence[Any]) -> list[np.ndarray]:
    return [value for value in tables if isinstance(value, np.ndarray)]


def decode_ms(tables: FastsimTables, batch: int, kv: int) -> float:
    attention = np.interp(kv, np.arange(tables.decode_ms.shape[1]) * tables.kv_step, tables.decode_ms[batch])
    return float(tables.token_ms[batch] + attention + tables.last_ms[batch] + tables.host_ms[batch])


def prefill_ms(tables: FastsimTables, chunk: int) -> float:
    attention = tables.prefill_ms[0, chunk // tables.chunk_step]
    return float(tables.token_ms[chunk] + attention + tables.last_ms[1])


def test_iteration_times_are_of_the_expected_size() -> None:
    tables = ours()
    assert 6.0 < decode_ms(tables, 1, 1000) < 8.0
    assert 9.0 < decode_ms(tables, 64, 1500) < 13.0
    assert 40.0 < prefill_ms(tables, 2048) < 70.0
    slow = ours(device="a100")
    assert 1.4 < decode_ms(slow, 1, 1000) / decode_ms(tables, 1, 1000) < 2.2
    assert 2.2 < prefill_ms(slow, 2048) / prefill_ms(tables, 2048) < 3.6


@pytest.mark.parametrize("device", ["a100", "h100"])
@pytest.mark.parametrize(
    ("model", "tp"),
    [("microsoft/phi-2", 1), ("Qwen/Qwen3-14B", 2), ("mistralai/Mistral-7B-v0.1", 4), ("meta-llama/Llama-2-70b-hf", 8)],
)
def test_tables_are_whole_positive_and_monotone(device: str, model: str, tp: int) -> None:
    limit = 2048 if "phi" in model else 4096
    tables = ours(f"model={model}", f"tensor_parallel_size={tp}", f"max_model_len={limit}", device=device)
    for array in arrays(tables):
        assert np.isfinite(array).all() and (array >= 0).all()
        assert type(array) is np.ndarray and array.dtype == np.float64
        assert array.flags.writeable and array.flags.c_contiguous
    assert (tables.token_ms[1:] > 0).all() and (tables.decode_ms[1:] > 0).all() and (tables.prefill_ms > 0).all()
    for table in (tables.decode_ms, tables.prefill_ms):
        assert (np.diff(table, axis=0) >= -1e-12).all() and (np.diff(table, axis=1) >= -1e-12).all()
    if tp == 1:  # from the CUDA graph to eager launches, all-reduce steps up once; all else never steps back
        assert (np.diff(tables.token_ms) >= -1e-12).all()


def test_limits_of_the_tables_follow_the_deployment() -> None:
    tables = ours("scheduler.policy=sarathi", "scheduler.chunk_size=512", "scheduler.max_num_seqs=96")
    assert tables.token_ms.size == 513
    assert tables.decode_ms.shape[0] == tables.last_ms.size == tables.host_ms.size == 97
    assert (tables.decode_ms.shape[1] - 1) * tables.kv_step >= 8192
    assert (tables.prefill_ms.shape[1] - 1) * tables.chunk_step >= 512
    long = ours("model=meta-llama/Llama-3.1-8B", "max_model_len=131072", "scheduler.max_num_batched_tokens=131072")
    assert long.token_ms.size == 16385 and long.token_slope > 0
    assert (long.decode_ms.shape[1] - 1) * long.kv_step >= 131072
    assert max(array.nbytes for array in arrays(long)) <= 17 << 20


def test_terms_of_a_stage() -> None:
    one, two = ours(), ours("pipeline_parallel_size=2")
    np.testing.assert_allclose(two.token_ms, one.token_ms / 2, rtol=1e-12)
    np.testing.assert_allclose(two.decode_ms, one.decode_ms / 2, rtol=1e-12)
    assert not one.send_ms.any()
    assert two.send_ms[1000] == pytest.approx(2 * 4096 * 1000 / 450e6 + 0.01)
    assert not one.host_ms.any() and not one.least_ms.any()  # a scheduler alone
    assert one.last_ms[0] == 0 and one.last_ms[1] > 2 * 128256 * 4096 / 3.35e9  # the weights of the LM head
    assert one.skew == 0.0 and ours(device="a100").skew == 0.05
    # Cold DRAM: no decode reads its KV cache faster than the memory sustains.
    moved = 32 * 64 * 8192 * 4 * 8 * 128
    assert one.decode_ms[64, 8192 // one.kv_step] >= moved / 3.35e9


def test_host_time_is_that_of_the_engine_and_of_how_it_schedules() -> None:
    batches = np.array([0, 1, 50])
    policy = {"scheduler.policy": "vllm", "engine": "null"}
    for settings, expected in (
        (policy, [0, 0, 0]),
        ({"engine": "vllm-0.12"}, [0, 0.72, 1.7]),
        ({"engine": "vllm-0.12", "scheduler.async_scheduling": "true"}, [0, 0, 0]),
        ({"engine": "vllm-0.33"}, [0, 0, 0]),
        ({"engine": "vllm-0.33", "scheduler.async_scheduling": "false"}, [0, 0.72, 1.7]),
        ({"engine": "sglang-0.5.23"}, [0, 0.02, 1.0]),
        ({"engine": "sglang-0.5.23", "scheduler.disable_overlap_schedule": "true"}, [0, 0.72, 1.7]),
    ):
        given = {"scheduler.policy": "null", "scheduler.max_num_seqs": "null", **settings}
        built = build_cost(resolved(*(f"{name}={value}" for name, value in given.items())))
        np.testing.assert_allclose(built.cost.fastsim.host_ms[batches], expected, atol=1e-12)
        is_hidden = expected[2] < 1.7 and settings is not policy
        np.testing.assert_allclose(built.cost.fastsim.least_ms[batches], [0, 0.72, 1.7] if is_hidden else 0, atol=1e-12)
        known = built.provenance["host"]
        assert known["host_ms_per_step"] == pytest.approx(expected[1] - known["host_ms_per_sequence"])
        assert ("source" in known) == (settings is not policy)


def test_chunks_of_a_prompt_add_up_but_for_their_launches() -> None:
    tables = ours()
    step = 1024 // tables.chunk_step
    chunks = sum(tables.prefill_ms[start // tables.kv_step, step] for start in range(0, 8192, 1024))
    whole = tables.prefill_ms[0, 8192 // tables.chunk_step]
    assert whole <= chunks <= 1.25 * whole


def test_tensor_parallelism_saves_time_but_not_all_of_it() -> None:
    one, two, eight = (ours(f"tensor_parallel_size={tp}") for tp in (1, 2, 8))
    assert 0.5 < decode_ms(two, 64, 1500) / decode_ms(one, 64, 1500) < 0.75
    assert 0.125 < decode_ms(eight, 64, 1500) / decode_ms(one, 64, 1500) < 0.5
    # Beyond the largest captured graph all-reduce is launched eagerly: 64 launches.
    assert two.token_ms[257] - two.token_ms[256] > 64 * 0.005


def test_slow_links_bound_all_reduce() -> None:
    fast, slow = (ours("tensor_parallel_size=4", f"node={node}") for node in ("h100_dgx", "pcie_gen4"))
    ring = 64 * 2 * 3 / 4 * 2 * 4096 * 4096 / 32e6
    assert slow.token_ms[4096] - fast.token_ms[4096] == pytest.approx(ring, rel=0.2)
    pairs = ours("tensor_parallel_size=4", "node=h100_pairwise_nvlink")
    np.testing.assert_allclose(pairs.token_ms, slow.token_ms)


def test_gpus_on_two_sockets_take_the_slower_all_reduce_that_was_measured() -> None:
    near, far, eight, far_eight = (
        ours(f"tensor_parallel_size={tp}", f"node={node}", "max_model_len=4096", device="rtx_pro_6000").token_ms
        for tp in (2, 8)
        for node in ("rtx_pro_6000_pcie", "rtx_pro_6000_sockets")
    )
    # Llama-3-8B: 64 all-reduces of 4096 elements a token; 2 MiB take 0.158 instead of 0.056 ms.
    assert (far[256] - near[256]) / 64 == pytest.approx(0.158 - 0.056, rel=0.05)
    assert (far[1:] > near[1:]).all() and (far_eight[1:] > eight[1:]).all()
    assert load_node("h100_dgx").between_sockets is False


def test_a_sliding_window_stops_decode_from_growing() -> None:
    tables = ours("model=mistralai/Mistral-7B-v0.1", "max_model_len=16384")
    at = [tables.decode_ms[32, kv // tables.kv_step] for kv in (2048, 4096, 16384)]
    assert at[0] < at[1] == at[2]


def test_both_sources_work_with_both_compositions(tmp_path: Path) -> None:
    from predictors.test_exact import META, write

    from fastsim.predictors.times.times import LAYER_OPERATORS

    (tmp_path / "meta.json").write_text(json.dumps(META))
    for name in LAYER_OPERATORS:
        write(tmp_path / f"{name}.parquet", num_tokens=[8, 16], ms=[1.0, 2.0])
    write(tmp_path / "attn_decode.parquet", batch_size=[1], kv_cache_size=[0], ms=[1.0])
    write(tmp_path / "attn_prefill.parquet", kv_cache_size=[0], prefill_chunk_size_squared=[64], ms=[1.0])
    for source in ("default", f"tables:{tmp_path}"):
        for compose, code in (("vidur", COMPOSE_VIDUR), ("fastsim", COMPOSE_FASTSIM)):
            built = build_cost(resolved(f"predictor.source={source}", f"predictor.compose={compose}"))
            assert built.cost.compose == code and built.cost.num_stages == 1
            for name in ("vidur", "fastsim"):
                sizes = [array.size for array in arrays(getattr(built.cost, name))]
                assert all(sizes) if name == compose else not any(sizes)
            assert built.provenance["source"] == source and built.provenance["compose"] == compose
            assert json.loads(json.dumps(built.provenance)) == built.provenance
            assert built.seconds > 0


def test_forests_in_vidurs_composition() -> None:
    base = ("predictor.compose=vidur", "scheduler.max_num_batched_tokens=8192")
    cost = build_cost(resolved(*base, "tensor_parallel_size=2")).cost.vidur
    assert cost.kv_step == 64 and (cost.decode_factor, cost.prefill_factor) == (1.1, 1.1)
    assert np.isfinite(cost.mlp[1:]).all() and (cost.mlp[1:8] == cost.mlp[8]).all()
    assert cost.prefill.shape[1] > 8192 and (cost.decode.shape[1] - 1) * 64 >= 8192
    one_head = build_cost(resolved(*base, "model=meta-llama/Llama-2-7b-hf", "max_model_len=4096")).cost.vidur
    assert (one_head.decode_factor, one_head.prefill_factor) == (1.0, 1.0)


def test_monotone_is_the_middle_of_both_envelopes() -> None:
    assert monotone(np.array([1.0, 4.0, 2.0, 5.0])).tolist() == [1.0, 3.0, 3.0, 5.0]
    grid = np.random.default_rng(0).random((9, 9))
    both = monotone_grid(grid)
    np.testing.assert_array_equal(both, monotone(monotone(grid.T).T))
    assert (np.diff(both, axis=0) >= 0).all() and (np.diff(both, axis=1) >= 0).all()


def test_cached_tables_are_the_same_to_the_bit(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cold = ours()
    (path,) = own_cache.glob("*")
    assert path.suffix == ".tables"
    cache._kept.clear()
    monkeypatch.setattr(forest, "load", None)  # a warm start asks no forest
    warm = ours()
    assert isinstance(warm, FastsimTables) and len(warm) == len(cold)
    for before, after in zip(cold, warm, strict=True):
        assert type(before) is type(after)
        np.testing.assert_array_equal(before, after)
    assert all(array.flags.writeable and type(array) is np.ndarray for array in arrays(warm))


def test_tables_of_other_deployments_are_others(own_cache: Path) -> None:
    ours()
    for number, change in enumerate(
        ("tensor_parallel_size=2", "scheduler.max_num_seqs=64", "max_model_len=4096", "model=Qwen/Qwen3-8B"), start=2
    ):
        ours(change)
        assert len(list(own_cache.glob("*.tables"))) == number
    ours("num_replicas=3", "router.policy=random")  # the same stage
    assert len(list(own_cache.glob("*.tables"))) == number


@pytest.mark.parametrize(
    "damage", ["cut", "grown", "empty", "text", "folder", "flipped 3", "flipped 100", "flipped half"]
)
def test_a_damaged_cache_is_rebuilt(own_cache: Path, damage: str) -> None:
    before = ours()
    (path,) = own_cache.glob("*")
    content = path.read_bytes()
    spoiled = {"cut": content[:9000], "empty": b"", "text": b"hello", "grown": content + b"x"}
    spoiled["flipped half"] = flipped(content, len(content) // 2)
    spoiled |= {f"flipped {at}": flipped(content, at) for at in (3, 100)}
    path.unlink()
    if damage == "folder":
        path.mkdir()
    else:
        path.write_bytes(spoiled[damage])
    with pytest.warns(UserWarning, match="damaged"):
        after = ours()
    np.testing.assert_array_equal(before.token_ms, after.token_ms)
    assert [one.name for one in own_cache.iterdir()] == [path.name]  # nothing temporary is left
    if damage != "folder":
        assert path.read_bytes() == content


def flipped(content: bytes, at: int) -> bytes:
    """Content with a byte changed."""
    return content[:at] + bytes([content[at] ^ 255]) + content[at + 1 :]


def test_tables_are_used_while_their_file_is_written(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    going, write = Event(), cache._write
    monkeypatch.setattr(cache, "_write", lambda *asked: (going.wait(60), write(*asked)))
    one = resolved()
    first = build_cost(one).cost.fastsim
    assert build_cost(one).cost.fastsim is first and not list(own_cache.glob("*.tables"))
    going.set()
    cache.finish_writing()
    assert build_cost(one).cost.fastsim is first
    assert [path.suffix for path in own_cache.iterdir()] == [".tables"]


def test_who_does_not_wait_builds_what_another_builds(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_waits", True)
    before = ours()
    (path,) = own_cache.glob("*")
    path.unlink()
    cache._kept.clear()
    cache.never_wait()
    with locked(path.with_suffix(".lock"), wait=True):
        np.testing.assert_array_equal(before.token_ms, ours().token_ms)
        assert not path.exists()  # the other writes it


def test_a_cache_that_cannot_be_written_is_done_without(own_cache: Path) -> None:
    own_cache.write_text("in the way")
    with pytest.warns(UserWarning, match="damaged"):
        assert ours().token_ms.size > 1


def test_the_warm_path_loads_no_training_library(tmp_path: Path) -> None:
    code = (
        "import sys; from fastsim.deployment.description import Deployment;"
        "from fastsim.deployment.resolve import resolve;"
        "from fastsim.predictors.build import build_cost;"
        f"built = build_cost(resolve(Deployment.load({ {**LLAMA, 'device': 'h100'} })));"
        "print(built.cost.fastsim.token_ms.sum().hex(), *{name.split('.')[0] for name in sys.modules})"
    )
    env = {**os.environ, "FASTSIM_CACHE_DIR": str(tmp_path)}
    cold, warm = (
        subprocess.run([sys.executable, "-c", code], env=env, cwd=ROOT, capture_output=True, text=True, check=True)
        for _ in range(2)
    )
    assert cold.stdout.split()[0] == warm.stdout.split()[0]
    assert {"onnxruntime"} <= set(cold.stdout.split())
    for stdout in (cold.stdout, warm.stdout):
        assert not {"sklearn", "skl2onnx", "onnx", "pandas"} & set(stdout.split())
    assert "onnxruntime" not in warm.stdout.split()


def test_vidur_tables_come_back_from_the_cache() -> None:
    cold = build_cost(resolved("predictor.compose=vidur")).cost.vidur
    cache.finish_writing()
    cache._kept.clear()
    warm = build_cost(resolved("predictor.compose=vidur")).cost.vidur
    assert isinstance(warm, VidurTables) and warm.num_layers == 32 and type(warm.num_layers) is int
    np.testing.assert_array_equal(cold.prefill, warm.prefill)


def test_vidurs_grids_stay_small_for_long_contexts() -> None:
    from fastsim.predictors.times.reach import reach_of

    wide = ("predictor.compose=vidur", "model=meta-llama/Llama-3.1-8B", "max_model_len=131072")
    for settings in (("scheduler.max_num_seqs=8192",), ("scheduler.max_num_batched_tokens=131072",)):
        reach = reach_of(resolved(*wide, *settings))
        rows = reach.max_kv // reach.kv_step
        assert reach.chunk_step == 1 and reach.kv_step > 64
        assert rows * max(reach.max_chunk, reach.max_num_seqs) <= 1 << 23


def test_forests_of_a_users_own_go_before_those_that_are_shipped(tmp_path: Path) -> None:
    from dataclasses import replace

    from fastsim.predictors.sources import sources_of

    folder = tmp_path / "h100_sxm"
    folder.mkdir()
    for suffix in ("json", "onnx"):
        (folder / f"gemm.{suffix}").write_bytes((forest.FOLDER / "h100_sxm" / f"gemm.{suffix}").read_bytes())
    sources = replace(sources_of(resolved()), root=tmp_path)
    roots = [sources.choice(family, "bf16").root for family in ("gemm", "decode_attention")]
    assert roots == [tmp_path, None]
    gemm = sources.operators.gemms[0]
    assert sources.gemm(gemm).card == forest.card("h100_sxm", "gemm", "bf16", tmp_path)
    assert sources.card("nothing") is None and sources.card("elementwise") is not None


def test_precisions_change_the_times_they_should() -> None:
    plain, fp8, cache = ours(), ours("quantization=fp8"), ours("kv_cache_dtype=fp8")
    assert 0.45 < decode_ms(fp8, 1, 100) / decode_ms(plain, 1, 100) < 0.85
    assert fp8.decode_ms[64, 64] == plain.decode_ms[64, 64] and fp8.last_ms[1] == plain.last_ms[1]
    assert cache.token_ms[64] == plain.token_ms[64]
    assert 0.45 < cache.decode_ms[64, 64] / plain.decode_ms[64, 64] < 0.75


def test_all_reduce_over_several_nodes() -> None:
    model = ("model=Qwen/Qwen3-235B-A22B", "max_model_len=4096")
    one = ours(*model, "tensor_parallel_size=8")
    two = ours(*model, "tensor_parallel_size=16")
    # 188 all-reduces: latencies of two nodes, and half of the data of eight GPUs over the network, there and back.
    added = 2 * 94 * (0.02 + 2 * 512 * 4096 / 8 / 50e6)
    assert two.token_ms[512] - one.token_ms[512] < added
    assert two.token_ms[1] > one.token_ms[1] and two.token_ms[512] > one.token_ms[512] / 2 + added


def test_exchanges_of_tokens_are_as_measured() -> None:
    from fastsim.predictors.build import known_of, operator_times
    from fastsim.predictors.times.iteration import typical

    shared = ("tensor_parallel_size=8", "enable_expert_parallel=true", "all2all_backend=deepep")
    one = resolved("model=deepseek-v3", *shared, device="h200")
    times, known = operator_times(one)[0], known_of(one, typical(one))
    assert (known["moe_all_to_all"].how, known["moe_all_to_all"].count) == ("measured", 116)
    curves = forest.card("h200_sxm", "moe_a2a")["curves"]["decode"]
    low, high = (
        [pick(r[3] for r in rows if r[:3] == [16, 7168, 8]) for rows in curves.values()] for pick in (min, max)
    )
    per_layer = 116 / 61 * np.array([np.mean(low), np.mean(high)])
    # 16 tokens on each of 8 GPUs, but for what making the curve monotone moves.
    assert 0.9 * per_layer[0] <= times.tokens["moe_all_to_all"][128] <= 1.1 * per_layer[1]
    other = resolved("model=Qwen/Qwen3-235B-A22B", *shared)
    assert known_of(other, typical(other))["moe_all_to_all"].how == "modelled"  # none of this width was measured


SHARED = ROOT.parent / "shared" / "vidur_profiles"


@pytest.mark.skipif(not SHARED.is_dir(), reason="Vidur's profiles are not here")
def test_vidurs_files_go_through_the_cache(own_cache: Path) -> None:
    settings = ("model=meta-llama/Llama-2-70b-hf", "tensor_parallel_size=2", "max_model_len=4096")
    one = resolved(*settings, f"predictor.source=vidur:{SHARED}", "scheduler.max_num_seqs=32", device="a100")
    cold = build_cost(one)
    cache.finish_writing()
    cache._kept.clear()
    warm = build_cost(one)
    assert len(list(own_cache.glob("*.tables"))) == 1
    np.testing.assert_array_equal(cold.cost.fastsim.token_ms, warm.cost.fastsim.token_ms)
    assert cold.provenance == warm.provenance and cold.provenance["measurements"]

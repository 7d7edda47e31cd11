"""Operators that the profiler measures: their answers, that more work takes longer, and what is said otherwise."""

import importlib.util
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="profiling needs PyTorch: pip install fastsim[profile]")

from fastsim.predictors.families import FAMILIES  # noqa: E402
from fastsim.profiling import attention, elementwise, experts, gemm, machine, paged, timing  # noqa: E402
from fastsim.profiling.backends import backends, missing  # noqa: E402
from fastsim.profiling.buffers import generator, normal, sets_of  # noqa: E402
from fastsim.profiling.case import SHAPES, Case, Measured, Skipped, impossible  # noqa: E402
from fastsim.profiling.collectives import group  # noqa: E402
from fastsim.profiling.libraries import attend_on  # noqa: E402
from fastsim.profiling.machine import Reading, judge, parsed  # noqa: E402
from fastsim.profiling.measure import measure, prepared, summary  # noqa: E402

ROOT = str(Path(__file__).parents[2])
# Family, backend, a shape and one with at least 64 times the work.
GROWTH = [
    ("gemm", "torch", (16, 128, 128), (256, 512, 512)),
    ("prefill_attention", "sdpa", (1, 32, 2, 1, 32), (4, 256, 4, 2, 32)),
    ("chunk_attention", "sdpa", (1, 16, 48, 2, 1, 32), (4, 64, 512, 4, 2, 32)),
    ("decode_attention", "sdpa", (1, 32, 2, 1, 32), (16, 512, 4, 2, 32)),
    ("decode_skewed", "sdpa", (2, 32, 48, 2, 1, 32), (16, 512, 2048, 4, 2, 32)),
    ("moe", "torch", (8, 32, 32, 4, 2, 1, 1), (256, 128, 128, 4, 2, 1, 1)),
    ("mla_prefill", "sdpa", (1, 16, 1), (2, 192, 2)),
    ("mla_decode", "torch", (1, 32, 2), (8, 512, 4)),
    ("rms_norm", "torch", (4, 128), (512, 1024)),
    ("add_rms_norm", "torch", (4, 128), (512, 1024)),
    ("add", "torch", (4, 128), (2048, 2048)),
    ("activation", "torch", (4, 128), (512, 1024)),
    ("quantise", "torch", (4, 128), (512, 1024)),
    ("rope", "torch", (4, 2, 1, 32), (1024, 8, 4, 64)),
    ("kv_write", "torch", (4, 2, 32), (2048, 8, 64)),
    ("embedding", "torch", (4, 1000, 64), (2048, 1000, 512)),
    ("lm_head", "torch", (4, 256, 64), (32, 4096, 256)),
    ("moe_top_k", "torch", (4, 8, 2), (2048, 64, 2)),
    ("greedy", "torch", (2, 512), (32, 32768)),
    ("sampling", "torch", (2, 512), (16, 16384)),
    ("sampling_top_p", "torch", (2, 512), (8, 16384)),
    ("all_reduce", "gloo", (64, 2), (4_000_000, 2)),
    ("all_gather", "gloo", (64, 2), (4_000_000, 2)),
    ("reduce_scatter", "gloo", (64, 2), (4_000_000, 2)),
    ("all_to_all", "gloo", (64, 2), (4_000_000, 2)),
    ("send_recv", "gloo", (64, 2), (4_000_000, 2)),
    ("host_step", "torch", (1, 32), (256, 64)),
    ("host_launch", "torch", (1,), (256,)),
]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Two threads on a busy machine wait for each other longer than they compute."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def timed(family: str, backend: str, shape: tuple[int, ...]) -> Measured:
    found = measure(Case(family, "bf16", shape, backend), "cpu", graph=True, seed=1, seconds=0.04)
    assert isinstance(found, Measured), found
    return found


def test_every_family_is_measured_below() -> None:
    assert {row[0] for row in GROWTH} == set(SHAPES)
    assert all(SHAPES[name] == family.columns for name, family in FAMILIES.items())


@pytest.mark.parametrize(("family", "backend", "small", "large"), GROWTH, ids=[row[0] for row in GROWTH])
def test_more_work_takes_longer(family: str, backend: str, small: tuple[int, ...], large: tuple[int, ...]) -> None:
    least, most = float("inf"), 0.0
    for _ in range(3):  # other programs may slow the small one down
        first, second = timed(family, backend, small), timed(family, backend, large)
        for found in (first, second):
            assert 0 < found.low_ms <= found.ms <= found.high_ms and found.repeats >= 1 and not found.graph
        least, most = min(least, first.low_ms), max(most, second.low_ms)
        if most > 1.5 * least:
            break
    assert most > 1.5 * least


def test_fp8_gemm_is_the_bf16_one_of_the_same_numbers() -> None:
    narrow = gemm.gemm((16, 32, 64), "fp8", "cpu", 5).call(0)
    random = generator("cpu", 5)
    inputs = [normal((16, 64), "cpu", random, "fp8").float() for _ in range(3)]
    weight = normal((32, 64), "cpu", random, "fp8", 64**-0.5).float()
    torch.testing.assert_close(narrow.float(), inputs[0] @ weight.T, rtol=0.02, atol=0.02)


def dense(query: Any, keys: Any, values: Any, count: int) -> Any:
    """Softmax attention of one head's queries, in float64, the last query seeing ``count`` tokens."""
    scores = query @ keys[:count].T / query.shape[-1] ** 0.5
    last = np.arange(count) - (count - len(query))
    scores = np.where(last[None] <= np.arange(len(query))[:, None], scores, -np.inf)
    chance = np.exp(scores - scores.max(-1, keepdims=True))
    return chance / chance.sum(-1, keepdims=True) @ values[:count]


@pytest.mark.parametrize("lengths", [(5, 40, 17), (16, 16), (1,)])
@pytest.mark.parametrize("precision", ["bf16", "fp8"])
def test_paged_decode_equals_dense_attention(lengths: tuple[int, ...], precision: str) -> None:
    random = generator("cpu", 2)
    cache = paged.paged(lengths, 3, (16, 2, 32), precision, "cpu", random)
    query = normal((len(lengths), 1, 4, 32), "cpu", random)
    found = attend_on("sdpa", query, cache)(query, 2)[:, 0]
    for row, length in enumerate(lengths):
        blocks = cache.table[row, : -(-length // 16)].long()
        keys, values = (part[2][blocks].flatten(0, 1).double().numpy() for part in (cache.keys, cache.values))
        for head in range(4):
            wanted = dense(query[row, :, head].double().numpy(), keys[:, head // 2], values[:, head // 2], length)
            np.testing.assert_allclose(found[row, head].double().numpy(), wanted[0], rtol=0.03, atol=0.03)


def test_blocks_of_a_cache_belong_to_one_sequence() -> None:
    cache = paged.paged((5, 40, 17), 2, (16, 1, 8), "bf16", "cpu", generator("cpu", 0))
    used = [int(block) for row, n in zip(cache.table, (1, 3, 2), strict=True) for block in row[:n]]
    assert sorted(used) == list(range(6)) and used != sorted(used)


def test_a_chunk_is_the_end_of_the_whole_prompt() -> None:
    random = generator("cpu", 4)
    query, keys, values = (normal((1, heads, 24, 16), "cpu", random).float() for heads in (4, 2, 2))
    whole = attention.causal(query, keys, values)
    torch.testing.assert_close(attention.causal(query[:, :, 16:], keys, values), whole[:, :, 16:])
    wanted = dense(query[0, 3].double().numpy(), keys[0, 1].double().numpy(), values[0, 1].double().numpy(), 24)
    np.testing.assert_allclose(whole[0, 3].numpy(), wanted, rtol=1e-4, atol=1e-5)


def test_latent_attention_of_a_decode_is_attention_on_shared_keys() -> None:
    random = generator("cpu", 4)
    query, cache = normal((2, 3, 576), "cpu", random).float(), normal((2, 20, 576), "cpu", random).float()
    scores = torch.einsum("bhd,btd->bht", query, cache) / 192**0.5
    wanted = torch.einsum("bht,btd->bhd", scores.softmax(-1), cache[..., :512])
    torch.testing.assert_close(attention.latent(query, cache), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", [(4, 100, 250, 1, 1, 8), (3, 7, 19, 1, 1, 8), (1, 9, 9, 1, 1, 8)])
def test_a_skewed_batch_has_its_mean_and_its_longest(shape: tuple[int, ...]) -> None:
    lengths = paged.lengths_of("decode_skewed", shape)
    assert len(lengths) == shape[0] and sum(lengths) == shape[0] * shape[1] and max(lengths) == shape[2]
    assert max(lengths[1:], default=1) - min(lengths[1:], default=1) <= 1 and min(lengths) >= 1


def test_rope_turns_pairs_by_the_angle_of_their_position() -> None:
    query, key = torch.randn(6, 3, 8, dtype=torch.float32), torch.randn(6, 1, 8, dtype=torch.float32)
    positions = torch.tensor([0, 1, 5, 100, 7, 3])
    found, _ = elementwise.rope(query, key, positions, elementwise.rope_cache(128, 8, "cpu").float())
    pairs = torch.complex(query[..., :4], query[..., 4:])
    angle = positions[:, None, None] * 10000.0 ** (-torch.arange(4) / 4)
    turned = pairs * torch.polar(torch.ones_like(angle), angle)
    torch.testing.assert_close(found, torch.cat((turned.real, turned.imag), -1), rtol=0.02, atol=0.03)
    assert torch.equal(found[0], query[0])


def test_norm_activation_and_quantisation_are_those_of_pytorch() -> None:
    x, residual, weight = torch.randn(5, 64), torch.randn(5, 64), torch.randn(64)
    found, total = elementwise.add_rms_norm(x, residual, weight)
    torch.testing.assert_close(found, torch.nn.functional.rms_norm(x + residual, (64,), weight, 1e-6))
    assert torch.equal(total, elementwise.add(x, residual))
    torch.testing.assert_close(elementwise.activation(x), x[:, :32] * torch.sigmoid(x[:, :32]) * x[:, 32:])
    narrow, scale = elementwise.quantise(x)
    assert narrow.float().abs().max() == 448
    torch.testing.assert_close(narrow.float() * scale, x, rtol=0.07, atol=0.01)


def test_draws_follow_the_chances() -> None:
    logits = torch.log(torch.tensor([0.5, 0.3, 0.15, 0.05])).repeat(4000, 1)
    warm = torch.ones(1)
    shares = torch.bincount(elementwise.sampling(logits, warm), minlength=4) / 4000
    torch.testing.assert_close(shares, torch.tensor([0.5, 0.3, 0.15, 0.05]), rtol=0.2, atol=0.02)
    nucleus = torch.bincount(elementwise.sampling_top_p(logits, warm), minlength=4) / 4000
    torch.testing.assert_close(nucleus, torch.tensor([0.526, 0.316, 0.158, 0.0]), rtol=0.2, atol=0.02)
    assert elementwise.greedy(logits).unique().tolist() == [0]


def test_kv_goes_to_its_slots() -> None:
    key, value, cache = torch.randn(3, 2, 4), torch.randn(3, 2, 4), torch.zeros(2, 10, 2, 4)
    slots = torch.tensor([7, 0, 4])
    elementwise.kv_write(key, value, cache, slots)
    assert torch.equal(cache[:, slots], torch.stack((key, value))) and cache.count_nonzero() == 48


def test_experts_are_the_sum_of_each_tokens_own() -> None:
    random = generator("cpu", 9)
    owner, counts, weight = experts.routing(12, 8, 4, 3, "cpu", random)
    assert counts.sum() == len(owner) == len(weight) < 36
    rows, weights = torch.randn(len(owner), 16), torch.randn(4, 24, 16)
    found = experts.looped(rows, weights, counts.tolist())
    expert = torch.repeat_interleave(torch.arange(4), counts)
    torch.testing.assert_close(found, torch.einsum("rk,rnk->rn", rows, weights[expert]))


@pytest.mark.skipif(not hasattr(torch, "_grouped_mm"), reason="this PyTorch has no grouped GEMM")
def test_the_grouped_gemm_equals_the_loop() -> None:
    counts = torch.tensor([5, 0, 16, 3])
    rows, weights = torch.randn(24, 32).bfloat16(), torch.randn(4, 16, 32).bfloat16()
    found = experts.grouped(rows, weights, counts.cumsum(0).to(torch.int32))
    torch.testing.assert_close(found, experts.looped(rows, weights, counts.tolist()), rtol=0.02, atol=0.1)


@pytest.mark.parametrize("ep", [1, 2])
def test_a_layer_of_experts_is_the_weighted_sum_of_theirs(ep: int) -> None:
    tokens, hidden, intermediate, num_experts, topk = 6, 16, 32, 4, 2
    shape = (tokens, hidden, intermediate, num_experts, topk, 2, ep)
    found = prepared(Case("moe", "bf16", shape, "torch"), "cpu", 3).call(0).float()
    width, local = intermediate // 2, num_experts // ep
    sets = sets_of(3 * hidden * width * local * 2, "cpu")
    random = generator("cpu", 3)  # the same draws again
    x = [normal((tokens, hidden), "cpu", random) for _ in range(3)][0].float()  # noqa: RUF015
    up = [normal((local, 2 * width, hidden), "cpu", random, scale=hidden**-0.5) for _ in range(sets)][0].float()  # noqa: RUF015
    down = [normal((local, hidden, width), "cpu", random, scale=width**-0.5) for _ in range(sets)][0].float()  # noqa: RUF015
    owner, counts, weight = experts.routing(tokens, num_experts, local, topk, "cpu", random)
    wanted = torch.zeros(tokens, hidden)
    for row, expert in enumerate(torch.repeat_interleave(torch.arange(local), counts)):
        inner = elementwise.activation(up[expert] @ x[owner[row]])
        wanted[owner[row]] += weight[row].float() * (down[expert] @ inner)
    torch.testing.assert_close(found, wanted, rtol=0.05, atol=0.05)


def test_a_gpu_that_has_no_expert_of_any_token_still_does_one_row() -> None:
    _, counts, _ = experts.routing(1, 256, 1, 1, "cpu", generator("cpu", 0))
    assert counts.tolist() == [1]


@pytest.mark.skipif(not importlib.util.find_spec("triton"), reason="needs Triton, whose interpreter runs it on a CPU")
def test_our_triton_kernel_equals_the_gathered_one() -> None:
    script = """
import torch
from fastsim.profiling.attention import gathered, paged
from fastsim.profiling.buffers import generator, normal
from fastsim.profiling.paged_kernel import paged_decode
random = generator("cpu", 3)
for lengths, heads, kv_heads, dim in (((5, 700, 130), 8, 2, 64), ((1, 16, 33), 4, 4, 80), ((2000,), 4, 1, 128)):
    cache = paged(lengths, 1, (16, kv_heads, dim), "bf16", "cpu", random)
    cache = cache._replace(keys=cache.keys.float(), values=cache.values.float())  # the interpreter errs on bf16
    query = normal((len(lengths), heads, dim), "cpu", random).float()
    found = paged_decode(query, cache.keys[0], cache.values[0], cache.table, cache.used, max(lengths))
    torch.testing.assert_close(found, gathered(query, cache, 0), rtol=1e-4, atol=1e-5)
"""
    environment = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": os.pathsep.join([ROOT, *sys.path])}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("backend", ["flash", "flashinfer", "varlen", "triton", "nonsense"])
def test_a_missing_backend_is_said(backend: str) -> None:
    found = measure(
        Case("decode_attention", "bf16", (1, 8, 2, 1, 16), backend), "cpu", graph=False, seed=0, seconds=0.01
    )
    assert isinstance(found, Skipped) and backend in found.reason
    assert backend not in backends("decode_attention", "bf16", "cpu")


def test_what_cannot_be_measured_is_said() -> None:
    assert "no family" in missing("gem", "bf16", "torch", "cpu")
    assert "int4_wo" in missing("gemm", "int4_wo", "torch", "cpu")
    assert backends("moe", "fp8", "cpu") == []
    if not torch.cuda.is_available():
        assert "no CUDA device" in missing("gemm", "bf16", "torch", "cuda:0")
    for device in ("cuda", "cuda:x", "gpu", ""):
        assert "give cpu or cuda:0" in missing("gemm", "bf16", "torch", device)
    for case, word in (
        (Case("gemm", "bf16", (0, 8, 8), "torch"), "positive m, n, k"),
        (Case("gemm", "bf16", (8, 8), "torch"), "positive"),
        (Case("decode_attention", "bf16", (1, 8, 3, 2, 16), "sdpa"), "evenly"),
        (Case("decode_skewed", "bf16", (2, 8, 16, 2, 2, 16), "sdpa"), "cannot hold one of 16"),
        (Case("moe", "bf16", (8, 8, 8, 2, 4, 1, 1), "torch"), "more than all 2"),
        (Case("all_reduce", "bf16", (8, 1), "gloo"), "two ranks"),
    ):
        found = measure(case, "cpu", graph=False, seed=0, seconds=0.01)
        assert isinstance(found, Skipped) and word in found.reason, found
    assert not impossible(Case("chunk_attention", "bf16", (1, 8, 0, 2, 2, 16), "sdpa"))


def test_too_little_memory_skips_the_case_and_the_next_is_measured() -> None:
    found = measure(Case("gemm", "bf16", (1, 1 << 24, 1 << 24), "torch"), "cpu", graph=False, seed=0, seconds=0.01)
    assert isinstance(found, Skipped) and found.reason.startswith("out of memory")
    timed("gemm", "torch", (4, 16, 16))


def test_a_library_that_refuses_is_said() -> None:
    found = measure(Case("gemm", "fp8", (4, 1 << 62, 1 << 62), "torch"), "cpu", graph=False, seed=0, seconds=0.01)
    assert isinstance(found, Skipped) and "refuses" in found.reason


def test_a_lost_process_skips_the_case_and_the_next_is_measured() -> None:
    timed("all_reduce", "gloo", (64, 2))
    os.kill(group("gloo", 2).processes[1].pid or 0, signal.SIGKILL)
    found = measure(Case("all_reduce", "bf16", (64, 2), "gloo"), "cpu", graph=False, seed=0, seconds=0.01)
    assert isinstance(found, Skipped) and "refuses" in found.reason
    timed("all_reduce", "gloo", (64, 2))


COOL = Reading(1980, 60, 0)
LINES: dict[str, list[str]] = {  # as nvidia-smi prints them
    "1980, 58, 0x0000000000000000": [],
    "1755, 71, 0x0000000000000004": ["power"],
    "1200, 88, 0x0000000000000040": ["throttled"],
    "1200, 85, 0x0000000000000020": ["throttled"],
    "1200, 60, 0x0000000000000080": ["throttled"],
    "1410, 70, 0x000000000000000C": ["throttled", "power"],
    "345, 33, 0x0000000000000001": [],
    "[N/A], 40, [N/A]": [],
}


@pytest.mark.parametrize(("line", "flags"), LINES.items())
def test_clocks_are_judged(line: str, flags: list[str]) -> None:
    reading = parsed(line)
    assert reading is not None
    assert judge([COOL, reading]) == flags


def test_a_drop_of_the_clock_without_a_reason_is_throttling() -> None:
    assert judge([COOL, replace_clock(1700)]) == ["throttled"]
    assert judge([COOL, replace_clock(1900)]) == judge([replace_clock(900), COOL]) == []
    assert judge([]) == []
    assert parsed("Unable to determine the device handle") is None


def replace_clock(mhz: float) -> Reading:
    return COOL._replace(clock_mhz=mhz)


def test_noise_and_outliers_are_flagged() -> None:
    steady = [1.0 + 0.001 * (i % 3) for i in range(50)]
    assert timing.judge(steady) == []
    assert timing.judge([*steady, *[9.0] * 5]) == ["outliers"]
    assert timing.judge([1.0, 2.0] * 5) == ["noisy"]
    assert timing.judge([1.0]) == ["noisy"]
    found = summary(timing.Times([1.0, 2.0, 9.0], True), [COOL, replace_clock(1000)])
    assert found.ms == 2.0 and found.graph and found.clock_mhz == 1490 and found.temperature_c == 60
    assert found.flags == "throttled,noisy,outliers"


def test_repeats_end_when_the_median_stands_or_the_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(timing.settle(lambda: 1.0, 10.0)) == timing.MIN_REPEATS
    values = iter(np.random.default_rng(0).lognormal(0, 1, 1000))
    assert len(timing.settle(lambda: next(values), 10.0)) == timing.MAX_REPEATS

    now = 0.0

    def slow() -> float:
        nonlocal now
        now += 0.02
        return 20.0

    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: now))
    assert len(timing.settle(slow, 0.001)) == 1
    assert len(timing.settle(slow, 0.015)) == timing.FEWEST
    assert len(timing.settle(slow, 0.1)) == 6


@pytest.mark.parametrize(
    ("first_ms", "seconds", "sets", "most", "calls"),
    [
        (0.01, 1, 1, 1000, 200),
        (0.01, 1, 64, 1000, 192),
        (5.0, 1, 1, 100, 1),
        (1.0, 1, 50, 100, 50),
        (50.0, 0.1, 9, 9, 1),
    ],
)
def test_a_burst_has_whole_rounds_and_fits_the_time(
    first_ms: float, seconds: float, sets: int, most: int, calls: int
) -> None:
    assert timing.calls_of(first_ms, seconds, sets, most) == calls


def test_input_sets_are_used_in_turn_across_bursts() -> None:
    seen: list[int] = []
    run = timing.in_turn(timing.Work(seen.append, 3))
    run(2)
    run(3)
    assert seen == [0, 1, 2, 0, 1]


def test_cold_inputs_outgrow_the_cache() -> None:
    work = prepared(Case("gemm", "bf16", (1, 1024, 1024), "torch"), "cpu", 0)
    assert work.sets == sets_of(2 << 20, "cpu") >= 2
    assert sets_of(1 << 40, "cpu") == 1


def test_the_machine_is_described() -> None:
    facts = machine.machine("cpu")
    assert facts["torch"] == torch.__version__ and float(facts["cpus"]) >= 1 and facts["name"]


def test_without_pytorch_it_is_said_what_to_install() -> None:
    code = """
import sys
from fastsim.profiling.case import Case
from fastsim.profiling.machine import machine
from fastsim.profiling.measure import measure
assert "torch" not in sys.modules
sys.modules["torch"] = None
print(measure(Case("gemm", "bf16", (8, 8, 8), "torch"), "cpu", graph=False, seed=0, seconds=0.1).reason)
"""
    environment = os.environ | {"PYTHONPATH": ROOT}
    done = subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True)
    assert "pip install fastsim[profile]" in done.stdout

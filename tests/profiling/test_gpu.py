"""What of the profiler only a GPU can show; without one nothing here runs."""

import math

import pytest

torch = pytest.importorskip("torch", reason="profiling needs PyTorch: pip install fastsim[profile]")
if not torch.cuda.is_available():
    pytest.skip("needs a CUDA device", allow_module_level=True)

from fastsim.profiling import attention, elementwise, paged  # noqa: E402
from fastsim.profiling.backends import backends, candidates, missing  # noqa: E402
from fastsim.profiling.buffers import generator, normal  # noqa: E402
from fastsim.profiling.case import COLLECTIVES, SHAPES, Case, Measured, Skipped  # noqa: E402
from fastsim.profiling.libraries import attend_on, block_of  # noqa: E402
from fastsim.profiling.machine import machine  # noqa: E402
from fastsim.profiling.measure import measure  # noqa: E402

GPU = "cuda:0"
TYPICAL = {
    "m": 64, "n": 4096, "k": 4096, "batch": 8, "length": 256, "prefix": 1024, "kv_length": 1000, "kv_max": 4000,
    "heads": 32, "kv_heads": 8, "head_dim": 128, "tokens": 64, "hidden": 2048, "intermediate": 1024,
    "num_experts": 32, "topk": 4, "tp": 1, "ep": 1, "width": 4096, "vocab": 32000, "sequences": 16,
    "elements": 1 << 20, "ranks": 2, "context": 256, "kernels": 100,
}  # fmt: skip


@pytest.mark.parametrize("precision", ["bf16", "fp8"])
@pytest.mark.parametrize("family", SHAPES)
def test_every_backend_that_is_there_measures(family: str, precision: str) -> None:
    if family in COLLECTIVES and torch.cuda.device_count() < 2:
        pytest.skip("needs two GPUs")
    shape = tuple(TYPICAL[name] for name in SHAPES[family])
    found = {
        backend: measure(Case(family, precision, shape, backend), GPU, graph=True, seed=0, seconds=0.1)
        for backend in backends(family, precision, GPU)
    }
    reasons = {name: missing(family, precision, name, GPU) for name in candidates(family)}
    print(family, precision, found, {name: reason for name, reason in reasons.items() if reason})
    refused = {name: result for name, result in found.items() if isinstance(result, Skipped)}
    assert not refused
    for result in found.values():
        assert isinstance(result, Measured) and 0 < result.ms < 100
        assert result.graph or family in ("host_step",)
        assert result.clock_mhz > 0 or math.isnan(result.clock_mhz)


@pytest.mark.parametrize("lengths", [(5, 700, 130), (4096,), (17,) * 40])
@pytest.mark.parametrize("backend", ["flash", "flashinfer", "varlen", "triton"])
def test_every_paged_decode_gives_the_same(backend: str, lengths: tuple[int, ...]) -> None:
    reason = missing("decode_attention", "bf16", backend, GPU)
    if reason:
        pytest.skip(reason)
    random = generator(GPU, 1)
    cache = paged.paged(lengths, 2, (block_of(backend, GPU), 2, 128), "bf16", GPU, random)
    query = normal((len(lengths), 1, 8, 128), GPU, random)
    found = attend_on(backend, query, cache)(query, 1).view(len(lengths), 8, 128)
    torch.testing.assert_close(found, paged.gathered(query[:, 0], cache, 1), rtol=0.03, atol=0.01)


@pytest.mark.parametrize("backend", ["flash", "flashinfer", "varlen"])
def test_every_chunk_on_blocks_is_the_one_on_contiguous_keys(backend: str) -> None:
    reason = missing("chunk_attention", "bf16", backend, GPU)
    if reason:
        pytest.skip(reason)
    random = generator(GPU, 1)
    cache = paged.paged((300, 300), 1, (block_of(backend, GPU), 2, 128), "bf16", GPU, random)
    query = normal((2, 64, 8, 128), GPU, random)
    found = attend_on(backend, query, cache)(query, 0).view(2, 64, 8, 128)
    keys, values = (part[0][cache.table].flatten(1, 2)[:, :300].transpose(1, 2) for part in (cache.keys, cache.values))
    wanted = attention.causal(query.transpose(1, 2), keys, values).transpose(1, 2)
    torch.testing.assert_close(found, wanted, rtol=0.03, atol=0.01)


def test_fused_kernels_give_what_the_plain_ones_give() -> None:
    x, residual = torch.randn(64, 512, device=GPU).bfloat16(), torch.randn(64, 512, device=GPU).bfloat16()
    weight = torch.randn(512, device=GPU).bfloat16()
    for plain, fused in zip(
        elementwise.add_rms_norm(x, residual, weight),
        elementwise.fused("add_rms_norm")(x, residual, weight),
        strict=True,
    ):
        torch.testing.assert_close(plain, fused, rtol=0.05, atol=0.05)
    torch.testing.assert_close(elementwise.activation(x), elementwise.fused("activation")(x), rtol=0.05, atol=0.05)


def test_memory_comes_back_and_the_next_case_is_measured() -> None:
    before = torch.cuda.memory_reserved(GPU)
    found = measure(Case("gemm", "bf16", (8, 1 << 20, 1 << 19), "torch"), GPU, graph=True, seed=0, seconds=0.1)
    assert isinstance(found, Skipped) and found.reason.startswith("out of memory")
    assert torch.cuda.memory_reserved(GPU) <= before + (64 << 20)
    found = measure(Case("gemm", "bf16", (8, 1024, 1024), "torch"), GPU, graph=True, seed=0, seconds=0.1)
    assert isinstance(found, Measured)


@pytest.mark.parametrize("shape", [(16, 4096, 4096), (2048, 4096, 4096)])
def test_the_median_repeats_within_three_percent(shape: tuple[int, ...]) -> None:
    case = Case("gemm", "bf16", shape, "torch")
    first, second = (measure(case, GPU, graph=True, seed=0, seconds=0.5) for _ in range(2))
    assert isinstance(first, Measured) and isinstance(second, Measured)
    assert abs(first.ms / second.ms - 1) < 0.03


def test_cold_weights_take_longer_than_the_memory_allows() -> None:
    found = measure(Case("gemm", "bf16", (1, 4096, 4096), "torch"), GPU, graph=True, seed=0, seconds=0.3)
    assert isinstance(found, Measured)
    assert found.ms > 2 * 4096 * 4096 / 9e12 * 1e3  # no DRAM reads 9 TB/s yet


def test_the_gpu_is_described() -> None:
    facts = machine(GPU)
    assert facts["name"] and facts["cuda"] and float(facts["num_sms"]) > 0

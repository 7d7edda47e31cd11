"""Laws that all shipped operator times keep: neighbours agree, and no GPU is faster than its peaks."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fastsim.catalog.hardware import Device
from fastsim.catalog.load import load_device, names
from fastsim.catalog.precisions import FORMATS
from fastsim.deployment.description import Deployment
from fastsim.deployment.operators.kinds import Attention, Experts, Gemm
from fastsim.deployment.resolve import resolve
from fastsim.predictors.build import operator_times
from fastsim.predictors.chip import Floats
from fastsim.predictors.families import FAMILIES, features
from fastsim.predictors.forests import forest
from fastsim.predictors.sources import sources_of
from fastsim.predictors.times import estimate, scaled
from fastsim.predictors.times.origin import origin_of
from fastsim.predictors.times.reach import Reach, reach_of

GEMM, EXPERTS, ATTENTION = Gemm("x", 14336, 4096), Experts(4096, 1536, 128, 8, 2, 1, 1), Attention(32, 8, 128)
PHI = sources_of(resolve(Deployment(model="microsoft/phi-2", device="h100")))
REACH = Reach(16384, 256, 1 << 20, 1 << 20, 8192, 8192)
FORESTS = [
    (system, family, precision)
    for system in forest.systems()
    for family in FAMILIES
    for precision in forest.precisions(system, family)
]
# Shapes that models have, and which of their columns grows.
HEADS = [[32, 8, 128], [8, 1, 128], [16, 4, 128]]
EXPERT_MODELS = [
    [4096, 1536, 128, 8, 1, 1],
    [4096, 1536, 128, 8, 4, 1],
    [5120, 8192, 16, 1, 2, 1],
    [4096, 14336, 8, 2, 2, 1],
]
SHAPES: dict[str, tuple[list[list[float]], int]] = {
    "gemm": ([[1, 28672, 4096], [1, 4096, 14336], [1, 6144, 4096], [1, 10240, 8192], [1, 8192, 8192]], 0),
    "moe": ([[1, *model] for model in EXPERT_MODELS], 0),
    "prefill_attention": ([[1, 1, *heads] for heads in HEADS], 1),
    "decode_attention": ([[batch, 1, *heads] for batch in (1, 64) for heads in HEADS], 1),
    "mla_prefill": ([[1, 1, 16], [1, 1, 64]], 1),
    "mla_decode": ([[1, 1, 16], [64, 1, 16], [64, 1, 64]], 1),
}
# Tables that break a law, with the sizes at which they do: marked here, and smoothed where they are read (monotone).
ONE_TOKEN = ("b200_sxm", "gemm", "fp8")  # vLLM's rows of one token take 1.3 times as long as those of two, or of bf16


def grown(system: str, family: str, precision: str) -> tuple[Floats, Floats, Floats]:
    """Sizes that double up to 16384, and at them what a forest says and the peaks of its chip, ms, [shapes, sizes]."""
    chip = scaled.chip_of(next(one for one in map(load_device, names("devices")) if one.predictor == system))
    known = forest.load(system, family, precision, chip)
    shapes, column = SHAPES[family]
    sizes: Floats = np.exp2(np.arange(0 if column == 0 else 5, 15, dtype=np.float64))
    rows = np.repeat(np.array(shapes, np.float64), sizes.size, axis=0)
    rows[:, column] = np.tile(sizes, len(shapes))
    terms = features(family, rows, chip, precision)[1]
    peaks = np.asarray(np.maximum(terms["compute"], terms["memory"]))
    return sizes, known.ms(rows).reshape(-1, sizes.size), peaks.reshape(-1, sizes.size)


@pytest.mark.parametrize(("system", "family", "precision"), FORESTS)
def test_more_work_takes_longer_and_not_far_longer_than_the_peaks_allow(
    system: str, family: str, precision: str
) -> None:
    """Over the shapes of models, twice the tokens take no less time but for a tenth, which smoothing takes away, and at
    the most 6 times what FLOPs, bytes and launches take; latent attention of the A100 has a kernel of its own.
    """
    _, ms, peaks = grown(system, family, precision)
    more = np.median(ms[:, 1:] / ms[:, :-1], axis=0)
    assert (more[(system, family, precision) == ONE_TOKEN :] > 0.9).all()
    most = 9 if (system, family) == ("a100_sxm", "mla_decode") else 6
    assert (np.median(ms / (peaks + 0.02), axis=0) < most).all()


@pytest.mark.parametrize(("system", "family", "precision"), [one for one in FORESTS if one[2] != "bf16"])
def test_fewer_bits_take_no_longer(system: str, family: str, precision: str) -> None:
    """Up to 512 tokens a GEMM or an expert is bound by its weights, and decode attention by its KV cache.

    Prefill attention is not: on some GPUs its kernel for 8-bit KV is another one.
    """
    if "bf16" not in forest.precisions(system, family) or family in ("prefill_attention", "mla_prefill"):
        pytest.skip("nothing to compare with")
    sizes, ms, _ = grown(system, family, precision)
    _, wide, _ = grown(system, family, "bf16")
    bound = sizes <= 512 if SHAPES[family][1] == 0 else sizes > 0
    bound[: (system, family, precision) == ONE_TOKEN] = False
    assert (np.median(ms / wide, axis=0)[bound] < 1.1 + 0.005 / np.median(wide, axis=0)[bound]).all()


@pytest.mark.parametrize("device", names("devices"))
def test_no_operator_is_faster_than_the_peaks_of_the_gpu(device: str) -> None:
    """FLOPs and bytes over time are at most the data sheet's: in every precision, from 1 token to a million."""
    one = load_device(device)
    sources = replace(PHI, system=one.predictor or one.name, device=one, origin=origin_of(one))
    tokens = np.array([1, 16, 256, 3000, 16384])
    for precision in FORMATS:
        gemm, experts = replace(GEMM, precision=precision), replace(EXPERTS, precision=precision)
        asked = replace(sources, operators=replace(PHI.operators, gemms=(gemm,), lm_head=replace(gemm, name="head")))
        ms = estimate._gemm_times(asked, REACH)["x"]
        for operator, took in ((gemm, ms[tokens]), (experts, sources.experts_ms(experts, tokens.astype(float)))):
            flops = [operator.flops(n) for n in tokens.tolist()]
            moved = [operator.bytes_read(n) + operator.bytes_written(n) for n in tokens.tolist()]
            assert (shares(one, precision, flops, moved, took) <= 1.001).all()
        # Beyond the table it goes on as a line.
        slope = (ms[-1] - ms[ms.size // 2]) / (ms.size - 1 - ms.size // 2)
        took = ms[-1] + slope * ((1 << 20) - ms.size + 1)
        assert shares(one, precision, gemm.flops(1 << 20), gemm.bytes_moved(1 << 20), took) <= 1.05
    for attn in (ATTENTION, replace(ATTENTION, precision="fp8"), replace(ATTENTION, kv_heads=32)):
        ms = estimate._decode(sources, attn, REACH)
        kv = np.arange(257)[:, None] * np.arange(129) * float(REACH.kv_step)
        work = 4.0 * attn.heads * attn.head_dim * kv
        assert (shares(one, attn.precision, work, kv * attn.kv_bytes_per_token(), ms)[1:] <= 1.001).all()
        ms = estimate._prefill(sources, attn, REACH)[::8, ::8]
        steps = [REACH.kv_step * i for i in range(0, 129, 8)]
        work = np.array([[attn.flops(processed, chunk) for chunk in steps] for processed in steps], np.float64)
        assert (shares(one, "bf16", work, np.zeros(work.shape), ms) <= 1.001).all()


def shares(device: Device, precision: str, flops: Any, moved: Any, ms: Any) -> Floats:
    """The larger share of the peak FLOP/s and of the peak bandwidth that work in ``ms`` takes."""
    peak = device.tflops.get(scaled.rate_of(precision), device.tflops["bf16"]) * 1e9
    return np.asarray(np.maximum(np.asarray(flops) / peak, np.asarray(moved) / (device.bandwidth_gb_s * 1e6)) / ms)


@pytest.mark.parametrize("device", ["h100", "a100", "rtx_pro_6000", "h20"])
def test_prefill_attention_grows_with_the_square_up_to_a_million_tokens(device: str) -> None:
    """Whole, and in chunks, which take a little longer than the whole."""
    one = load_device(device)
    sources = replace(PHI, system=one.predictor or one.name, device=one, origin=origin_of(one))
    grid = estimate._prefill(sources, ATTENTION, REACH)
    whole = grid[0, 2 ** np.arange(3, 8)]  # 65,536 to 1,048,576 tokens
    assert whole[1:] / whole[:-1] == pytest.approx(4, rel=0.01)
    for chunk in (1, 2, 16):
        parts = sum(grid[start, chunk] for start in range(0, 128, chunk))
        assert whole[-1] <= parts <= 1.05 * whole[-1]


def test_long_prompts_are_as_long_in_the_tables_of_a_deployment() -> None:
    """Of a deployment that takes a million tokens in one batch; a short prompt keeps its time."""
    asked = {"model": "meta-llama/Llama-3.1-8B", "device": "h100", "tensor_parallel_size": 8}
    long, short = (
        resolve(Deployment.load({**asked, "max_model_len": length, "scheduler": {"policy": "vllm", "max_num_seqs": 8}}))
        for length in (131072, 16384)
    )
    reach = reach_of(long)
    assert (reach.max_chunk, reach.kv_step, reach.chunk_step) == (131072, 64, 128)
    ms, near = (operator_times(one)[0].prefill for one in (long, short))
    for tokens in (512, 4096, 16384):
        assert ms[0, tokens // 128] == pytest.approx(near[0, tokens // reach_of(short).chunk_step], rel=1e-9)
    assert ms[0, 1024] / ms[0, 512] == pytest.approx(4, rel=0.02)

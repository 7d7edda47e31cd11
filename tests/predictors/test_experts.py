"""Experts: which rows of measurements are of what they say, and how randomly routed tokens are read from even ones."""

import numpy as np
import pytest

from fastsim.deployment.description import Deployment
from fastsim.deployment.operators.kinds import Experts
from fastsim.deployment.resolve import resolve
from fastsim.predictors.chip import PRECISIONS, Chip
from fastsim.predictors.forests.features import moe
from fastsim.predictors.measurements import expert_rows
from fastsim.predictors.sources import sources_of

CHIP = Chip(989.4, 3350.0, 132)
TOKENS = np.array([1.0, 2, 4, 8, 16, 32, 64, 128, 256, 512, 2048])


def rows(*model: float) -> np.ndarray:
    """Shapes of one model, by tokens: hidden, intermediate, experts, top-k, TP, EP."""
    return np.column_stack([TOKENS, *(np.full(TOKENS.size, float(size)) for size in model)])


def sound_ms(shape: np.ndarray) -> np.ndarray:
    """Times of a kernel that reaches 80 % of the peaks."""
    return 0.01 + np.asarray(moe(shape, CHIP, PRECISIONS["fp8"])[1]["roofline"]) / 0.8


def test_rows_of_fewer_experts_than_they_say_are_left_out() -> None:
    whole, grouped = rows(7168, 2048, 384, 8, 1, 1), rows(7168, 2048, 256, 8, 1, 1)
    shape = np.vstack([whole, grouped])
    ms = np.concatenate([sound_ms(whole), sound_ms(grouped) / 2])  # half of its experts are reached
    kept = expert_rows.not_too_fast(shape, ms, CHIP, PRECISIONS["fp8"])
    assert kept[: len(whole)].all() and not kept[len(whole) :].any()
    ms = sound_ms(whole)
    ms[5] /= 2  # 256 choices do not reach 256 of 384 experts
    kept = expert_rows.not_too_fast(whole, ms, CHIP, PRECISIONS["fp8"])
    assert not kept[5] and kept.sum() == len(ms) - 1


def test_ways_to_spread_a_model_that_were_timed_with_a_slow_kernel_are_left_out() -> None:
    fast, slow = rows(5120, 8192, 128, 1, 1, 1), rows(5120, 8192, 16, 1, 2, 1)
    ms = np.concatenate([sound_ms(fast), 5 * sound_ms(slow)])
    kept = expert_rows.not_too_slow(np.vstack([fast, slow]), ms, CHIP, PRECISIONS["fp8"])
    assert kept[: len(fast)].all() and not kept[len(fast) :].any()


def test_experts_without_a_gate_become_those_with_as_many_weights() -> None:
    shape = np.vstack([rows(2688, 1856, 128, 6, 1, 1), rows(4096, 1536, 128, 8, 1, 1)])
    gated = expert_rows.as_gated(shape)
    assert set(gated[:, 2]) == {1237, 1536} and shape[0, 2] == 1856
    assert (np.delete(gated, 2, axis=1) == np.delete(shape, 2, axis=1)).all()


@pytest.mark.parametrize(
    ("device", "precision"), [("h100", "bf16"), ("h100", "fp8"), ("b200", "nvfp4"), ("a100", "bf16"), ("l4", "bf16")]
)
def test_tokens_that_are_routed_at_random_reach_fewer_experts(device: str, precision: str) -> None:
    asked = Deployment(model="Qwen/Qwen3-30B-A3B", device=device, tensor_parallel_size=4, max_model_len=4096)
    sources = sources_of(resolve(asked))
    tokens = np.array([1.0, 2, 4, 8, 16, 32, 64, 128, 512, 2048])

    def ms(skew: float) -> np.ndarray:
        return sources.experts_ms(Experts(2048, 768, 128, 8, 1, 1, 48, precision, skew=skew), tokens)

    even, skewed = ms(0.0), ms(1.0)
    assert (np.diff(even) > 0).all() and (np.diff(skewed) > 0).all()
    assert skewed[0] == pytest.approx(even[0]) and skewed[-1] == pytest.approx(even[-1], rel=0.02)
    assert (skewed <= even + 1e-12).all() and skewed[4] < 0.85 * even[4]
    # 16 tokens reach 64 % of the experts, and take little more than what these take.
    reached = Experts(2048, 768, 128, 8, 1, 1, 48, precision).reached(16)
    assert even[0] + 0.8 * reached * (even[-3] - even[0]) < even[4] < even[0] + 1.2 * reached * (even[-3] - even[0])

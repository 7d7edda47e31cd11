"""Where experts are: what skew makes of GPUs that share them, what EPLB and copies make of it, and what they cost."""

import json
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fastsim.deployment.commands.imported import load
from fastsim.deployment.description import Deployment
from fastsim.deployment.launch.launch import launch
from fastsim.deployment.operators.kinds import Experts
from fastsim.deployment.operators.placement import imbalance, loads, popularity
from fastsim.deployment.resolve import resolve
from fastsim.deployment.resolved import Resolved
from fastsim.errors import ConfigError

WIDE: dict[str, Any] = {"model": "Qwen/Qwen3-235B-A22B", "device": "h200", "tensor_parallel_size": 8}
WIDE |= {"enable_expert_parallel": True, "engine": "vllm-0.19", "max_model_len": 4096, "moe_skew": 0.6}

EPLB = {"enable_eplb": True}


def deployed(**fields: Any) -> Resolved:
    return resolve(Deployment.load(WIDE | fields))


@st.composite
def mixtures(draw: st.DrawFn) -> tuple[int, int, float, int, int]:
    """Experts, those of a token, skew, GPUs, and copies that divide among them."""
    gpus, each = draw(st.sampled_from([2, 3, 4, 8])), draw(st.integers(1, 24))
    experts = gpus * each
    copies = gpus * draw(st.integers(0, each))
    return experts, draw(st.integers(1, min(8, experts))), draw(st.floats(0, 2)), gpus, copies


@given(mixtures())
def test_balancing_is_never_worse_and_loses_no_token(mixture: tuple[int, int, float, int, int]) -> None:
    experts, top_k, skew, gpus, copies = mixture
    plain = imbalance(experts, top_k, skew, gpus)
    balanced = imbalance(experts, top_k, skew, gpus, True, copies)
    assert 1 <= balanced <= plain <= gpus + 1e-9
    chosen = popularity(experts, top_k, skew)
    assert sum(chosen) * (experts // len(chosen)) == pytest.approx(top_k)
    every = loads(experts, top_k, skew, copies)
    assert sum(every) * ((experts + copies) // len(every)) == pytest.approx(top_k)
    assert max(every) <= max(chosen) + 1e-12


def test_the_busiest_experts_have_copies() -> None:
    assert sorted(loads(4, 1, 1.0, 1), reverse=True) == pytest.approx([0.24] * 3 + [0.16, 0.12])
    uneven = [imbalance(128, 8, 1.0, 8, True, copies) for copies in (0, 32, 64)]
    assert imbalance(128, 8, 1.0, 8) > 1.6 > uneven[0] and uneven[2] < 1.02
    assert imbalance(128, 8, 0.0, 8) == imbalance(128, 8, 1.0, 1) == 1


def test_copies_take_memory_and_make_steps_shorter() -> None:
    plain, balanced = deployed(), deployed(enable_eplb=True, num_redundant_experts=32)
    assert plain.moe_imbalance > 1.2 > balanced.moe_imbalance
    copies = 4 * 94 * 3 * 4096 * 1536 * 2 / 2**30  # a GPU has four more experts in each layer
    assert balanced.memory.weights_gib - plain.memory.weights_gib == pytest.approx(copies, rel=1e-6)
    assert balanced.memory.num_blocks < plain.memory.num_blocks
    (few,), (many,) = plain.operators.all_experts, balanced.operators.all_experts
    assert many.rows(4096) < few.rows(4096) and many.reached(8) < few.reached(8)


def test_a_measured_imbalance_is_taken_as_it_is() -> None:
    assert deployed(moe_imbalance=1.4).moe_imbalance == 1.4
    assert deployed(moe_imbalance=1.4, enable_eplb=True).moe_imbalance == 1.4
    assert deployed(moe_skew=0).moe_imbalance == 1
    assert deployed(enable_expert_parallel=False, tensor_parallel_size=4).moe_imbalance == 1


def test_experts_without_skew_or_copies_are_as_before() -> None:
    experts = Experts(4096, 1536, 128, 8, 1, 8, 94)
    assert experts.num_copies == 128 and experts.reached(4) == 1 - (1 - 8 / 128) ** 4


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"num_redundant_experts": 32}, "num_redundant_experts: 32 needs enable_eplb (valid: 0)"),
        ({"enable_eplb": True, "num_redundant_experts": 30}, "do not divide among 8 GPUs (e.g. 32)"),
        ({"enable_eplb": True, "enable_expert_parallel": False}, "enable_eplb: True needs enable_expert_parallel"),
        ({"model": "meta-llama/Llama-3.1-8B", "enable_expert_parallel": False, "moe_skew": 0} | EPLB, "needs experts"),
        ({"num_redundant_experts": -8}, "num_redundant_experts: -8 is not a number from 0 up"),
    ],
)
def test_copies_that_cannot_be_are_refused(fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        deployed(**fields)
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    "flags",
    [
        """--enable-eplb --eplb-config '{"num_redundant_experts": 32, "window_size": 1000}'""",
        "--enable-eplb --num-redundant-experts 32",
    ],
)
def test_vllm_s_words_come_in_and_go_out(flags: str) -> None:
    command = f"vllm serve Qwen/Qwen3-235B-A22B -tp 8 --enable-expert-parallel {flags}"
    text = load(command, overrides=["device=h200", "max_model_len=4096"]).text
    deployment = Deployment.load(yaml.safe_load(text))
    assert deployment.enable_eplb and deployment.num_redundant_experts == 32
    given = dict(launch(deployment).flags)
    assert "--enable-eplb" in given and json.loads(str(given["--eplb-config"])) == {"num_redundant_experts": 32}


def test_eplb_config_that_is_no_object_is_refused() -> None:
    with pytest.raises(ConfigError, match="is no JSON object"):
        Deployment.load(WIDE | {"eplb_config": "32"})

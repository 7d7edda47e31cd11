"""Whose kernels a deployment runs: attention and all-reduce of vLLM, SGLang or TensorRT-LLM, and of which release."""

import importlib.util
import json
from typing import Any

import numpy as np
import pytest

from fastsim.deployment.description import Deployment
from fastsim.deployment.resolve import resolve
from fastsim.deployment.resolved import Resolved
from fastsim.predictors.forests import forest as shipped
from fastsim.predictors.measurements import aiconfigurator
from fastsim.predictors.sources import sources_of
from fastsim.predictors.times.communication import all_reduce_ms
from fastsim.predictors.times.times import monotone

AIC = importlib.util.find_spec("aiconfigurator_core") is not None
LLAMA_3, LLAMA_2 = "meta-llama/Meta-Llama-3-8B", "meta-llama/Llama-2-7b-hf"


def resolved(model: str = LLAMA_3, **fields: Any) -> Resolved:
    return resolve(Deployment.load({"model": model, "device": "h100", "max_model_len": 2048, **fields}))


def chosen(resolved: Resolved, family: str) -> tuple[str, str]:
    """The folder of a forest, and the framework whose rows it was trained on."""
    (choice,) = (one for (name, _), one in sources_of(resolved).chosen().items() if name == family)
    card = shipped.card(choice.system, family, choice.precision, choice.root)
    return choice.system, card["source"]["frameworks"][0].split()[0]


@pytest.mark.parametrize(
    ("fields", "attention"),
    [
        ({}, ("h100_sxm", "vllm")),
        ({"engine": "vllm-0.15"}, ("h100_sxm", "vllm")),
        ({"engine": "sglang-0.5.10"}, ("sglang", "sglang")),
        ({"engine": "vllm-0.15", "predictor": {"kernels": "trtllm"}}, ("trtllm", "trtllm")),
        ({"engine": "sglang-0.5.10", "predictor": {"kernels": "vllm"}}, ("h100_sxm", "vllm")),
        ({"engine": "sglang-0.5.10", "device": "a100"}, ("a100_sxm", "vllm")),  # which has no rows of SGLang
    ],
)
def test_attention_is_that_of_the_engine(fields: dict[str, Any], attention: tuple[str, str]) -> None:
    for family in ("decode_attention", "prefill_attention"):
        assert chosen(resolved(**fields), family) == attention
    gemm = resolved(**fields)
    assert chosen(gemm, "gemm")[0] == ("a100_sxm" if gemm.device.name == "a100" else "h100_sxm")


def test_more_kv_heads_than_vllm_measured() -> None:
    """Multi-head attention has as many KV heads as heads: of SGLang, with the same kernels, they were measured."""
    assert chosen(resolved(LLAMA_2), "decode_attention") == ("sglang", "sglang")
    assert chosen(resolved(LLAMA_2, tensor_parallel_size=4), "decode_attention") == ("h100_sxm", "vllm")
    batch, kv = np.array([1.0, 16, 64, 256]), np.array([1000.0] * 4)
    times = []
    for model in (LLAMA_2, LLAMA_3):
        one = resolved(model)
        (attn,) = one.operators.attentions
        forest = sources_of(one).attention(attn, "decode")
        assert forest is not None and attn.heads == 32
        shape = np.column_stack([batch, kv, *([float(n)] * 4 for n in (attn.heads, attn.kv_heads, attn.head_dim))])
        assert not forest.outside(shape).any()
        times.append(forest.ms(shape))
    wide, grouped = times
    assert (wide > grouped).all() and 3 < wide[-1] / grouped[-1] < 5  # four times as many bytes


def all_reduce_us(tokens: int, tp: int, engine: str, device: str = "h100") -> float:
    one = resolved(
        "meta-llama/Llama-3.1-70B", quantization="fp8", engine=engine, tensor_parallel_size=tp, device=device
    )
    return 1e3 * float(all_reduce_ms(sources_of(one), one.node, tp, np.array([tokens]), 512)[0])


@pytest.mark.parametrize("device", ["h100", "h200"])
def test_all_reduce_is_that_of_the_release(device: str) -> None:
    """With 8 GPUs and 256 KB or more, vLLM from 0.11 on adds up in the switch (multimem); before it did not."""
    old, new = (all_reduce_us(16, 8, f"vllm-{release}", device) for release in ("0.10", "0.15"))
    assert 1.25 < old / new < 1.5
    for tokens, tp in ((8, 8), (16, 4), (16, 2)):
        old, new = (all_reduce_us(tokens, tp, f"vllm-{release}", device) for release in ("0.10", "0.15"))
        assert old == pytest.approx(new, rel=0.05)
    old, new = (all_reduce_us(16, 8, f"sglang-{release}", device) for release in ("0.5.10", "0.5.23"))
    assert 1.3 < old / new < 1.9


@pytest.mark.parametrize(
    ("system", "framework"), [(name, one) for name, all_ in aiconfigurator.OTHERS.items() for one in all_]
)
def test_forests_of_other_frameworks(system: str, framework: str) -> None:
    """They keep errors and laws that those of vLLM keep: more tokens take longer, and bytes take their time."""
    folder = shipped.FOLDER / system / framework
    assert {path.stem for path in folder.glob("*.onnx")} >= {"decode_attention", "prefill_attention"}
    for path in folder.glob("*.onnx"):
        card = json.loads(path.with_suffix(".json").read_bytes())
        assert card["system"] == system and card["rows"] > 600
        assert card["error_percent"]["rows it was trained on"] < 6
        unseen = [error for name, error in card["error_percent"].items() if name.startswith("unseen")]
        assert len(unseen) == 2 and max(unseen) < 13
        assert 84 <= card["coverage_percent"]["all"] <= 95
        forest = shipped.load(
            framework, card["family"], card["precision"], aiconfigurator.SYSTEMS[system].chip, folder.parent
        )
        if card["family"] == "moe":
            continue
        lengths = forest.knots("length" if card["family"] == "prefill_attention" else "kv_length")
        shape = np.column_stack([np.full(lengths.size, n) for n in (8.0, 1.0, 32.0, 8.0, 128.0)])
        shape[:, 1] = lengths
        ms = forest.ms(shape)
        np.testing.assert_allclose(ms, monotone(ms), rtol=0.15)
        assert ms[-1] > 20 * ms[0]


@pytest.mark.skipif(not AIC, reason="needs the extra fastsim[aic]")
def test_gpus_that_compute_alike_count_alike() -> None:
    """FLOPs bound large products: in fp8 the rows of H100 and H200 count as their mean, and small ones stay."""
    own, other = (aiconfigurator.read(name, "gemm", "fp8") for name in ("h100_sxm", "h200_sxm"))
    at = [dict(zip(map(tuple, one.shape.tolist()), one.ms, strict=True)) for one in (own, other)]
    large, small = (4096.0, 8192.0, 8192.0), (16.0, 8192.0, 8192.0)
    assert at[0][large] == pytest.approx(at[1][large])
    assert at[0][small] > 1.1 * at[1][small]


@pytest.mark.parametrize(
    ("device", "precision", "kernels", "experts"),
    [
        ("b200", "nvfp4", "trtllm", ("trtllm", "trtllm")),
        ("b200", "nvfp4", None, ("b200_sxm", "vllm")),
        ("b200", "fp8", "trtllm", ("b200_sxm", "vllm")),
        ("rtx_pro_6000", "nvfp4", "trtllm", ("trtllm", "trtllm")),
        ("h100", "bf16", "trtllm", ("h100_sxm", "vllm")),
    ],
)
def test_experts_of_tensorrt_llm_are_its_own_on_blackwell(
    device: str, precision: str, kernels: str | None, experts: tuple[str, str]
) -> None:
    fields = {"quantization": None if precision == "bf16" else precision, "predictor": {"kernels": kernels}}
    assert chosen(resolved("Qwen/Qwen3-30B-A3B", device=device, **fields), "moe") == experts


def test_grouped_products_by_cutlass_take_longer_than_the_fused_kernel() -> None:
    """On B200 in nvfp4, at any size of batch, as Qwen3-30B-A3B was measured by both frameworks."""
    tokens = np.array([16.0, 256, 2048, 8192])
    ms = []
    for kernels in ("trtllm", None):
        fields = {"quantization": "nvfp4", "predictor": {"kernels": kernels}}
        sources = sources_of(resolved("Qwen/Qwen3-30B-A3B", device="b200", **fields))
        ms.append(sources.experts_ms(sources.operators.all_experts[0], tokens))
    assert (ms[0] > 1.5 * ms[1]).all() and (ms[0] < 4 * ms[1]).all()

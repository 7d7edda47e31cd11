"""The memory planners: ours against what vLLM reported, Vidur's against its recorded runs."""

import json
from dataclasses import replace
from math import ceil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from published import TYPED

from fastsim.catalog.load import load_device, load_model
from fastsim.catalog.model import Heads, Layer, Model
from fastsim.deployment.memory.kv import bytes_of, longest_request
from fastsim.deployment.memory.plan import blocks_that_fit, plan
from fastsim.deployment.memory.sizes import GIB, Layout, MemoryPlan, block_bytes, rope_bytes, weight_bytes
from fastsim.errors import DoesNotFitError

GOLDEN = Path(__file__).resolve().parents[3] / "shared" / "golden"
ONE = Layout(
    tensor_parallel_size=1,
    pipeline_parallel_size=1,
    max_model_len=4096,
    gpu_memory_utilization=0.9,
    planner="fastsim",
    block_size=16,
    watermark=0.01,
    max_num_seqs=128,
    max_iteration_tokens=2048,
)


def layout(tp: int = 1, pp: int = 1, **changes: object) -> Layout:
    sizes = {"tensor_parallel_size": tp, "pipeline_parallel_size": pp}
    return replace(ONE, **(sizes | changes))  # type: ignore[arg-type]


def test_blocks_of_llama_2_7b_on_an_a100() -> None:
    planned = plan(load_model("llama-2-7b"), load_device("a100"), layout(max_iteration_tokens=4096))
    # 7449 and 7351 before and after vLLM's pull request 2031, "Fix peak memory profiling"
    assert planned.num_blocks == pytest.approx(7400, rel=0.02)
    assert planned.block_bytes == 8 * 2**20 and planned.blocks_per_sequence == 256
    assert planned.watermark_blocks == planned.num_blocks // 100 and planned.max_batch_size == planned.num_blocks // 256
    assert planned.kv_gib == planned.num_blocks * 8 / 1024
    total = planned.weights_gib + planned.kv_gib + planned.reserve_gib
    assert 0.9 * 79.25 - 8 / 1024 < total <= 0.9 * 79.25


# Weights in GiB as vLLM logs them ("model weights take"): pull request 10511 and pull request 17122.
def test_weights_are_those_that_vllm_logs() -> None:
    model = load_model("llama-3-8b")
    assert weight_bytes(model, layout(), 0) / GIB == pytest.approx(14.96, abs=0.005)
    assert weight_bytes(model, layout(2), 0) / GIB == pytest.approx(7.48, abs=0.005)
    # vLLM 0.8.5: issue 17469, "Model loading took 14.2474 GiB"
    assert weight_bytes(load_model("Qwen3-30B-A3B"), layout(4), 0) / GIB == pytest.approx(14.2474, abs=0.005)
    # With the cosines and sines of 131,072 positions: case of vLLM 0.11 in test_reserve.py.
    assert weight_bytes(load_model("llama-3.1-8b"), layout(), 0) / GIB == pytest.approx(14.99, abs=0.005)


# Vidur's plans: num_blocks and max_batch_size_planner in the config.json of the golden runs (golden/README.md),
# with max_model_len 4096 and blocks of 16. Batch sizes before the cap.
VIDUR = [
    ("llama-2-7b", "a100", 1, 1, 0.9, 7424, 29),
    ("llama-2-7b", "a100", 1, 1, 0.25, 768, 3),
    ("llama-2-7b", "a100", 1, 4, 0.9, 34816, 34),
    ("llama-3-8b", "a100", 1, 1, 0.9, 30208, 118),
    ("llama-2-70b", "a100", 2, 2, 0.9, 32768, 64),
    ("llama-2-70b", "h100", 4, 1, 0.9, 32768, 128),
]


@pytest.mark.parametrize(("model", "device", "tp", "pp", "memory", "blocks", "batch"), VIDUR)
def test_vidurs_plans(model: str, device: str, tp: int, pp: int, memory: float, blocks: int, batch: int) -> None:
    given = layout(tp, pp, planner="vidur", gpu_memory_utilization=memory)
    planned = plan(load_model(model), load_device(device), given)
    assert (planned.num_blocks, planned.max_batch_size) == (blocks, batch)
    assert planned.blocks_per_sequence == 256 and planned.watermark_blocks == int(0.01 * blocks)


def test_vidurs_blocks_per_sequence_round_down_and_ours_up() -> None:
    arguments = load_model("llama-2-7b"), load_device("a100")
    assert plan(*arguments, layout(planner="vidur", max_model_len=4090)).blocks_per_sequence == 255
    assert plan(*arguments, layout(max_model_len=4090)).blocks_per_sequence == 256
    # LightLLM's blocks of one token: golden/lightllm_7b_a100_q6.45
    assert plan(*arguments, layout(planner="vidur", block_size=1)).num_blocks == 118784


@pytest.mark.skipif(not GOLDEN.is_dir(), reason="the golden runs are not here")
def test_every_golden_plan_of_vidur() -> None:
    planned = 0
    for file in sorted(GOLDEN.glob("*/config.json")):
        run = json.loads(file.read_text())
        scheduler = run["scheduler_config"]
        given = layout(
            run["tp"],
            run["pp"],
            planner="vidur",
            max_model_len=run["max_tokens"],
            gpu_memory_utilization=round(1 - run["memory_margin_fraction"], 6),
            block_size=scheduler["block_size"],
        )
        mine = plan(load_model(run["model"]), load_device(run["device"]), given)
        assert min(mine.max_batch_size, scheduler["batch_size_cap"]) == run["max_batch_size_planner"], file
        if not isinstance(scheduler["num_blocks"], int):  # an integer was given by hand, a float planned
            assert mine.num_blocks == run["num_blocks"], file
            planned += 1
    assert planned >= 10


def whole_weights(model: Model) -> int:
    """Bytes of every parameter of a model, matrix by matrix; the up-projection of a latent KV is held twice."""
    hidden, head = model.hidden_size, model.head_dim
    queries, values = model.num_attention_heads * head, model.num_key_value_heads * head
    attention = [hidden * queries, 2 * hidden * values, queries * hidden]
    attention += [queries + 2 * values] * model.attention_bias
    if model.kv_lora_rank:
        heads, rank = model.num_attention_heads, model.kv_lora_rank
        attention = [hidden * (model.q_lora_rank + rank + model.qk_rope_head_dim)]
        attention += [(model.q_lora_rank or hidden) * queries, 2 * rank * heads * (model.qk_nope_head_dim + 128)]
        attention += [heads * 128 * hidden]
    mlp = hidden * model.intermediate_size * (3 if model.gated_mlp else 2)
    experts = 3 * hidden * (model.num_experts * model.moe_intermediate_size + model.shared_expert_intermediate_size)
    experts += hidden * model.num_experts
    layers = [sum(attention) + (experts if model.has_experts(i) else mlp) for i in range(model.num_layers)]
    ends = [model.vocab_size * hidden] * (1 if model.tie_word_embeddings else 2)
    return 2 * (sum(layers) + sum(ends)) + norms(model)


def norms(model: Model) -> int:
    """Bytes that every rank holds a copy of, but for what makes a latent KV and for routers."""
    layer = model.hidden_size * (1 + model.post_attention_norm) + 2 * model.head_dim * model.qk_norm
    layer += (model.q_lora_rank + model.kv_lora_rank) * (model.kv_lora_rank > 0)
    return 2 * (model.num_layers * layer + model.hidden_size)


def matrices(model: Model, layout: Layout, stage: int) -> int:
    """Bytes of the weights of a GPU without the cosines and sines that every GPU has."""
    return weight_bytes(model, layout, stage) - rope_bytes(model)


@pytest.mark.parametrize("name", TYPED)
def test_weights_add_up_over_the_gpus(name: str) -> None:
    model = replace(load_model(name), quantization=None)
    tied = replace(model, tie_word_embeddings=True)
    assert matrices(model, layout(), 0) == whole_weights(model)
    assert matrices(tied, layout(), 0) == whole_weights(tied)
    # The embedding and the LM head stand on different stages, tied or not.
    pp = next(size for size in range(2, 100) if model.num_layers % size == 0)
    assert sum(matrices(tied, layout(pp=pp), stage) for stage in range(pp)) == whole_weights(
        replace(model, tie_word_embeddings=False)
    )
    sharded = 2 * matrices(model, layout(2), 0) - whole_weights(model)
    routers = 2 * model.num_experts * model.hidden_size * sum(map(model.has_experts, range(model.num_layers)))
    latent = model.q_lora_rank + model.kv_lora_rank + model.qk_rope_head_dim if model.kv_lora_rank else 0
    assert sharded == norms(model) + routers + 2 * model.num_layers * latent * model.hidden_size


def test_precisions_of_weights_and_cache() -> None:
    deepseek = load_model("deepseek-v3")
    served = layout(8, precision="fp8_block", max_model_len=163840)
    # 671 billion parameters in a byte each; embedding, head, router and the latent up-projection in two.
    assert 8 * weight_bytes(deepseek, served, 0) / 1e9 == pytest.approx(671 + 1.9 + 2.2 + 7 * 61 * 0.0151, rel=0.01)
    assert block_bytes(deepseek, served) == 61 * 16 * 576 * 2
    assert block_bytes(deepseek, replace(served, kv_precision="fp8")) == 61 * 16 * 576
    assert block_bytes(deepseek, replace(served, tensor_parallel_size=1)) == block_bytes(deepseek, served)
    llama = load_model("llama-3-8b")
    assert block_bytes(llama, layout(kv_precision="fp8")) == block_bytes(llama, layout()) // 2
    fewer = plan(llama, load_device("h100"), layout(precision="int4_wo"))
    assert fewer.weights_gib < 0.4 * plan(llama, load_device("h100"), layout()).weights_gib


def test_experts_are_shared_either_way() -> None:
    model = load_model("Qwen3-30B-A3B")
    assert weight_bytes(model, layout(4), 0) == weight_bytes(model, layout(4, expert_parallel=True), 0)


def test_key_and_value_heads_are_replicated_when_there_are_fewer_than_ranks() -> None:
    model = load_model("llama-3-8b")  # 8 KV heads
    assert block_bytes(model, layout(8)) == block_bytes(model, layout(1)) // 8
    assert block_bytes(model, layout(16)) == block_bytes(model, layout(8))


def test_a_pipeline_keeps_the_layers_of_a_stage_only() -> None:
    model = load_model("llama-2-7b")
    assert block_bytes(model, layout(pp=4)) == block_bytes(model, layout()) // 4


def test_blocks_given_by_hand_are_taken() -> None:
    arguments = load_model("llama-2-7b"), load_device("a100")
    ours, vidurs = (plan(*arguments, layout(planner=p, num_blocks=1000)) for p in ("fastsim", "vidur"))
    assert (ours.num_blocks, ours.watermark_blocks, ours.max_batch_size) == (1000, 10, 3)
    # Vidur's batch limit comes from the memory, not from the blocks: golden/orca_7b_a100_mem4000
    assert (vidurs.num_blocks, vidurs.watermark_blocks, vidurs.max_batch_size) == (1000, 10, 29)


def test_what_is_missing_is_said() -> None:
    with pytest.raises(
        DoesNotFitError, match=r"128\.5 GiB of weights .* 71\.3 GiB \(0\.9 of 79\.18\): 5\d\.\d GiB are"
    ):
        plan(load_model("llama-2-70b"), load_device("h100"), layout())
    with pytest.raises(DoesNotFitError, match=r"one sequence of max_model_len 1000000, a100 offers 72\.0"):
        plan(load_model("llama-2-7b"), load_device("a100"), layout(planner="vidur", max_model_len=1_000_000))


layouts = st.builds(
    replace,
    st.just(ONE),
    tensor_parallel_size=st.sampled_from([1, 2, 4, 8]),
    pipeline_parallel_size=st.sampled_from([1, 2, 4]),
    gpu_memory_utilization=st.floats(0.3, 1),
    planner=st.sampled_from(["fastsim", "vidur"]),
    block_size=st.sampled_from([1, 16, 32]),
    max_model_len=st.integers(32, 32768),
    max_num_seqs=st.integers(1, 1024),
    watermark=st.floats(0, 0.5),
)


@given(layouts, st.sampled_from(["llama-2-7b", "llama-2-70b", "qwen3-32b", "phi-2"]))
def test_a_plan_fills_the_memory_and_no_more(given: Layout, name: str) -> None:
    model, device = load_model(name), load_device("h100")
    try:
        planned = plan(model, device, given)
    except DoesNotFitError:
        room = blocks_that_fit(model, device, given)
        assert room <= 0 or (given.planner == "fastsim" and room * given.block_size < given.max_model_len)
        return
    assert planned.num_blocks == blocks_that_fit(model, device, given) > 0
    assert planned.watermark_blocks == int(given.watermark * planned.num_blocks)
    if given.planner == "fastsim":
        usable = device.torch_memory_gib * given.gpu_memory_utilization
        total = planned.weights_gib + planned.kv_gib + planned.reserve_gib
        assert usable - planned.block_bytes / GIB - 1e-6 < total <= usable
        assert planned.blocks_per_sequence == ceil(given.max_model_len / given.block_size)


@given(layouts, st.sampled_from(["llama-2-7b", "qwen3-32b"]))
def test_more_gpus_or_more_memory_never_hold_less(given: Layout, name: str) -> None:
    def blocks(changed: Layout) -> int:
        return max(0, blocks_that_fit(load_model(name), load_device("h100"), changed))

    before = blocks(given)
    assert blocks(replace(given, gpu_memory_utilization=1)) >= before
    assert blocks(replace(given, pipeline_parallel_size=2 * given.pipeline_parallel_size)) >= before


def test_a_plan_is_plain_data() -> None:
    planned: MemoryPlan = plan(load_model("phi-2"), load_device("a40"), layout())
    assert all(isinstance(getattr(planned, name), int | float) for name in MemoryPlan.__slots__)


def test_tokens_of_a_hybrid_are_those_that_vllm_logs() -> None:
    # Gemma-4-31B with TP 2 and 8,192 tokens of an iteration, vLLM of May 2026: "Available KV cache memory: 10.12 GiB",
    # "GPU KV cache size: 169,314 tokens", "Maximum concurrency for 163,840 tokens per request: 1.03x", and about
    # 172,544 as the longest max_model_len. Of 60 layers ten have no window, and 4 KV heads of 512 instead of 16 of 256.
    windowed = Layer(window=1024, heads=Heads(32, 16, 256, 256))
    whole = Layer(heads=Heads(32, 4, 512, 512))
    gemma = replace(
        load_model("google/gemma-3-27b-it"), num_layers=60, layers=((windowed,) * 5 + (whole,)) * 10, quantization=None
    )
    given = layout(2, max_model_len=163_840, max_iteration_tokens=8192)
    tokens = 10.12 * GIB / bytes_of(gemma, given, 0, 163_840) * 163_840
    assert tokens == pytest.approx(169_314, rel=0.005)
    longest = longest_request(gemma, replace(given, max_model_len=262_144), 0, 10.12 * GIB)
    assert longest == pytest.approx(172_544, rel=0.01)

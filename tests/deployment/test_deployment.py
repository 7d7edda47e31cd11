"""Deployments, what resolve makes of them, and what it refuses."""

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from fastsim.deployment import check_router, settings
from fastsim.deployment.description import Deployment
from fastsim.deployment.engines import RELEASES
from fastsim.deployment.resolve import of_pools, resolve, with_copies
from fastsim.deployment.resolved import Resolved
from fastsim.deployment.schedulers import POLICIES
from fastsim.deployment.sglang.settings import OF_SGLANG
from fastsim.errors import CatalogError, ConfigError, DoesNotFitError, InputError

SHARED = Path(__file__).resolve().parents[3] / "shared"
SMALL: dict[str, Any] = {"model": "llama-2-7b", "device": "a100", "max_model_len": 4096}


def resolved(*overrides: str, **given: Any) -> Resolved:
    return resolve(Deployment.load(SMALL | given, overrides))


def fault(*overrides: str, **given: Any) -> str:
    with pytest.raises(InputError) as caught:
        resolved(*overrides, **given)
    assert "\n" not in str(caught.value)
    return str(caught.value)


OF_VLLM_V1 = {f"scheduler.{name}" for name in settings.OF_VLLM_V1}
OF_ROUTERS = [name for own in check_router.OWN.values() for name in own]
UNUSED = {"pipeline_layers", "kv_transfer", "predictor.affine", "predictor.kernels", "calibration", "prices"}
UNUSED |= {"moe_imbalance"}  # as moe_skew makes it
UNUSED |= {f"router.{name}" for name in OF_ROUTERS} | {f"scheduler.{name}" for name in OF_SGLANG}
OPEN = UNUSED | {"engine"} | OF_VLLM_V1  # what other policies leave null
OPEN_V1 = UNUSED | {"scheduler.chunk_size"}


def test_the_shipped_default_runs() -> None:
    default = resolve(Deployment.load())
    assert default.model.name == "meta-llama/Meta-Llama-3-8B" and default.device.name == "h100"
    assert default.num_gpus == 1 and default.warnings == ()
    assert {name for name, value in flat(default.deployment).items() if value is None} == OPEN_V1


def test_the_shipped_default_is_the_newest_certified_release_with_its_defaults() -> None:
    """As the comments of the file say."""
    default = resolve(Deployment.load())
    release, scheduler = default.scheduler.release, default.scheduler
    assert release is not None and release.certified and release.name == default.deployment.engine == "vllm-0.33"
    assert release.version == max(one.version for one in RELEASES.values() if one.certified)
    assert (scheduler.max_num_seqs, scheduler.max_num_batched_tokens, scheduler.block_size) == (1024, 8192, 16)
    assert scheduler.enable_prefix_caching and scheduler.async_scheduling
    assert (default.gpu_memory_utilization, default.max_model_len) == (0.92, 8192)
    written = resolve(Deployment(model="llama-3-8b", device="h100"))
    assert written.deployment == default.deployment
    explicit = resolve(Deployment.load(None, ["engine=vllm-0.33"]))
    assert explicit.deployment == default.deployment


@pytest.mark.parametrize("policy", [name for name in POLICIES if name not in ("vllm_v1", "sglang")])
def test_every_policy_is_an_override_of_the_default_away(policy: str) -> None:
    one = resolve(Deployment.load(None, [f"scheduler.policy={policy}"]))
    assert (one.scheduler.policy.name, one.deployment.engine, one.gpu_memory_utilization) == (policy, None, 0.9)
    assert (one.scheduler.max_num_seqs, one.scheduler.chunk_size, one.warnings) == (128, 512, ())


def test_a_policy_and_an_engine_say_how_to_leave_the_engine_out() -> None:
    said = fault("engine=vllm-0.19", "scheduler.policy=orca")
    words = "--set engine=null --set 'scheduler={policy: orca}'"
    assert said.endswith(f"leave the engine and its settings out for that policy ({words})")
    left = ["engine=null", "scheduler={policy: orca}"]
    for described in (Deployment.load(None, ["engine=vllm-0.19"]), resolve(Deployment.load()).deployment):
        assert resolve(Deployment.load(described, left)).scheduler.policy.name == "orca"


def flat(deployment: Deployment) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value in deployment.model_dump().items():
        values |= {f"{name}.{inner}": v for inner, v in value.items()} if isinstance(value, dict) else {name: value}
    return values


def test_keys_and_their_order_are_the_contract() -> None:
    assert list(flat(Deployment.load())) == [
        "model",
        "device",
        "node",
        "engine",
        "front_end_ms",
        "sampling",
        "dtype",
        "quantization",
        "kv_cache_dtype",
        "tensor_parallel_size",
        "pipeline_parallel_size",
        "data_parallel_size",
        "data_parallel_balancer",
        "pipeline_layers",
        "enable_expert_parallel",
        "all2all_backend",
        "moe_imbalance",
        "moe_skew",
        "enable_eplb",
        "num_redundant_experts",
        "enforce_eager",
        "num_replicas",
        "pools",
        "kv_transfer",
        "router.policy",
        "router.pools",
        *(f"router.{name}" for name in OF_ROUTERS),
        "max_model_len",
        "gpu_memory_utilization",
        "memory.planner",
        "scheduler.policy",
        "scheduler.max_num_seqs",
        "scheduler.max_num_batched_tokens",
        "scheduler.chunk_size",
        "scheduler.block_size",
        "scheduler.watermark",
        "scheduler.max_waiting_iters",
        "scheduler.num_blocks",
        "scheduler.scheduling_policy",
        "scheduler.enable_prefix_caching",
        "scheduler.enable_chunked_prefill",
        "scheduler.async_scheduling",
        "scheduler.long_prefill_token_threshold",
        "scheduler.scheduler_reserve_full_isl",
        "scheduler.empty_step_sleep_s",
        *(f"scheduler.{name}" for name in OF_SGLANG),
        "predictor.source",
        "predictor.affine",
        "predictor.compose",
        "predictor.kernels",
        "calibration",
        "prices",
        "seed",
    ]


def test_a_deployment_is_frozen_and_compares_by_value() -> None:
    one, two = Deployment.load(SMALL), Deployment.load(SMALL)
    assert one == two and hash(one) == hash(two)
    with pytest.raises(ValidationError):
        one.seed = 3


@pytest.mark.parametrize("policy", ["vllm_v1", "sarathi", "sglang"])
def test_another_number_of_replicas_is_what_resolve_makes_of_it(policy: str) -> None:
    settings = [f"scheduler.policy={policy}", "router.policy=random", "seed=3"]
    one, seven = resolved(*settings), resolved(*settings, "num_replicas=7")
    assert with_copies(one, 7) == seven and with_copies(seven, 1) == one
    for wrong in (0, 100_001):
        with pytest.raises(ConfigError, match=f"num_replicas: {wrong} is not"):
            with_copies(one, wrong)


def test_pools_of_other_numbers_of_replicas_are_what_resolve_makes_of_them() -> None:
    kinds: list[dict[str, Any]] = [
        {"name": "first"},
        {"name": "wide", "tensor_parallel_size": 2},
        {"name": "small", "device": "l40s"},
    ]

    def of(*numbers: int) -> Resolved:
        given = [{**pool, "num_replicas": number} for pool, number in zip(kinds, numbers, strict=True) if number]
        return resolve(Deployment.load({"model": "llama-3-8b", "device": "h100", "pools": given}))

    mix = of(4, 2, 6)
    assert mix.copies == 2
    assert with_copies(mix, 1) == of(2, 1, 3)
    assert with_copies(of(2, 1, 3), 2) == mix
    assert of_pools(mix, [0, 1, 7]) == of(0, 1, 7)
    assert of_pools(mix, [3, 1, 0]).num_gpus == 3 + 2


def test_defaults_are_filled() -> None:
    plain = resolve(Deployment.load({"model": "LLAMA-2-7B", "device": "A100_80GB"}))
    deployment, scheduler = plain.deployment, plain.deployment.scheduler
    assert (deployment.model, deployment.device) == ("meta-llama/Llama-2-7b-hf", "a100")
    assert (deployment.node, deployment.max_model_len) == ("a100_dgx", 4096)
    assert (scheduler.policy, scheduler.max_num_batched_tokens, scheduler.block_size) == ("vllm_v1", 2048, 16)
    assert scheduler.num_blocks == plain.memory.num_blocks > 7000
    assert plain.warnings == ()
    sarathi = resolved("scheduler.policy=sarathi").deployment.scheduler
    assert (sarathi.policy, sarathi.chunk_size, sarathi.block_size) == ("sarathi", 512, 16)
    assert (sarathi.max_num_batched_tokens, sarathi.max_waiting_iters) == (4096, 10)


def test_defaults_that_depend_on_others() -> None:
    lightllm = resolved("scheduler.policy=lightllm").deployment.scheduler
    assert lightllm.block_size == 1
    longer = resolved("max_model_len=8192", "scheduler.policy=vllm").deployment.scheduler
    assert longer.max_num_batched_tokens == 8192  # a prompt as long as the context can be scheduled
    assert resolved("device=l40s").node.name == "l40s_pcie"
    assert resolve(Deployment.load({"model": "llama-3.1-8b", "device": "h100"})).deployment.max_model_len == 131072
    assert resolved("scheduler.max_waiting_iters=0").deployment.scheduler.max_waiting_iters == 0


def test_derived_sizes() -> None:
    four = resolved("pipeline_parallel_size=4", "scheduler.max_num_seqs=30", "num_replicas=3")
    assert four.micro_batch_size == 7 and four.num_gpus == 12
    capped = resolved("scheduler.max_num_seqs=8", "scheduler.policy=orca")
    assert capped.max_batch_size == 8
    assert resolved("memory.planner=vidur", "scheduler.policy=orca").max_batch_size == 29


def test_a_limit_that_the_policy_ignores_is_said() -> None:
    (said,) = resolved("scheduler.max_num_batched_tokens=8192", "scheduler.policy=sarathi").warnings
    assert said.startswith(
        "scheduler.max_num_batched_tokens: 8192 changes nothing, as policy sarathi bounds a batch by"
    )
    assert not resolved("max_num_batched_tokens=8192").warnings  # vLLM's flag sets the limit of any policy
    assert not resolved("scheduler.max_num_batched_tokens=8192", "scheduler.policy=vllm").warnings
    assert not resolved("max_num_batched_tokens=8192", "scheduler.policy=sarathi").warnings
    assert not resolve(resolved().deployment).warnings
    (said,) = resolved("scheduler.chunk_size=512").warnings
    assert said == (
        "scheduler.chunk_size: 512 changes nothing, as policy vllm_v1 bounds a batch by max_num_batched_tokens, 2048"
    )


def test_paths_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shape = {"model_type": "llama", "num_hidden_layers": 2, "hidden_size": 256, "num_attention_heads": 4}
    shape |= {"intermediate_size": 512, "vocab_size": 1000, "max_position_embeddings": 512}
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.json").write_text(json.dumps(shape))
    monkeypatch.chdir(tmp_path)
    one = resolve(Deployment.load({"model": "mine", "device": "rtx4090"}, ["predictor.source=tables:times"]))
    assert one.deployment.model == str(tmp_path / "mine") and one.model.hidden_size == 256
    assert one.deployment.predictor.source == f"tables:{tmp_path / 'times'}"


@given(
    st.sampled_from(["llama-2-7b", "qwen2.5-7b", "phi-2", "mistral-nemo"]),
    st.sampled_from(["a100", "h100", "a40", "rtx_pro_6000"]),
    st.sampled_from(list(POLICIES)),
    st.sampled_from([1, 2, 3, 4, 8]),
    st.sampled_from([1, 2, 4]),
    st.integers(1, 4096),
)
def test_resolving_again_changes_nothing(model: str, device: str, policy: str, tp: int, pp: int, num_seqs: int) -> None:
    parallelism = {"tensor_parallel_size": tp, "pipeline_parallel_size": pp}
    described = {"model": model, "device": device, "scheduler": {"policy": policy, "max_num_seqs": num_seqs}}
    try:
        once = resolve(Deployment.load(described | parallelism))
    except InputError as error:
        assert "valid: " in str(error) or "fits" in str(error) or "no parallelism" in str(error)
        return
    left = {name for name, value in flat(once.deployment).items() if value is None}
    assert left == (OPEN_V1 if policy == "vllm_v1" else OPEN)
    assert resolve(once.deployment).deployment == once.deployment
    assert once.micro_batch_size >= 1 and once.max_batch_size >= 1 and once.memory.num_blocks >= 1


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model=llama-2-7c"], "model: 'llama-2-7c' is neither in the catalog"),
        (["device=a1000"], "device: 'a1000' is unknown; valid: a100"),
        (["node=a100_dxg"], "node: 'a100_dxg' is unknown; did you mean 'a100_dgx'?"),
        (["node=h100_dgx"], "node: 'h100_dgx' holds h100, not a100 (valid: a100_dgx, a100_pairwise_nvlink, pcie_gen4"),
        (["tensor_parallel_size=3"], "tensor_parallel_size: 3 does not divide the 32 attention heads"),
        (
            ["tensor_parallel_size=12"],
            "tensor_parallel_size: 12 is more than the 8 GPUs of a100_dgx, and does not fill several whole nodes (val",
        ),
        (["model=Qwen2.5-7B", "tensor_parallel_size=7"], "tensor_parallel_size: 7 does not divide the 28 attention"),
        (["pipeline_parallel_size=33"], "pipeline_parallel_size: 33 is more than the 32 layers of meta-llama/Llama"),
        (["pipeline_layers=16,15"], "pipeline_layers: [16, 15] are 31 layers, and meta-llama/Llama-2-7b-hf has 32"),
        (
            ["pipeline_layers=[16, x]"],
            "--set pipeline_layers[1]: 'x' is not a list of positive integers (e.g. [21, 20, 20])",
        ),
        (
            ["pipeline_layers=[16, 16]", "pipeline_parallel_size=4"],
            "pipeline_parallel_size: 4 is not the number of stages in pipeline_layers [16, 16] (valid: 2)",
        ),
        (
            ["pipeline_parallel_size=5", "predictor.compose=vidur"],
            "predictor.compose: 'vidur' knows stages of equally many layers only, not [6, 6, 7, 7, 6]",
        ),
        (
            ["pipeline_parallel_size=4", "scheduler.max_num_seqs=3"],
            "scheduler.max_num_seqs: 3 leaves pipeline stages without a request (valid: pipeline_parallel_size 4",
        ),
        (["scheduler.policy=lightllm", "scheduler.block_size=16"], "scheduler.block_size: lightllm cannot have 16"),
        (["scheduler.policy=lightllm", "pipeline_parallel_size=2"], "pipeline_parallel_size: lightllm cannot have 2"),
        (["predictor.source=tables:"], "predictor.source: 'tables:' names no folder (e.g. tables:my_folder)"),
        (["predictor.source=tables"], "predictor.source: 'tables' names no folder"),
        (["predictor.source=vidur:"], "predictor.source: 'vidur:' names no folder (e.g. vidur:my_folder)"),
        (["predictor.source=vidor:x"], "predictor.source: 'vidor:x' is unknown; did you mean 'vidur:DIR'?"),
        (["quantization=fp8", "predictor.source=vidur:x"], "predictor.source: 'vidur' has no term for quantization"),
        (["predictor.source=defualt"], "predictor.source: 'defualt' is unknown; did you mean 'default'?"),
    ],
)
def test_what_cannot_run_is_refused(overrides: list[str], message: str) -> None:
    assert fault(*overrides).startswith(message)


def test_kv_heads_are_replicated_beyond_their_number() -> None:
    assert resolved("model=Qwen2.5-7B", "tensor_parallel_size=4").deployment.tensor_parallel_size == 4
    fewer = resolved("model=Yi-34B", "tensor_parallel_size=8")
    assert fewer.memory.num_blocks > 0


def test_a_model_that_does_not_fit_says_what_would() -> None:
    with pytest.raises(DoesNotFitError, match=r"5\d\.\d GiB are missing; it fits with tensor_parallel_size=2$"):
        resolved("model=llama-2-70b")
    with pytest.raises(DoesNotFitError, match=r"it fits with tensor_parallel_size=\d and pipeline_parallel_size=\d+$"):
        resolved("model=llama-3.1-405b")
    with pytest.raises(DoesNotFitError, match=r"it fits with tensor_parallel_size=16$"):
        resolved("model=llama-3.1-405b", "scheduler.policy=lightllm")
    with pytest.raises(DoesNotFitError, match=r"no parallelism makes it fit"):
        resolved("model=llama-3.1-405b", "gpu_memory_utilization=0.02")
    text = fault("model=llama-3.1-405b")
    tp, pp = (int(part.split()[0].rstrip()) for part in text.replace("=", " ").split("_size ")[1:])
    assert resolved("model=llama-3.1-405b", f"tensor_parallel_size={tp}", f"pipeline_parallel_size={pp}")


def test_warnings() -> None:
    assert any("beyond the 4096 tokens" in w for w in resolved("max_model_len=8192").warnings)
    assert any("window" not in w for w in resolved("max_model_len=8192").warnings)
    windowed = resolved("model=Mistral-7B-v0.1", "max_model_len=8192").warnings
    (attends,) = windowed
    assert attends.startswith("model: layers of mistralai/Mistral-7B-v0.1 keep 4096 tokens of a request, so that ")
    assert attends.endswith("fit; how many KV blocks a simulation has depends on the lengths of its requests")
    (few,) = resolved("scheduler.num_blocks=10").warnings
    assert few == (
        "scheduler.num_blocks: 10 blocks hold 160 tokens, fewer than max_model_len 4096; an engine would not start "
        "with its own"
    )
    (short,) = resolved("scheduler.policy=vllm", "scheduler.max_num_batched_tokens=100").warnings
    assert short.startswith("scheduler.max_num_batched_tokens: 100 is below max_model_len 4096")
    (many,) = resolved("scheduler.num_blocks=100000").warnings
    assert many == "scheduler.num_blocks: 100000 blocks and the weights are 793.8 GiB, a100 has 79.25"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["enable_expert_parallel=true"],
            "enable_expert_parallel: True needs experts, and meta-llama/Llama-2-7b-hf has",
        ),
        (["moe_imbalance=1.5"], "moe_imbalance: 1.5 needs experts"),
        (["moe_skew=0.8"], "moe_skew: 0.8 needs experts"),
        (["model=mixtral-8x7b", "moe_skew=-1"], "moe_skew: -1 is not a number from 0 up to 4"),
        (["model=mixtral-8x7b", "moe_imbalance=0.5"], "moe_imbalance: 0.5 is not a number from 1 up"),
        (["model=mixtral-8x7b", "moe_imbalance=1.5"], "moe_imbalance: 1.5 needs enable_expert_parallel (valid: 1)"),
        (["model=mixtral-8x7b", "all2all_backend=deepep"], "all2all_backend: 'deepep' needs enable_expert_parallel"),
        (["quantization=fp4"], "quantization: 'fp4' is unknown; valid: nvfp4, mxfp4"),
        (["quantization=fp8", "memory.planner=vidur"], "memory.planner: 'vidur' has no term for quantization fp8"),
        (["kv_cache_dtype=fp8", "predictor.compose=vidur"], "predictor.compose: 'vidur' has no term for an fp8 KV"),
        (["model=mixtral-8x7b", "predictor.compose=vidur"], "predictor.compose: 'vidur' has no term for experts"),
        (
            ["model=Qwen3-30B-A3B", "tensor_parallel_size=3"],
            "does not divide the 32 attention heads, 4 KV heads and expert intermediate size 768 of",
        ),
        (
            ["model=deepseek-v3", "tensor_parallel_size=6", "enable_expert_parallel=true"],
            "tensor_parallel_size: 6 does not divide the 128 attention heads, intermediate size 18432, 256 experts and "
            "shared expert intermediate size 2048 of deepseek-ai/DeepSeek-V3 (valid: 1, 2, 4, 8, 16, 32",
        ),
    ],
)
def test_precisions_and_experts_that_cannot_run(overrides: list[str], message: str) -> None:
    assert message in fault(*overrides)


def test_precisions_and_experts() -> None:
    plain = resolved()
    assert (plain.deployment.quantization, plain.precision, plain.kv_precision) == ("none", "bf16", "bf16")
    deepseek = {"model": "deepseek-v3", "device": "h200", "tensor_parallel_size": 8, "max_model_len": 8192}
    one = resolve(Deployment.load(deepseek))
    assert one.deployment.quantization == one.precision == "fp8_block" and one.kv_precision == "bf16"
    assert one.memory.weights_gib == pytest.approx(8 * 671 / 64 / 1.0737, rel=0.02)
    assert one.memory.block_bytes == 61 * 16 * 576 * 2
    shared = resolve(Deployment.load(deepseek, ["enable_expert_parallel=true", "kv_cache_dtype=fp8"]))
    assert shared.operators.experts and (shared.operators.experts.tp, shared.operators.experts.ep) == (1, 8)
    assert shared.memory.num_blocks > 1.5 * one.memory.num_blocks
    with pytest.raises(
        DoesNotFitError,
        match=r"deepseek-ai/DeepSeek-V3 needs .*; it fits with tensor_parallel_size=1 and pipeline_parallel_size=11$",
    ):
        resolve(Deployment.load(deepseek, ["device=h100"]))
    two_nodes = resolve(Deployment.load(deepseek, ["device=h100", "tensor_parallel_size=16"]))
    assert two_nodes.num_gpus == 16 and two_nodes.memory.num_blocks > 1000
    assert resolve(Deployment.load(deepseek, ["quantization=fp8"])).quantization == "fp8_block"
    other = resolve(Deployment.load(deepseek, ["device=h100", "quantization=int4_wo"]))
    assert other.memory.num_blocks > 1000
    note = (
        "quantization: deepseek-ai/DeepSeek-V3 is published in fp8_block; int4_wo needs another checkpoint of the model"
    )
    assert note in other.warnings and note not in one.warnings


def test_values_that_model_copy_lets_through_are_caught() -> None:
    broken = Deployment.load(SMALL).model_copy(update={"seed": "x", "scheduler": 7})
    with pytest.raises(ConfigError, match=r"scheduler: 7 is not a group .*; seed: 'x' is not an integer"):
        resolve(broken)


def test_catalog_errors_pass_through() -> None:
    with pytest.raises(CatalogError):
        resolved("model=nothing-like-it")


def test_reading_the_catalog_loads_no_yaml_before_its_time() -> None:
    code = "import fastsim.catalog.load, sys; assert not {'yaml', 'pydantic', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).resolve().parents[2])


def parity() -> ModuleType:
    """checks/parity.py up to where it starts to run."""
    source = (SHARED / "checks" / "parity.py").read_text().partition("def column")[0]
    module = ModuleType("parity")
    exec(source.replace("sys.argv[1]", "'.'").replace("sys.argv[2]", "'.'"), module.__dict__)
    return module


@pytest.mark.skipif(not SHARED.is_dir(), reason="the golden runs are not here")
def test_every_golden_deployment_resolves(tmp_path: Path) -> None:
    cases = sorted(SHARED.glob("golden/*/config.json"))
    assert len(cases) >= 15
    for file in cases:
        run = json.loads(file.read_text())
        described = parity().deployment(file.parent, run)
        (tmp_path / "deployment.json").write_text(json.dumps(described))
        one = resolve(Deployment.load(tmp_path / "deployment.json"))
        cap = run["scheduler_config"]["batch_size_cap"]
        assert one.memory.num_blocks == one.deployment.scheduler.num_blocks == run["num_blocks"]
        assert one.memory.blocks_per_sequence == run["max_tokens"] // run["scheduler_config"]["block_size"]
        assert one.max_batch_size == run["max_batch_size_planner"], file
        assert one.micro_batch_size == cap // run["pp"]
        assert one.model.num_layers == run["model_layers"]

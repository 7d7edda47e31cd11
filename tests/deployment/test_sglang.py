"""Policy sglang: what differs between its releases, the defaults by GPU, and the size of its KV cache."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from reference.sglang.releases import RELEASES as TWINS
from reference.sglang.releases import Release as Twin

from fastsim.catalog.load import load_device, load_model
from fastsim.deployment.description import Deployment
from fastsim.deployment.launch.launch import launch
from fastsim.deployment.resolve import resolve
from fastsim.deployment.resolved import Resolved
from fastsim.deployment.sglang import defaults
from fastsim.deployment.sglang.releases import RELEASES, Release
from fastsim.deployment.sglang.words import WORDS
from fastsim.errors import ConfigError

LLAMA: dict[str, Any] = {"model": "meta-llama/Meta-Llama-3-8B", "device": "h100", "engine": "sglang-0.5.10"}
QWEN = Path(__file__).resolve().parents[3] / "shared" / "cases" / "11-qwen3-235b-fp8-4xh100" / "qwen3-235b-fp8"


def resolved(*overrides: str, **given: Any) -> Resolved:
    return resolve(Deployment.load(LLAMA | given, overrides))


def test_the_rules_are_those_of_the_twin() -> None:
    for name, release in RELEASES.items():
        twin = TWINS[name.removeprefix("sglang-")]
        rules = [field.name for field in fields(Twin) if field.name != "name"]
        assert {rule: getattr(release, rule) for rule in rules} == {rule: getattr(twin, rule) for rule in rules}


def test_every_rule_in_which_releases_differ_has_words() -> None:
    plain = {"name", "recorded", "chunk_of_small", "graphs_of_small"}
    assert {field.name for field in fields(Release)} - plain == WORDS.keys()


def test_an_engine_brings_its_policy_and_its_defaults() -> None:
    one = resolved()
    own = one.scheduler.sglang
    assert own is not None and own.release is RELEASES["sglang-0.5.10"]
    assert (one.scheduler.policy.name, own.schedule_policy, own.schedule_conservativeness) == ("sglang", "fcfs", 1.0)
    assert (own.chunked_prefill_size, own.max_prefill_tokens, one.scheduler.block_size) == (8192, 16384, 1)
    assert not (own.enable_mixed_chunk or own.disable_radix_cache or own.disable_overlap_schedule or own.ignore_eos)
    assert one.gpu_memory_utilization == 0.83 and one.warnings == ()
    assert one.deployment.engine == "sglang-0.5.10"
    assert one.deployment.scheduler.max_total_num_tokens == one.memory.kv_tokens
    assert resolve(one.deployment).deployment == one.deployment
    assert resolved(engine="sglang-0.5.10.post1").deployment == one.deployment


@pytest.mark.parametrize(
    ("device", "tensor", "expected"),
    [
        ("t4", 1, (2048, 8, 2048, 8)),
        ("a10g", 1, (2048, 24, 4096, 48)),
        ("a10g", 4, (2048, 80, 4096, 160)),
        ("l40s", 2, (4096, 32, 4096, 32)),
        ("a100", 1, (8192, 256, 8192, 256)),
        ("h100", 4, (8192, 512, 8192, 512)),
        ("h200", 1, (8192, 256, 8192, 256)),
        ("b200", 1, (16384, 512, 16384, 512)),
    ],
)
def test_chunks_and_graphs_depend_on_the_gpu(device: str, tensor: int, expected: tuple[int, ...]) -> None:
    gpu = load_device(device)
    got = [
        answer
        for release in RELEASES.values()
        for answer in (
            defaults.chunked_prefill_size(release, gpu),
            defaults.largest_graph(release, gpu, tensor, None),
        )
    ]
    assert tuple(got) == expected


def test_graphs_of_0_5_23_are_no_larger_than_the_limit() -> None:
    gpu = load_device("h100")
    assert [defaults.largest_graph(release, gpu, 1, 48) for release in RELEASES.values()] == [256, 48]
    assert defaults.decode_graphs(24) == (1, 2, 4, 8, 12, 16, 24)
    assert defaults.decode_graphs(512)[-4:] == (464, 480, 496, 512)
    assert len(defaults.prefill_graphs(8192)) == 58  # as logged


def test_the_share_of_memory_is_what_activations_and_graphs_leave() -> None:
    release, llama = RELEASES["sglang-0.5.10"], load_model("meta-llama/Meta-Llama-3-8B")
    share = defaults.mem_fraction_static
    assert share(release, llama, load_device("h100"), 1, 8192, None) == 0.83  # as logged
    assert share(release, llama, load_device("h200"), 1, 8192, None) == 0.903
    t4 = load_device("t4")
    reserved = 512 + 1.5 * 2048 + 2 * 8 + 128 + 8 * 42  # MiB; 42 graphs of prefills
    assert share(release, llama, t4, 1, 2048, None) == round(1 - reserved / (1024 * t4.memory_gib), 3)


def test_the_limit_of_running_requests_depends_on_the_kv_cache() -> None:
    old, new = RELEASES.values()
    assert defaults.max_running_requests(old, 40_000, 8192, None) == 2500
    assert defaults.max_running_requests(old, 3000, 8192, None) == 1500
    assert defaults.max_running_requests(old, 400_000, 8192, None) == 4096
    assert [defaults.max_running_requests(release, 3000, 8192, 5000) for release in (old, new)] == [2048, 1500]
    assert resolved("scheduler.max_running_requests=64").scheduler.max_num_seqs == 64


# Logs of servers: tokens of the KV cache. Mean error 0.5 %.
@pytest.mark.parametrize(
    ("given", "tokens"),
    [
        ({"model": "meta-llama/Llama-3.1-8B", "gpu_memory_utilization": 0.88}, 444_497),  # January 2025
        ({"model": "Qwen/Qwen3-30B-A3B-FP8", "engine": "sglang-0.5.23"}, 392_920),  # August 2026, default share
    ],
)
def test_the_kv_cache_has_as_many_tokens_as_a_server_logged(given: dict[str, Any], tokens: int) -> None:
    assert resolved(**given).memory.kv_tokens == pytest.approx(tokens, rel=0.01)


@pytest.mark.skipif(not QWEN.exists(), reason="needs shared/cases beside the checkout")
def test_the_kv_cache_of_four_gpus_has_as_many_tokens_as_a_server_logged() -> None:
    given = {"model": str(QWEN / "config.json"), "tensor_parallel_size": 4, "gpu_memory_utilization": 0.93}
    assert resolved(max_model_len=40960, **given).memory.kv_tokens == pytest.approx(367_404, rel=0.02)


def test_tokens_that_are_given_are_taken_in_whole_pages() -> None:
    one = resolved("scheduler.max_total_num_tokens=40010", "scheduler.page_size=16")
    assert (one.memory.num_blocks, one.memory.kv_tokens) == (2500, 40_000)
    assert one.deployment.scheduler.max_total_num_tokens == 40_000


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("scheduler.max_num_seqs=64", r"scheduler.max_num_seqs: .*\(valid: scheduler.max_running_requests\)"),
        ("scheduler.chunked_prefill_size=0", r"scheduler.chunked_prefill_size: 0 is no multiple"),
        (
            "scheduler.max_total_num_tokens=3",
            r"scheduler.max_total_num_tokens: 3 holds no request \(valid: 4 or more\)",
        ),
        ("engine=SGLang-0.5.23", r"engine: 'SGLang-0.5.23' is unknown; did you mean 'sglang-0.5.23'"),
        ("pipeline_parallel_size=2", r"pipeline_parallel_size: sglang cannot have 2"),
        ("engine=sglang-0.4.0", r"engine: .*sglang-0.4.0.* is unknown"),
        ("scheduler.policy=vllm", r"engine: sglang-0.5.10 runs policy sglang"),
        ("scheduler.schedule_conservativeness=-1", r"schedule_conservativeness: -1"),
    ],
)
def test_what_sglang_does_not_have_is_refused_in_one_sentence(override: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        resolved(override)


def test_settings_without_an_effect_are_said() -> None:
    (note,) = resolved("scheduler.schedule_policy=lpm", "scheduler.disable_radix_cache=true").warnings
    assert note.startswith("scheduler.schedule_policy: lpm changes nothing")
    (note,) = resolved("scheduler.enable_mixed_chunk=true", "scheduler.chunked_prefill_size=-1").warnings
    assert note.startswith("scheduler.enable_mixed_chunk: true changes nothing")


def test_other_policies_refuse_the_settings_of_sglang() -> None:
    with pytest.raises(ConfigError, match=r"scheduler.page_size: only policy sglang has it"):
        resolved("scheduler.page_size=16", engine="vllm-0.19")


def test_a_command_has_the_flags_of_sglang() -> None:
    deployment = Deployment.load(LLAMA, ["scheduler.enable_mixed_chunk=true", "scheduler.max_total_num_tokens=40000"])
    flags = dict(launch(deployment, "sglang").flags)
    assert flags["--chunked-prefill-size"] == "8192" and flags["--max-total-tokens"] == "40000"
    assert "--enable-mixed-chunk" in flags and "--disable-radix-cache" not in flags
    assert flags["--mem-fraction-static"] == "0.83"

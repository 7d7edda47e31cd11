"""Engines: what differs between releases of vLLM, the defaults that they fill, and what they refuse."""

import dataclasses
import json
import re
from typing import Any

import pytest
from click.testing import CliRunner

from fastsim.catalog.load import load_device
from fastsim.cli import cli
from fastsim.deployment import engines
from fastsim.deployment.description import Deployment
from fastsim.deployment.engine_words import WORDS
from fastsim.deployment.engines import RELEASES
from fastsim.deployment.resolve import resolve
from fastsim.deployment.resolved import Resolved
from fastsim.errors import ConfigError

LLAMA: dict[str, Any] = {"model": "meta-llama/Meta-Llama-3-8B", "device": "h100"}


def resolved(*overrides: str, **given: Any) -> Resolved:
    return resolve(Deployment.load(LLAMA | given, overrides))


def test_four_releases_are_certified_and_the_others_take_their_rules() -> None:
    certified = [name for name, release in RELEASES.items() if release.certified]
    assert certified == ["vllm-0.11", "vllm-0.15", "vllm-0.19", "vllm-0.33"]
    assert [release.version for release in RELEASES.values()] == [(0, minor) for minor in range(8, 34)]
    for name, release in RELEASES.items():
        assert release.name == name and release.certified_as in certified
        assert release.certified == (release.certified_as == name)
    distance = {
        name: RELEASES[release.certified_as].version[1] - release.version[1] for name, release in RELEASES.items()
    }
    assert max(map(abs, distance.values())) == 7  # vllm-0.26


@pytest.mark.parametrize(
    ("release", "field", "expected"),
    [
        ("vllm-0.11", "launches_while", "running"),
        ("vllm-0.15", "launches_while", "tokens"),
        ("vllm-0.19", "whole_prompt_check", True),
        ("vllm-0.15", "whole_prompt_check", False),
        ("vllm-0.33", "launches_while", "work"),
        ("vllm-0.19", "victim_steps_back", "scheduled"),
        ("vllm-0.33", "unhashed_first", True),
        ("vllm-0.11", "empty_step_sleep_s", 0.0),
        ("vllm-0.15", "empty_step_sleep_s", 0.001),
        ("vllm-0.20", "graph_memory_counts", False),
        ("vllm-0.21", "graph_memory_counts", True),
    ],
)
def test_what_differs_is_data(release: str, field: str, expected: object) -> None:
    assert getattr(RELEASES[release], field) == expected


def test_an_engine_brings_its_policy_and_its_defaults() -> None:
    one = resolved(engine="vllm-0.19")
    scheduler, described = one.scheduler, one.deployment.scheduler
    assert scheduler.policy.name == "vllm_v1" and scheduler.release is RELEASES["vllm-0.19"]
    assert (scheduler.max_num_seqs, scheduler.max_num_batched_tokens, scheduler.token_budget) == (1024, 8192, 8192)
    assert scheduler.enable_prefix_caching and scheduler.enable_chunked_prefill and scheduler.async_scheduling
    assert scheduler.scheduler_reserve_full_isl and scheduler.scheduling_policy == "fcfs"
    assert (scheduler.watermark, scheduler.empty_step_sleep_s, scheduler.batch_queue_depth) == (0, 0.001, 2)
    assert (one.deployment.engine, one.gpu_memory_utilization) == ("vllm-0.19", 0.9)
    assert (described.policy, described.async_scheduling, described.max_num_seqs) == ("vllm_v1", True, 1024)
    assert resolve(one.deployment).deployment == one.deployment and one.warnings == ()


def test_without_an_engine_it_is_the_newest_certified_one() -> None:
    newest = resolved(engine="vllm-0.33").deployment
    assert resolved().deployment == resolved("scheduler.policy=vllm_v1").deployment == newest
    assert resolved("scheduler.policy=sarathi").deployment.engine is None


def test_one_planned_block_holds_no_tokens() -> None:
    same = ("scheduler.policy=sarathi", "scheduler.max_num_seqs=1024", "scheduler.chunk_size=8192")
    assert resolved(engine="vllm-0.16").memory.num_blocks == resolved(*same).memory.num_blocks - 1
    assert resolved("scheduler.num_blocks=7", engine="vllm-0.19").memory.num_blocks == 7


# What `vllm serve` takes by release and GPU (the engine's get_default_args).
@pytest.mark.parametrize(
    ("engine", "device", "settings", "seqs", "tokens"),
    [
        ("vllm-0.11", "h100", [], 1024, 8192),
        ("vllm-0.11", "a100", [], 256, 2048),
        ("vllm-0.8", "a100", [], 1024, 8192),
        ("vllm-0.19", "l40s", [], 256, 2048),
        ("vllm-0.19", "b200", [], 1024, 8192),
        ("vllm-0.33", "b200", [], 1024, 16384),
        ("vllm-0.33", "h100", [], 1024, 8192),
        ("vllm-0.19", "h100", ["scheduler.max_num_batched_tokens=512"], 512, 512),
        ("vllm-0.19", "h100", ["scheduler.max_num_seqs=4"], 4, 8192),
        ("vllm-0.19", "h100", ["scheduler.max_num_seqs=4", "max_model_len=1024"], 4, 4096),
        ("vllm-0.19", "a100", ["scheduler.enable_chunked_prefill=false"], 256, 8192),
    ],
)
def test_limits_by_gpu(engine: str, device: str, settings: list[str], seqs: int, tokens: int) -> None:
    scheduler = resolved(*settings, engine=engine, device=device).scheduler
    assert (scheduler.max_num_seqs, scheduler.max_num_batched_tokens) == (seqs, tokens)


@pytest.mark.parametrize(
    ("engine", "stages", "asked", "is_async", "depth"),
    [
        ("vllm-0.11", 1, None, False, 1),
        ("vllm-0.11", 1, True, True, 2),
        ("vllm-0.11", 4, None, False, 4),
        ("vllm-0.14", 2, None, False, 2),
        ("vllm-0.15", 2, None, True, 2),
        ("vllm-0.19", 4, None, True, 4),
        ("vllm-0.33", 4, None, True, 5),
        ("vllm-0.33", 4, False, False, 4),
        ("vllm-0.33", 1, None, True, 2),
    ],
)
def test_batches_in_flight(engine: str, stages: int, asked: bool | None, is_async: bool, depth: int) -> None:
    scheduler = resolved(engine=engine, pipeline_parallel_size=stages, scheduler={"async_scheduling": asked}).scheduler
    assert (scheduler.async_scheduling, scheduler.batch_queue_depth) == (is_async, depth)


def test_other_defaults_by_release_and_gpu() -> None:
    assert resolved(engine="vllm-0.33").gpu_memory_utilization == 0.92
    latent = {"model": "deepseek-ai/DeepSeek-V2-Lite", "engine": "vllm-0.19", "max_model_len": 8192}
    assert [resolved(**latent | {"device": gpu}).scheduler.block_size for gpu in ("h100", "b200")] == [16, 32]


def test_a_release_between_says_whose_rules_it_takes() -> None:
    one = resolved(engine="vllm-0.17.1")
    assert one.deployment.engine == "vllm-0.17"
    assert one.warnings == ("engine: vllm-0.17 takes the rules of vllm-0.19, the certified release nearest to it",)
    assert engines.before((0, 17, 1)) is RELEASES["vllm-0.17"] and engines.before((0, 6)) is None


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["engine=vllm-0.91"], "engine: 'vllm-0.91' is unknown; valid: vllm-0.8 to vllm-0.33"),
        (["engine=vlm-0.19"], "engine: 'vlm-0.19' is unknown; did you mean 'vllm-0.19'?"),
        (["engine=vllm"], "engine: 'vllm' is unknown; valid: vllm-0.8 to vllm-0.33"),
        (["engine=vllm-0.19", "scheduler.policy=orca"], "engine: vllm-0.19 runs policy vllm_v1, and scheduler.policy"),
        (["engine=vllm-0.8", "async_scheduling=true"], "async_scheduling: vllm-0.8 has none; vllm-0.10 is the first"),
        (["engine=vllm-0.11", "async_scheduling=true", "pp=2"], "vllm-0.11 has none with 2 pipeline stages"),
        (["engine=vllm-0.15", "scheduler_reserve_full_isl=true"], "vllm-0.15 has no such option (valid: false)"),
        (["engine=vllm-0.19", "scheduler.watermark=0.1"], "vllm-0.19 keeps no blocks free, not 0.1 (valid: 0)"),
        (["engine=vllm-0.8", "scheduling_policy=priority"], "vllm-0.8 has no 'priority' in engine V1 (valid: fcfs)"),
        (["engine=vllm-0.19", "scheduling_policy=lpm"], "scheduler.scheduling_policy: 'lpm' is unknown; valid: fcfs"),
        (
            ["scheduler.policy=sarathi", "scheduling_policy=priority"],
            "sarathi admits requests in order of arrival, and only vllm_v1 by",
        ),
        (
            ["scheduler.policy=sarathi", "enable_prefix_caching=true"],
            "sarathi computes every prompt whole, and only vllm_v1 has prefix caching",
        ),
        (["scheduler.policy=sarathi", "async_scheduling=false"], "sarathi is taken to schedule while the GPU works"),
        (
            ["scheduler.policy=sarathi", "long_prefill_token_threshold=64"],
            "sarathi has no limit for the chunks of a long prompt",
        ),
        (["scheduler.policy=orca", "enable_chunked_prefill=true"], "true contradicts scheduler.policy orca"),
        (
            ["scheduler.policy=sarathi", "enable_chunked_prefill=false"],
            "which computes prompts in chunks (valid: true)",
        ),
    ],
)
def test_what_is_refused(overrides: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)) as caught:
        resolved(*overrides)
    assert "\n" not in str(caught.value)


def test_what_is_said() -> None:
    cut = resolved(engine="vllm-0.19", enable_chunked_prefill=False, long_prefill_token_threshold=64)
    assert "64 cuts longer prompts, although enable_chunked_prefill is false, as in vLLM" in cut.warnings[0]
    newer = resolved(engine="vllm-0.33", enable_chunked_prefill=False, long_prefill_token_threshold=64)
    assert "64 cuts longer prompts that are not alone, although" in newer.warnings[0]
    unused = resolved(scheduler={"policy": "sarathi", "empty_step_sleep_s": 0.5}).warnings
    assert unused == ("scheduler.empty_step_sleep_s: 0.5 changes nothing, as policy sarathi has no such setting",)


def test_the_memory_that_an_engine_works_in_by_release() -> None:
    """Logs of vLLM on H100 with the limits of a server are in test_reserve.py."""
    works_in = {name: resolved(engine=name).memory.reserve_gib for name in RELEASES}
    assert works_in["vllm-0.8"] == works_in["vllm-0.16"] > 2 * works_in["vllm-0.17"]
    assert works_in["vllm-0.18"] == works_in["vllm-0.20"] == pytest.approx(2.13, abs=0.01)
    graphs = works_in["vllm-0.21"] - works_in["vllm-0.20"]
    assert graphs == pytest.approx(0.16 + 0.018 * 32, abs=1e-6) and works_in["vllm-0.33"] == works_in["vllm-0.21"]
    few = resolved("scheduler.max_num_seqs=8", engine="vllm-0.33").memory.reserve_gib
    without = resolved("scheduler.max_num_seqs=8", engine="vllm-0.20").memory.reserve_gib
    assert few - without == pytest.approx(graphs * 5 / 51, abs=1e-6)  # batches of 1, 2, 4, 8 and 16 requests


def test_without_an_engine_and_a_policy_chunking_does_not_change_the_policy() -> None:
    assert resolved(enable_chunked_prefill=False).scheduler.policy.name == "vllm_v1"
    assert not resolved(enable_chunked_prefill=False).scheduler.enable_chunked_prefill
    assert resolved("scheduler.policy=orca", enable_chunked_prefill=False).scheduler.policy.name == "orca"


def test_an_a100_of_40_gb_is_small_in_every_release() -> None:
    device = load_device("a100_40gb")
    assert {release.limits(device, 8192, True) for release in RELEASES.values()} == {(256, 2048)}


def test_the_catalog_says_what_differs() -> None:
    listed = json.loads(CliRunner().invoke(cli, ["catalog", "engines", "--json"]).output)
    assert [row["name"] for row in listed] == [*RELEASES, "sglang-0.5.10", "sglang-0.5.23"]
    rules = {row["name"]: row["rules"] for row in listed}
    hosts = {row["name"]: row["host"] for row in listed}
    assert hosts["vllm-0.12"] == "0.7 ms + 0.02 ms a request"
    assert hosts["vllm-0.15"] == "hidden: 0.7 ms + 0.02 ms a request"
    assert hosts["sglang-0.5.10"] == "0.02 ms a request; hidden: 0.7 ms + 0.02 ms a request"
    samplers = {row["name"]: row["sampler"] for row in listed}
    assert samplers["vllm-0.16"] == "0.27 ms + 15.5 us a request" and samplers["vllm-0.17"].startswith("0.03 ms")
    assert all(row["times"]["front_end_ms"] > 0 for row in listed)
    assert {tuple(sorted(row["times"]["sources"])) for row in listed} == {("eager", "front_end", "host", "sampler")}
    assert rules["vllm-0.19"] == "certified" and rules["vllm-0.20"] == "of vllm-0.19"
    differs = {row["name"]: row["differs"].split("; ") for row in listed}
    assert differs["vllm-0.19"] == [
        "admits a request only if all its tokens have room (scheduler_reserve_full_isl)",
        "asynchronous with pipelines, a request in every batch",
        "holds 4 copies of the logits to sample, and 1.9 GiB for the collectives of tensor parallelism",
    ]
    assert differs["vllm-0.17"] == ["holds 4 copies of the logits to sample"]
    assert differs["vllm-0.20"] == [""]
    assert "never sleeps after a step without tokens" in differs["vllm-0.11"]
    assert "gpu_memory_utilization 0.92 by default" in differs["vllm-0.33"]
    assert "decodes join a prefill only if they have room" in differs["sglang-0.5.23"]
    shown = CliRunner().invoke(cli, ["catalog", "engines"]).output
    assert re.search("vllm-0.33 +certified", shown)


def test_every_field_in_which_releases_differ_has_words() -> None:
    """Two releases with the same words, and the same other figures, are the same."""
    plain = {"name", "certified", "certified_as", "empty_step_sleep_s", "gpu_memory_utilization", "tokens_of_largest"}
    fields = {field.name for field in dataclasses.fields(engines.Release)} - plain
    assert fields == WORDS.keys()
    for name, words in WORDS.items():
        assert {getattr(release, name) for release in RELEASES.values()} <= words.keys()

"""A command of SGLang becomes a deployment with SGLang's names; what it cannot become is refused in one sentence."""

import re
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from fastsim.cli import cli
from fastsim.deployment.commands.imported import Imported, load
from fastsim.deployment.description import Deployment
from fastsim.deployment.launch.kubernetes import manifest
from fastsim.deployment.launch.launch import launch
from fastsim.deployment.launch.pools import commands
from fastsim.deployment.resolve import resolve
from fastsim.deployment.sglang import flags, values
from fastsim.deployment.sglang.completed import nearest
from fastsim.deployment.sglang.meaning import meaning
from fastsim.errors import ConfigError

SERVE = "python -m sglang.launch_server --model-path meta-llama/Llama-3.1-8B"
LLAMA = {"model": "meta-llama/Llama-3.1-8B", "device": "h100", "engine": "sglang-0.5.23"}


def fields(imported: Imported) -> dict[str, Any]:
    """The fields of a deployment that were set, by their last names."""
    given: dict[str, Any] = yaml.safe_load(imported.text)
    scheduler: dict[str, Any] = given.pop("scheduler", {})
    return given | scheduler


def said(imported: Imported) -> str:
    return "\n".join(imported.notes)


def test_every_setting_has_its_flag() -> None:
    imported = load(
        f"{SERVE} --tp 2 --dtype half --kv-cache-dtype fp8_e5m2 --context-length 32Ki --mem-fraction-static 0.8 "
        "--page-size 16 --max-running-requests 64 --chunked-prefill-size 4096 --max-prefill-tokens 16k "
        "--schedule-policy fcfs --schedule-conservativeness 0.3 --enable-mixed-chunk --disable-radix-cache "
        "--disable-overlap-schedule --max-total-tokens 100k --random-seed 7 --quantization fp8 --host 0.0.0.0",
        gpu="h100",
    )
    assert fields(imported) == LLAMA | {
        "tensor_parallel_size": 2,
        "dtype": "float16",
        "quantization": "fp8",
        "kv_cache_dtype": "fp8",
        "max_model_len": 32768,
        "gpu_memory_utilization": 0.8,
        "seed": 7,
        "page_size": 16,
        "max_running_requests": 64,
        "chunked_prefill_size": 4096,
        "max_prefill_tokens": 16000,
        "schedule_policy": "fcfs",
        "schedule_conservativeness": 0.3,
        "enable_mixed_chunk": True,
        "disable_radix_cache": True,
        "disable_overlap_schedule": True,
        "max_total_num_tokens": 100_000,
    }
    assert imported.notes == ["--host: changes nothing that is simulated"]


@pytest.mark.parametrize(
    "source",
    [
        f"{SERVE} --tp-size 2",
        "sglang serve --model-path meta-llama/Llama-3.1-8B --tensor-parallel-size=2",
        "/usr/bin/sglang serve --model meta-llama/Llama-3.1-8B --tensor 2",
        "docker run --gpus all -p 30000:30000 --ipc=host lmsysorg/sglang:latest "
        "python3 -m sglang.launch_server --model-path meta-llama/Llama-3.1-8B --tp 2",
        "docker run lmsysorg/sglang bash -c 'sglang serve --model-path meta-llama/Llama-3.1-8B --tp 2'",
        "--model-path meta-llama/Llama-3.1-8B --tp 2",
        "model-path: meta-llama/Llama-3.1-8B\ntensor-parallel-size: 2\n",
        "spec: {containers: [{image: lmsysorg/sglang, args: [--model-path, meta-llama/Llama-3.1-8B, --tp, '2']}]}",
        "services: {llm: {image: 'lmsysorg/sglang:latest', environment: [TP=2], entrypoint: python3, "
        "command: '-m sglang.launch_server --model-path meta-llama/Llama-3.1-8B --tp ${TP}'}}",
    ],
)
def test_ways_to_write_the_same_command(source: str) -> None:
    imported = load(source)
    assert fields(imported) == LLAMA | {"tensor_parallel_size": 2}
    assert "max_prefill_tokens 16384, max_running_requests 3613 and mem_fraction_static 0.829" in said(imported)
    assert "what SGLang 0.5.23 (assumed) takes on h100 by default" in said(imported)


POD = """
kind: Deployment
spec:
  replicas: 3
  template:
    spec:
      nodeSelector: {nvidia.com/gpu.product: NVIDIA-H200}
      containers:
      - {name: router, image: "lmsysorg/sglang:v0.5.10.post1", command: [python3, -m, sglang_router.launch_router]}
      - name: llm
        image: lmsysorg/sglang:v0.5.10.post1-cu130
        command: [python3, -m, sglang.launch_server]
        args: [--model-path, $(MODEL), --dp-size, "2", --load-balance-method, total_requests]
        env: [{name: MODEL, value: meta-llama/Llama-3.1-8B}]
        resources: {limits: {nvidia.com/gpu: "2"}}
"""


def test_a_kubernetes_deployment() -> None:
    imported = load(POD)
    assert fields(imported) == LLAMA | {
        "device": "h200",
        "engine": "sglang-0.5.10",
        "num_replicas": 6,
        "router": {"policy": "least_outstanding"},
    }
    assert "what SGLang 0.5.10 takes on h200 by default" in said(imported) and "GPU" not in said(imported)


@pytest.mark.parametrize(
    ("version", "taken"),
    [((0, 4, 9), "0.5.10"), ((0, 5, 10), "0.5.10"), ((0, 5, 22), "0.5.10"), ((0, 5, 23), "0.5.23"), ((1, 0), "0.5.23")],
)
def test_a_release_that_is_not_known_takes_the_rules_of_one_before_it(version: tuple[int, ...], taken: str) -> None:
    assert nearest(version).name == f"sglang-{taken}"


def test_a_release_that_is_not_known_is_said() -> None:
    imported = load("docker run lmsysorg/sglang:v0.5.12 --model-path qwen3-8b")
    known = "is not among the releases that are known (sglang-0.5.10, sglang-0.5.23); sglang-0.5.10 is taken"
    assert f"SGLang 0.5.12 {known}" in imported.notes


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["tp=2", "kv_cache_dtype=fp8", "dtype=float16", "seed=7", "scheduler.page_size=16"],
        ["scheduler.schedule_policy=lpm", "max_model_len=4096", "scheduler.max_running_requests=300"],
        ["scheduler.enable_mixed_chunk=true", "scheduler.disable_overlap_schedule=true", "quantization=fp8"],
        ["scheduler.disable_radix_cache=true", "scheduler.chunked_prefill_size=-1", "gpu_memory_utilization=0.85"],
        ["scheduler.max_total_num_tokens=40000", "scheduler.schedule_conservativeness=0.25"],
        ["model=mixtral-8x7b", "tp=4", "enable_expert_parallel=true", "all2all_backend=deepep", "device=h200"],
    ],
)
def test_what_is_launched_and_imported_resolves_alike(overrides: list[str]) -> None:
    described = Deployment.load(LLAMA, overrides)
    started = launch(described, "sglang")
    imported = load(started.text, gpu=described.device)
    assert resolve(imported.deployment).deployment == resolve(described).deployment
    assert launch(imported.deployment, "sglang").text == started.text
    assert imported.notes == []  # nothing is left to a default
    in_cluster = load(manifest(commands(Deployment.load(described, ["engine=sglang-0.5.10"]), "sglang")))
    assert (in_cluster.deployment.engine, in_cluster.deployment.device) == ("sglang-0.5.10", described.device)


@pytest.mark.parametrize(
    ("words", "note"),
    [
        ("--speculative-algorithm EAGLE", "--speculative-algorithm: speculative decoding is not simulated; left out"),
        ("--enable-hicache", "--enable-hicache: a second cache in the memory of the CPU or on disk is not"),
        ("--cuda-graph-bs 1 2 4", "--cuda-graph-bs: CUDA graphs have the sizes that SGLang gives them"),
        ("--lora-paths a=b c=d", "--lora-paths: LoRA adapters are not simulated; left out"),
        ("--radix-eviction-policy lfu", "--radix-eviction-policy: the radix cache gives up what was used least"),
        ("--not-a-flag 3", "--not-a-flag: no flag of SGLang's that is known here; left out"),
        ("--attention-backend fa3", "--attention-backend: changes nothing that is simulated"),
    ],
)
def test_flags_that_cannot_be_represented_are_noted(words: str, note: str) -> None:
    assert note in said(load(f"{SERVE} {words}"))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (f"{SERVE} --pp 2", "pipeline_parallel_size: sglang cannot have 2 (valid: 1)"),
        (f"{SERVE} --schedule-policy lof", "scheduler.schedule_policy: 'lof' is unknown; valid: fcfs, lpm"),
        (
            f"{SERVE} --tp 2 --dp 2 --enable-dp-attention",
            "--enable-dp-attention: True: attention with data parallelism",
        ),
        (f"{SERVE} --tp $TP", "--tp: the value of '$TP' is not in the text; write it"),
        (f"{SERVE} --tp 2 --tp-size 4", "--tp-size: 4 contradicts --tp 2"),
        (f"{SERVE} --page-size", "--page-size: no value"),
        (f"{SERVE} --is-embedding", "--is-embedding: True: models that generate no text are not simulated"),
        (f"{SERVE} --dp 2 --load-balance-method total_tokens", "'total_tokens': ranks are not balanced in this way"),
        (f"{SERVE} --torchao-config int3wo", "--torchao-config: 'int3wo': this precision is not simulated"),
        ("sglang serve --model-path mixtral-8x7b --tp 8 --ep 2", "--expert-parallel-size: 2: experts on some of"),
        ("sglang generate x", "`sglang generate` starts no server"),
        ("python -m sglang.bench_serving --model x", "`python -m sglang.bench_serving` starts no server"),
        ("python -m sglang_router.launch_router --worker-urls x", "no command of vLLM or SGLang"),
        ("sglang serve --tp 2", "the command names no model"),
    ],
)
def test_sources_that_are_refused(source: str, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)) as caught:
        load(source)
    assert "\n" not in str(caught.value)


def test_a_router_that_starts_the_servers_goes_by_their_caches() -> None:
    source = SERVE.replace("sglang.", "sglang_router.")
    given = load(f"{source} --dp-size 4 --router-cache-threshold 0.5 --router-eviction-interval 60")
    assert given.deployment.num_replicas == 4 and "--router-eviction-interval: changes nothing" in said(given)
    router = resolve(given.deployment).deployment.router
    assert (router.policy, router.cache_threshold, router.balance_rel_threshold) == ("prefix_aware", 0.5, 1.5)
    assert load(f"{source} --dp 2 --router-policy random").deployment.router.policy == "random"
    assert load(source).deployment.router.policy == "round_robin"  # of one server
    with pytest.raises(ConfigError, match=r"router.policy: 'power_of_two' is unknown"):
        load(f"{source} --dp 2 --router-policy power_of_two")


def test_replicas_that_share_nothing_may_be_given_instead_of_ranks_of_attention() -> None:
    source = f"{SERVE} --tp 2 --dp 2 --enable-dp-attention"
    assert load(source, overrides=["num_replicas=1"]).deployment.num_replicas == 1
    assert load(source.replace("--dp 2", "--dp 1")).deployment.num_replicas == 1  # without a second rank


def test_values_are_read_as_sglang_reads_them() -> None:
    given = {"1k": 1000, "1Ki": 1024, "25.6k": 25600, "2M": 2_000_000, "1.5Ki": "1.5Ki", 7: 7, "x": "x"}
    assert {text: values.whole(text) for text in given} == given
    assert values.quantization("w8a8_fp8", "deepseek-v3") is None
    assert values.quantization("w8a8_int8", "meta-llama/Llama-3.1-8B") == "int8"
    assert values.torchao("int4wo-128") == "int4_wo"


def test_no_flag_is_in_two_tables() -> None:
    names = [*flags.TAKEN, *flags.LOST, *flags.UNCHANGED, *flags.ALIASES, *flags.ATTENTION_RANKS]
    assert len(names) == len(set(names)) > 250
    assert all(meaning(name, None, None) for name in {*flags.NAMES} - {*flags.ALIASES})
    assert {*flags.ALIASES.values()} <= flags.NAMES
    assert all(sentence and not sentence.endswith(".") for _, sentence in flags.LOST.values())


def test_the_command() -> None:
    ran = CliRunner().invoke(cli, ["import", f"{SERVE} --log-level info"])
    assert ran.exit_code == 0 and yaml.safe_load(ran.stdout)["engine"] == "sglang-0.5.23"
    assert "note: --log-level: changes nothing that is simulated" in ran.stderr

"""A command of vLLM, wherever it is written, becomes a deployment; what it cannot become is refused in one sentence."""

import json
import re
from pathlib import Path
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
from fastsim.errors import CatalogError, ConfigError, DoesNotFitError, InputError

SERVE = "vllm serve meta-llama/Llama-3.1-8B"


def fields(imported: Imported) -> dict[str, Any]:
    """The fields of a deployment that were set, by dotted name."""
    given: dict[str, Any] = yaml.safe_load(imported.text)
    scheduler: dict[str, Any] = given.pop("scheduler", {})
    return given | scheduler


def said(imported: Imported) -> str:
    return "\n".join(imported.notes)


LINE = r"""
# Llama on two GPUs
$ export HF_TOKEN=hf_secret
CUDA_VISIBLE_DEVICES=0,1 vllm serve meta-llama/Llama-3.1-8B \
    -tp 2 --pipeline_parallel_size=1 --max-model-len 32K \
    --dtype half --kv-cache-dtype fp8_e4m3 --max-num-seqs 64
    --max-num-batched-tokens=4096 --no-enable-prefix-caching \
    --served-model-name llama 'my model' --api-key hf_secret --port 8001 \
    --compilation-config '{"cudagraph_mode": "FULL", "level": 3}' -O3 > log.txt 2>&1 &
curl localhost:8001/v1/models
"""


def test_a_line_of_a_shell() -> None:
    imported = load(LINE, gpu="h200")
    assert fields(imported) == {
        "model": "meta-llama/Llama-3.1-8B",
        "device": "h200",
        "dtype": "float16",
        "kv_cache_dtype": "fp8",
        "tensor_parallel_size": 2,
        "pipeline_parallel_size": 1,
        "max_model_len": 32768,
        "engine": "vllm-0.33",
        "max_num_seqs": 64,
        "max_num_batched_tokens": 4096,
        "enable_prefix_caching": False,
    }
    unchanged = ("--served-model-name", "--api-key", "--port", "--compilation-config", "-O3")
    assert imported.notes == [f"{flag}: changes nothing that is simulated" for flag in unchanged]
    assert "secret" not in said(imported) + imported.text


@pytest.mark.parametrize(
    "source",
    [
        "python -m vllm.entrypoints.openai.api_server --model meta-llama/Llama-3.1-8B --tensor-parallel-size 2",
        "/opt/venv/bin/vllm serve meta-llama/Llama-3.1-8B --tensor-parallel 2",
        "[Service]\nExecStart=/usr/bin/vllm serve meta-llama/Llama-3.1-8B -tp 2\nRestart=always\n",
        "vllm serve --tensor-parallel-size $TP meta-llama/Llama-3.1-8B".replace("$TP", "2"),
        "TP=2 vllm serve meta-llama/Llama-3.1-8B -tp ${TP}",
        "vllm serve ${MODEL:-meta-llama/Llama-3.1-8B} -tp=2",
        'pip install vllm && bash -lc "vllm serve meta-llama/Llama-3.1-8B -tp 2"',
        "docker run --gpus all -v ~/.cache/huggingface:/root/.cache/huggingface --env 'HF_TOKEN=<secret>' "
        "-p 8000:8000 --ipc=host vllm/vllm-openai:latest --model meta-llama/Llama-3.1-8B -tp 2",
        "sudo docker run -d --rm -e TP=2 --entrypoint vllm vllm/vllm-openai serve meta-llama/Llama-3.1-8B -tp $TP",
        "docker run -it --shm-size 10g rocm/vllm bash -c 'vllm serve meta-llama/Llama-3.1-8B -tp 2'",
        "--model meta-llama/Llama-3.1-8B --tensor-parallel-size 2",
        "model: meta-llama/Llama-3.1-8B\ntensor-parallel-size: 2\n",
        "args:\n- --model=meta-llama/Llama-3.1-8B\n- --tensor-parallel-size=2\n",
        '["vllm", "serve", "meta-llama/Llama-3.1-8B", "-tp", "2"]',
        "- serve\n- meta-llama/Llama-3.1-8B\n- --tensor-parallel-size\n- '2'\n",
        "services:\n  llm:\n    image: vllm/vllm-openai:latest\n    environment: [TP=2]\n"
        "    command: --model meta-llama/Llama-3.1-8B\n      --tensor-parallel-size ${TP}\n",
    ],
)
def test_ways_to_write_the_same_command(source: str) -> None:
    imported = load(source)
    assert fields(imported) == {
        "model": "meta-llama/Llama-3.1-8B",
        "device": "h100",
        "tensor_parallel_size": 2,
        "engine": "vllm-0.33",
    }
    assert "the GPU is not in the source, and h100 is taken; --gpu names another" in said(imported)
    assert "max_num_seqs 1024 and max_num_batched_tokens 8192: what vLLM 0.33 (assumed) takes" in said(imported)
    assert resolve(imported.deployment).scheduler.enable_prefix_caching


# max_num_seqs and the tokens of a batch that `vllm serve` takes, by release and GPU (the engine's get_default_args).
@pytest.mark.parametrize(
    ("image", "gpu", "flags", "engine", "seqs", "tokens"),
    [
        ("vllm/vllm-openai:v0.11.0", "h100", "", "vllm-0.11", 1024, 8192),
        ("vllm/vllm-openai:v0.11.0", "a100", "", "vllm-0.11", 256, 2048),
        ("vllm/vllm-openai:v0.8.5", "a100", "", "vllm-0.8", 1024, 8192),
        ("vllm/vllm-openai:v0.19.0", "l40s", "", "vllm-0.19", 256, 2048),
        ("vllm/vllm-openai:v0.33.0", "b200", "", "vllm-0.33", 1024, 16384),
        ("vllm/vllm-openai:v0.19.0", "h100", "--max-num-batched-tokens 512", "vllm-0.19", 512, 512),
        ("vllm/vllm-openai:v0.19.0", "a100", "--max-num-seqs 4096", "vllm-0.19", 4096, 4096),
        ("vllm/vllm-openai:v0.19.0", "h100", "--no-enable-chunked-prefill", "vllm-0.19", 1024, 131072),
        ("vllm/vllm-openai:v0.6.3", "h100", "--max-model-len 4096", "vllm", 256, 4096),
        ("vllm/vllm-openai:v0.6.3", "h100", "--max-model-len 1024", "vllm", 256, 2048),
        ("vllm/vllm-openai:v0.7.0", "h100", "--enable-chunked-prefill True", "sarathi", 256, 2048),
    ],
)
def test_limits_that_the_command_leaves_open(
    image: str, gpu: str, flags: str, engine: str, seqs: int, tokens: int
) -> None:
    imported = load(f"docker run {image} --model meta-llama/Llama-3.1-8B {flags}", gpu=gpu)
    resolved = resolve(imported.deployment)
    scheduler = resolved.scheduler
    runs = scheduler.release.name if scheduler.release else scheduler.policy.name
    assert (runs, scheduler.max_num_seqs, scheduler.token_budget) == (engine, seqs, tokens)
    assert resolved.gpu_memory_utilization == (0.92 if "0.33" in image else 0.9)


POD = """
apiVersion: v1
kind: Service
metadata: {name: llm}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: llm}
spec:
  replicas: 3
  template:
    spec:
      nodeSelector: {nvidia.com/gpu.product: NVIDIA-A100-SXM4-80GB}
      initContainers: [{name: wait, image: busybox, command: [sh, -c, sleep 1]}]
      containers:
      - name: proxy
        image: nginx
        args: [-g, daemon off;]
      - name: llm
        image: vllm/vllm-openai:v0.11.0
        command: [/bin/sh, -c]
        args: ["vllm serve $(MODEL) --trust-remote-code --tensor-parallel-size 2"]
        env:
        - {name: MODEL, value: mistralai/Mixtral-8x7B-Instruct-v0.1}
        - {name: HF_TOKEN, valueFrom: {secretKeyRef: {name: hf, key: token}}}
        resources: {limits: {nvidia.com/gpu: "4"}}
"""


def test_a_kubernetes_deployment() -> None:
    imported = load(POD)
    assert fields(imported) == {
        "model": "mistralai/Mixtral-8x7B-Instruct-v0.1",
        "device": "a100",
        "tensor_parallel_size": 2,
        "num_replicas": 3,
        "engine": "vllm-0.11",
    }
    assert imported.notes[-1] == "the container asks for 4 GPUs, and its command uses 2"
    assert load(POD, gpu="h100").deployment.device == "h100"


CHART = """
servingEngineSpec:
  modelSpec:
  - name: llama3
    repository: vllm/vllm-openai
    tag: v0.10.1
    modelURL: meta-llama/Llama-3.1-8B-Instruct
    replicaCount: 4
    vllmConfig:
      enableChunkedPrefill: false
      maxModelLen: 16384
      tensorParallelSize: 2
      extraArgs: [--gpu-memory-utilization, '0.8', --disable-log-requests]
"""


def test_the_values_of_a_chart() -> None:
    deployment = load(CHART).deployment
    assert (deployment.num_replicas, deployment.tensor_parallel_size, deployment.max_model_len) == (4, 2, 16384)
    assert (deployment.engine, deployment.gpu_memory_utilization) == ("vllm-0.10", 0.8)
    assert deployment.scheduler.enable_chunked_prefill is False
    assert "what vLLM 0.10 takes" in said(load(CHART))


LEADER = """
spec:
  replicas: 2
  leaderWorkerTemplate:
    leaderTemplate: {spec: {containers: [{image: vllm/vllm-openai, command: [sh, -c, "serving.sh leader;
      vllm serve meta-llama/Llama-3.1-405B --tensor-parallel-size 8 --pipeline_parallel_size 2"]}]}}
    workerTemplate: {spec: {containers: [{image: vllm/vllm-openai, command: [sh, -c, serving.sh worker]}]}}
"""
SERVICE = """
modelArtifacts: {uri: "hf://Qwen/Qwen3-32B", name: Qwen/Qwen3-32B}
decode:
  replicas: 4
  parallelism: {tensor: 2}
  containers: [{image: llm-d:v1, modelCommand: vllmServe, args: [--gpu-memory-utilization=0.95]}]
"""


def test_groups_of_pods_and_services_of_models() -> None:
    leader, service = load(LEADER), load(SERVICE).deployment
    assert (leader.deployment.num_replicas, leader.deployment.pipeline_parallel_size) == (2, 2)
    assert "containers run vLLM" not in said(leader)
    assert (service.model, service.tensor_parallel_size, service.num_replicas) == ("Qwen/Qwen3-32B", 2, 4)


@pytest.mark.parametrize(
    ("selector", "device"),
    [
        ("nodeSelector: {nvidia.com/gpu.product: NVIDIA-H100-80GB-HBM3}", "h100"),
        ("nodeSelector: {cloud.google.com/gke-accelerator: nvidia-tesla-a100}", "a100_40gb"),
        ("nodeSelector: {node.kubernetes.io/instance-type: p5.48xlarge}", "h100"),
        ("nodeSelector: {node.kubernetes.io/instance-type: g6e.12xlarge}", "l40s"),
        ("nodeSelector: {node.kubernetes.io/instance-type: Standard_NC40ads_H100_v5}", "h100_nvl"),
        ("nodeSelector: {amd.com/gpu.product-name: AMD_Instinct_MI300X_OAM}", "mi300x"),
        (
            "affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: "
            "[{matchExpressions: [{key: nvidia.com/gpu.product, operator: In, values: [NVIDIA-H200]}]}]}}}",
            "h200",
        ),
    ],
)
def test_labels_name_the_gpu(selector: str, device: str) -> None:
    pod = f"spec:\n  {selector}\n  containers:\n  - {{image: vllm/vllm-openai, args: [--model, Qwen/Qwen3-8B]}}\n"
    imported = load(pod)
    assert imported.deployment.device == device
    assert "GPU" not in said(imported)


def test_a_label_of_an_unknown_gpu_is_refused() -> None:
    pod = "spec: {nodeSelector: {nvidia.com/gpu.product: X1}, containers: [{image: vllm, args: [--model, qwen3-8b]}]}"
    with pytest.raises(ConfigError, match="the label of the GPU, 'X1', names no device of the catalog"):
        load(pod)


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["tensor_parallel_size=2", "kv_cache_dtype=fp8", "dtype=float16", "seed=7", "scheduler.block_size=32"],
        ["scheduling_policy=priority", "max_model_len=4096", "scheduler.max_num_seqs=300"],
        ["enable_chunked_prefill=false", "async_scheduling=false", "enable_prefix_caching=false"],
        ["long_prefill_token_threshold=256", "scheduler_reserve_full_isl=false"],
        ["model=meta-llama/Llama-2-70b-hf", "pp=2", "tp=4", "quantization=fp8", "max_model_len=4096"],
        ["scheduler.num_blocks=1234", "max_model_len=8000", "gpu_memory_utilization=0.85"],
        ["model=mixtral-8x7b", "tp=4", "enable_expert_parallel=true", "all2all_backend=deepep", "device=h200"],
        ["model=deepseek-v3", "device=b200", "tp=8"],
    ],
)
def test_what_is_launched_and_imported_is_launched_alike(overrides: list[str]) -> None:
    described = Deployment.load(None, overrides)
    started = launch(described)
    imported = load(started.text, gpu=described.device)
    again = launch(imported.deployment)
    assert again.text == started.text
    there, here = resolve(described), resolve(imported.deployment)
    assert here.memory.num_blocks == there.memory.num_blocks
    assert (here.quantization, here.scheduler.token_budget) == (there.quantization, there.scheduler.token_budget)
    assert not [note for note in imported.notes if "seqs" in note]  # nothing is left to a default
    in_cluster = load(manifest(commands(described)))
    assert launch(in_cluster.deployment).text == started.text
    assert (in_cluster.deployment.device, in_cluster.deployment.num_replicas) == (described.device, 1)


def test_ranks_and_pods_are_replicas() -> None:
    assert load(f"{SERVE} -dp 2").deployment.num_replicas == 2
    assert load(f"{SERVE} -dp 2").deployment.router.policy == "least_outstanding"
    assert load(POD.replace("--tensor", "--swap-space 4 --tensor")).deployment.num_replicas == 3


def test_a_checkpoint_is_taken_as_the_model_that_it_stores() -> None:
    imported = load("vllm serve someone/Meta-Llama-3.1-8B-Instruct-MXFP4 --quantization compressed-tensors -tp 1")
    assert (imported.deployment.model, imported.deployment.quantization) == ("meta-llama/Llama-3.1-8B", "mxfp4")
    assert "taken as meta-llama/Llama-3.1-8B with quantization mxfp4; its config.json says what it" in said(imported)


def test_models_are_known_by_the_end_of_a_path_and_by_set(tmp_path: Path) -> None:
    imported = load("vllm serve /models/Llama-3.1-8B --tokenizer x")
    assert imported.deployment.model == "meta-llama/Llama-3.1-8B"
    assert "/models/Llama-3.1-8B: taken as meta-llama/Llama-3.1-8B" in imported.notes
    served = load("vllm serve /data --served-model-name llama Llama-3.1-8B")
    assert "/data: taken as meta-llama/Llama-3.1-8B" in served.notes
    shape = {"model_type": "llama", "num_hidden_layers": 2, "hidden_size": 256, "num_attention_heads": 4}
    shape |= {"intermediate_size": 512, "vocab_size": 1000, "max_position_embeddings": 512}
    (tmp_path / "config.json").write_text(json.dumps(shape))
    with pytest.raises(CatalogError, match=r"name the path of its config\.json with --set model=PATH"):
        load("vllm serve my/own-model")
    given = load("vllm serve my/own-model", overrides=[f"model={tmp_path / 'config.json'}", "tp=2"])
    assert given.deployment.model == str(tmp_path / "config.json")
    assert given.deployment.tensor_parallel_size == 2
    assert resolve(given.deployment).scheduler.max_num_seqs == 1024
    experts = load("vllm serve deepseek-v3 -dp 8 -ep", gpu="h200").deployment
    assert (experts.num_replicas, experts.data_parallel_size, experts.enable_expert_parallel) == (1, 8, True)


@pytest.mark.parametrize(
    ("flags", "note"),
    [
        ('--speculative-config \'{"method": "ngram"}\'', "--speculative-config: speculative decoding is not"),
        ("--max-num-partial-prefills 2", "--max-num-partial-prefills: several prompts in chunks at once are not"),
        ("--cpu-offload-gb 8", "--cpu-offload-gb: weights in the memory of the CPU"),
        ("--enable-lora --lora-modules a=b c=d", "--enable-lora: LoRA adapters are not simulated; left out"),
        ("--config more.yaml", "--config: the file that it names is not read"),
        ("--not-a-flag 3", "--not-a-flag: no flag of vLLM's that is known here; left out"),
        ("--swap-space 4", "--swap-space: changes nothing that is simulated"),
    ],
)
def test_flags_that_cannot_be_represented_are_noted(flags: str, note: str) -> None:
    assert note in said(load(f"{SERVE} {flags}"))


def test_what_engine_v0_had_and_is_not_simulated_is_noted() -> None:
    old = "docker run vllm/vllm-openai:v0.6.3 --model meta-llama/Llama-3.1-8B"
    imported = load(f"{old} --enable-prefix-caching --scheduling-policy priority --async-scheduling")
    assert "--enable-prefix-caching: prefix caching is not simulated" in said(imported)
    assert "--scheduling-policy: priorities are not simulated" in said(imported)
    assert resolve(imported.deployment).scheduler.policy.name == "vllm"


def test_engines_are_those_of_the_image() -> None:
    image = "docker run vllm/vllm-openai:v{} --model meta-llama/Llama-3.1-8B --num-gpu-blocks-override 9000"
    assert load(image.format("0.15.1")).deployment.engine == "vllm-0.15"
    newer = load(image.format("0.99.0"))
    assert newer.deployment.engine == "vllm-0.33" and "0.99.0 is newer than the releases" in said(newer)
    assert newer.deployment.scheduler.num_blocks == 8999  # one is vLLM's null block


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ("", ConfigError, "no command of vLLM"),
        ("hello world", ConfigError, "no command of vLLM or SGLang in 'hello world' (e.g. vllm serve"),
        ("missing.yaml", ConfigError, "missing.yaml: no such file"),
        ("vllm serve", ConfigError, "the command names no model"),
        ("vllm serve $MODEL", ConfigError, "the model is '$MODEL', and its value is not in the text"),
        (f"{SERVE} -tp $TP", ConfigError, "-tp: the value of '$TP' is not in the text; write it"),
        (f"{SERVE} --tensor-parallel-size", ConfigError, "--tensor-parallel-size: no value"),
        (f"{SERVE} -tp 2 --tensor-parallel-size 4", ConfigError, "--tensor-parallel-size: 4 contradicts -tp 2"),
        (f"{SERVE} -tp three", ConfigError, "tensor_parallel_size: 'three' is not a positive integer"),
        (f"{SERVE} --dtype float32", ConfigError, "--dtype: 'float32': 32-bit activations are not simulated"),
        (f"{SERVE} --task embed", ConfigError, "models that generate nothing are not simulated"),
        (f"{SERVE} -tp 3", ConfigError, "tensor_parallel_size: 3 does not divide"),
        ("vllm serve meta-llama/Llama-3.1-405B", DoesNotFitError, "(the source names no GPU; --gpu takes another"),
        ("vllm serve deepseek-v3 -dp 7 -ep", ConfigError, "7 ranks do not divide the 256 experts"),
        ("vllm bench serve --model x", ConfigError, "`vllm bench` starts no server"),
        ('vllm serve "unclosed', ConfigError, "the command cannot be split into words: no closing quotation"),
        ("vllm serve " + "x " * 2001, ConfigError, "the command has 2,003 words, and at most 2,000 are read"),
        ("model: qwen3-8b\ndevice: h100", ConfigError, "the text: is a deployment as it is; `fastsim simulate` takes"),
        ("vllm serve " + "x " * 60_000, ConfigError, "the command has 120,011 characters, and at most 100,000"),
        ("a: " + "x" * 2**20, ConfigError, "characters, and at most 1,048,576 are read"),
        ("bash -c " * 9 + "x", ConfigError, "no command of vLLM"),
        ("docker run " * 900, ConfigError, "more than 4 shells or containers within each other"),
        ("trtllm-serve x", ConfigError, "this starts TensorRT-LLM"),
        ("a: {b: 1}", ConfigError, "the text: no container runs vLLM"),
        ("a: [", ConfigError, "not valid YAML: "),
        ("a: " + "[" * 5000, ConfigError, "not valid YAML: "),
        ("---\n" * 200 + "a: 1", ConfigError, "more than 100 documents"),
    ],
)
def test_sources_that_are_refused(source: str, error: type[InputError], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)) as caught:
        load(source)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 700


def test_nested_aliases_are_refused() -> None:
    lines = ["a0: &a0 [x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    with pytest.raises(ConfigError, match="more than 1,000,000 values"):
        load("\n".join(lines))


def test_nothing_is_executed(tmp_path: Path) -> None:
    file = tmp_path / "made"
    for source in (f"vllm serve qwen3-8b $(touch {file})", f"vllm serve `touch {file}`", f"touch {file}; {SERVE}"):
        try:
            load(source)
        except InputError as problem:
            assert "\n" not in str(problem)
        assert not file.exists()


def test_the_command(tmp_path: Path) -> None:
    ran = CliRunner().invoke(cli, ["import", f"{SERVE} --port 1"])
    assert ran.exit_code == 0
    assert yaml.safe_load(ran.stdout)["model"] == "meta-llama/Llama-3.1-8B"
    assert "note: --port: changes nothing that is simulated" in ran.stderr
    file = tmp_path / "start.sh"
    file.write_text(f"#!/bin/bash\nset -e\nexec {SERVE} \\\n  --max-model-len 8192\n")
    out = tmp_path / "deployment.yaml"
    assert CliRunner().invoke(cli, ["import", str(file), "--gpu", "a100", "--out", str(out)]).exit_code == 0
    deployment = Deployment.load(out)
    assert (deployment.device, deployment.max_model_len) == ("a100", 8192)
    ran = CliRunner().invoke(cli, ["import", "-", "--set", "tp=2"], input=SERVE)
    assert yaml.safe_load(ran.stdout)["tensor_parallel_size"] == 2
    refused = CliRunner().invoke(cli, ["import", SERVE, "--gpu", "h1000", "--out", str(tmp_path / "none")])
    assert isinstance(refused.exception, CatalogError) and not (tmp_path / "none").exists()


def test_the_imported_deployment_is_simulated(tmp_path: Path) -> None:
    out = tmp_path / "deployment.yaml"
    assert CliRunner().invoke(cli, ["import", POD, "--out", str(out)]).exit_code == 0
    ran = CliRunner().invoke(cli, ["simulate", str(out), "--requests", "5", "--json"])
    assert ran.exit_code == 0
    assert json.loads(ran.stdout)["totals"]["finished"] == 5

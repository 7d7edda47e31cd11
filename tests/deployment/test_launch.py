"""What is launched is what was simulated: flags by field, manifests that Kubernetes takes."""

import json
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from fastsim.cli import cli
from fastsim.deployment.description import Deployment
from fastsim.deployment.launch.dynamo import graph
from fastsim.deployment.launch.kubernetes import NAME, manifest, name_of
from fastsim.deployment.launch.launch import launch
from fastsim.deployment.launch.pools import commands
from fastsim.errors import ConfigError


def deployment(**fields: Any) -> Deployment:
    return Deployment.load(None, [f"{name.replace('__', '.')}={value}" for name, value in fields.items()])


def flags_of(described: Deployment, engine: str = "vllm") -> dict[str, str | None]:
    return dict(launch(described, engine).flags)


def test_vllm_gets_every_field_that_it_has_a_flag_for() -> None:
    described = deployment(
        model="meta-llama/Llama-2-70b-hf",
        tensor_parallel_size=4,
        pipeline_parallel_size=2,
        max_model_len=4096,
        gpu_memory_utilization=0.85,
        kv_cache_dtype="fp8",
        quantization="fp8",
        seed=7,
        scheduler__policy="sarathi",
        scheduler__max_num_seqs=96,
        scheduler__chunk_size=768,
        scheduler__block_size=32,
    )
    assert launch(described).program == ("vllm", "serve", "meta-llama/Llama-2-70b-hf")
    assert flags_of(described) == {
        "--tensor-parallel-size": "4",
        "--pipeline-parallel-size": "2",
        "--dtype": "bfloat16",
        "--quantization": "fp8",
        "--kv-cache-dtype": "fp8",
        "--max-model-len": "4096",
        "--gpu-memory-utilization": "0.85",
        "--block-size": "32",
        "--max-num-seqs": "96",
        "--max-num-batched-tokens": "768",
        "--enable-chunked-prefill": None,
        "--no-enable-prefix-caching": None,
        "--seed": "7",
    }


def test_an_engine_gets_the_flags_of_its_release() -> None:
    described = deployment(engine="vllm-0.33", scheduler="{}", scheduler__num_blocks=1000)
    described = Deployment.load(described, ["async_scheduling=false", "scheduler_reserve_full_isl=false"])
    described = Deployment.load(described, ["long_prefill_token_threshold=512"])
    flags = flags_of(described)
    assert flags["--long-prefill-token-threshold"] == "512" and flags["--num-gpu-blocks-override"] == "1001"
    assert {"--enable-prefix-caching", "--no-async-scheduling", "--no-scheduler-reserve-full-isl"} <= flags.keys()
    assert launch(described).notes == ()
    older = flags_of(Deployment.load(described, ["engine=vllm-0.11", "enable_prefix_caching=false"]))
    assert "--no-enable-prefix-caching" in older and not {"--no-async-scheduling"} & older.keys()
    assert "image: vllm/vllm-openai:v0.33.0" in manifest(commands(described))


def test_whole_prompts_need_chunked_prefill_off() -> None:
    flags = flags_of(deployment(scheduler__policy="vllm", max_model_len=4096, scheduler__max_num_batched_tokens=5000))
    assert flags["--max-num-batched-tokens"] == "5000"
    assert "--no-enable-chunked-prefill" in flags and "--enable-chunked-prefill" not in flags


def test_blocks_are_named_only_where_the_user_did() -> None:
    assert "--num-gpu-blocks-override" not in flags_of(deployment())
    assert flags_of(deployment(scheduler__num_blocks=1234))["--num-gpu-blocks-override"] == "1235"  # a null block
    sarathi = deployment(scheduler__num_blocks=1234, scheduler__policy="sarathi")
    assert flags_of(sarathi)["--num-gpu-blocks-override"] == "1234"


def test_sglang_gets_the_same_memory() -> None:
    scheduler = {"scheduler__policy": "sarathi", "scheduler__num_blocks": 1000, "scheduler__chunk_size": 256}
    described = deployment(kv_cache_dtype="fp8", **scheduler)
    flags = flags_of(described, "sglang")
    memory = launch(described, "sglang").resolved.memory
    assert flags["--max-total-tokens"] == "16000"
    assert float(flags["--mem-fraction-static"] or 0) == pytest.approx(
        (memory.weights_gib + memory.kv_gib) / 79.18, abs=1e-3
    )
    assert (flags["--kv-cache-dtype"], flags["--chunked-prefill-size"]) == ("fp8_e4m3", "256")
    assert "--enable-mixed-chunk" in flags
    whole = flags_of(deployment(scheduler__policy="vllm"), "sglang")
    assert (whole["--chunked-prefill-size"], "--enable-mixed-chunk" in whole) == ("-1", False)


def test_what_an_engine_cannot_be_told_is_said() -> None:
    said = " ".join(launch(deployment(num_replicas=3, quantization="int4_wo", scheduler__policy="sarathi")).notes)
    for part in ("watermark 0.01", "3 replicas", "round_robin", "quantization int4_wo"):
        assert part in said
    experts = deployment(
        model="mistralai/Mixtral-8x7B-v0.1", tensor_parallel_size=4, enable_expert_parallel=True, moe_imbalance=1.2
    )
    assert "--enable-expert-parallel" in flags_of(experts)
    assert "moe_imbalance 1.2" in " ".join(launch(experts).notes)


@pytest.mark.parametrize(
    ("fields", "engine", "text"),
    [
        ({"scheduler__policy": "orca"}, "vllm", "vllm does not run 'orca'"),
        ({"scheduler__policy": "faster_transformer"}, "sglang", "sglang does not run 'faster_transformer'"),
        ({}, "vlm", "engine: 'vlm' is unknown; did you mean 'vllm'"),
        ({}, "sglang", r"sglang does not run 'vllm_v1' \(valid: sarathi, sglang, vllm\)"),
        (
            {"scheduler__policy": "sarathi", "scheduler__chunk_size": 64},
            "vllm",
            "chunk_size: vLLM refuses 64 tokens a batch with max_num_seqs 128",
        ),
        (
            {"scheduler__policy": "vllm", "scheduler__max_num_batched_tokens": 1000},
            "vllm",
            "refuses 1000 tokens a batch with max_model_len 8192",
        ),
    ],
)
def test_what_cannot_be_launched_is_refused(fields: dict[str, Any], engine: str, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        launch(deployment(**fields), engine)


# Fields of the objects that are used, by their types in the Kubernetes API; a name in () may be left out.
PROBE = {"httpGet": {"path": str, "port": str}, "periodSeconds": int}
METADATA = {"name": str, "labels": "labels"}
SCHEMA: dict[str, Any] = {
    "Deployment": {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {**METADATA, "annotations": "labels"},
        "spec": {
            "replicas": int,
            "selector": {"matchLabels": "labels"},
            "template": {
                "metadata": {"labels": "labels"},
                "spec": {
                    "containers": [
                        {
                            "name": str,
                            "image": str,
                            "command": [str],
                            "args": [str],
                            "ports": [{"name": str, "containerPort": int}],
                            "env": [
                                {
                                    "name": str,
                                    "valueFrom": {"secretKeyRef": {"name": str, "key": str, "optional": bool}},
                                }
                            ],
                            "resources": {"limits": {"nvidia.com/gpu": str}, "requests": {"nvidia.com/gpu": str}},
                            "startupProbe": {**PROBE, "failureThreshold": int},
                            "readinessProbe": PROBE,
                            "volumeMounts": [{"name": str, "mountPath": str}],
                        }
                    ],
                    "volumes": [{"name": str, "emptyDir": {"medium": str}}],
                },
            },
        },
    },
    "Service": {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": METADATA,
        "spec": {"selector": "labels", "ports": [{"name": str, "port": int, "targetPort": str}]},
    },
}


def check(value: Any, schema: Any) -> None:
    if schema == "labels":
        assert value and all(isinstance(one, str) for pair in value.items() for one in pair)
    elif isinstance(schema, dict):
        assert set(value) == set(schema)
        for name, inner in schema.items():
            check(value[name], inner)
    elif isinstance(schema, list):
        assert isinstance(value, list) and value
        for one in value:
            check(one, schema[0])
    elif isinstance(schema, type):
        assert type(value) is schema
    else:
        assert value == schema


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_the_manifest_is_a_deployment_and_a_service_that_belong_together(engine: str) -> None:
    policy = {"vllm": "vllm_v1", "sglang": "sarathi"}[engine]
    described = deployment(tensor_parallel_size=2, num_replicas=3, scheduler__policy=policy)
    started = launch(described, engine)
    text = manifest(commands(described, engine))
    pods, service = yaml.safe_load_all(text)
    for one in (pods, service):
        check(one, SCHEMA[one["kind"]])
        assert NAME.fullmatch(one["metadata"]["name"])
    assert "&id" not in text
    template = pods["spec"]["template"]
    labels = template["metadata"]["labels"]
    assert pods["spec"]["replicas"] == 3
    assert pods["spec"]["selector"]["matchLabels"] == labels == service["spec"]["selector"]
    (container,) = template["spec"]["containers"]
    assert container["resources"]["limits"] == {"nvidia.com/gpu": "2"}
    words = [*container["command"], *container["args"]]
    assert words[: len(started.command)] == started.command
    assert words[-1] == str(container["ports"][0]["containerPort"])
    assert service["spec"]["ports"][0]["targetPort"] == container["ports"][0]["name"]
    assert {mount["name"] for mount in container["volumeMounts"]} == {
        volume["name"] for volume in template["spec"]["volumes"]
    }


def test_stages_are_those_that_were_simulated() -> None:
    uneven = deployment(model="Qwen/Qwen2.5-7B", pipeline_parallel_size=3, scheduler__policy="sarathi")
    assert launch(uneven).text.startswith("vllm serve")  # vLLM cuts 28 layers into 9, 10 and 9 itself
    sglang = "SGLANG_PP_LAYER_PARTITION=9,10,9 python3 -m sglang.launch_server"
    assert launch(uneven, "sglang").text.startswith(sglang)
    described = deployment(model="Qwen/Qwen2.5-7B", pipeline_layers="[10, 9, 9]")
    given = launch(described)
    assert given.text.startswith("VLLM_PP_LAYER_PARTITION=10,9,9 vllm serve")
    assert dict(given.flags)["--pipeline-parallel-size"] == "3"
    env = next(iter(yaml.safe_load_all(manifest(commands(described)))))["spec"]["template"]["spec"]["containers"][0][
        "env"
    ]
    assert env[0] == {"name": "VLLM_PP_LAYER_PARTITION", "value": "10,9,9"}


def test_a_replica_larger_than_a_node_is_no_pod() -> None:
    wide = commands(deployment(model="meta-llama/Llama-2-70b-hf", tensor_parallel_size=8, pipeline_parallel_size=2))
    assert any("takes 16 GPUs" in note for note in wide.all_notes)
    with pytest.raises(ConfigError, match="16 GPUs do not fit a pod"):
        manifest(wide)


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("meta-llama/Llama-2-7b-hf", "llama-2-7b-hf"),
        ("Qwen/Qwen2.5-7B", "qwen2-5-7b"),
        ("/models/my_model/config.json", "my-model"),
        ("x" * 80, "x" * 63),
        ("__", "model"),
    ],
)
def test_names_are_dns_labels(model: str, name: str) -> None:
    assert name_of(model) == name


SMALL = "model: llama-2-7b-hf\ndevice: a100"


def test_the_command_line_is_for_a_shell(tmp_path: Any) -> None:
    ran = CliRunner().invoke(
        cli, ["launch", "-", "--set", "num_replicas=2"], input="model: llama-2-7b-hf\ndevice: a100"
    )
    assert ran.exit_code == 0
    assert ran.stdout.startswith("vllm serve meta-llama/Llama-2-7b-hf \\\n  --tensor-parallel-size 1 \\\n")
    assert "note: start 2 replicas" in ran.output
    empty = CliRunner().invoke(cli, ["launch", str(tmp_path)])
    assert isinstance(empty.exception, ConfigError)
    out = tmp_path / "there.yaml"
    assert CliRunner().invoke(cli, ["launch", "-", "--kubernetes", "--out", str(out)], input="{}").exit_code != 0
    done = CliRunner().invoke(cli, ["launch", "-", "--kubernetes", "--out", str(out)], input=SMALL)
    assert done.exit_code == 0
    assert [one["kind"] for one in yaml.safe_load_all(out.read_text())] == ["Deployment", "Service"]


def test_gpus_without_bfloat16_run_in_float16() -> None:
    for device, dtype in (("t4", "float16"), ("v100", "float16"), ("l4", "bfloat16"), ("mi300x", "bfloat16")):
        started = launch(deployment(model="phi-2", device=device))
        assert dict(started.flags)["--dtype"] == dtype
        assert any(note.startswith("dtype bfloat16: ") for note in started.notes) == (dtype == "float16")


def test_amd_gpus_have_their_own_resource_and_image() -> None:
    described = deployment(model="phi-2", device="mi300x", scheduler__policy="sarathi")
    text = manifest(commands(described))
    assert "amd.com/gpu" in text and "nvidia" not in text and "vllm/vllm-openai-rocm:" in text
    with pytest.raises(ConfigError, match="no image of sglang for mi300x is known"):
        manifest(commands(described, "sglang"))
    assert "image: mine:1" in manifest(commands(described, "sglang"), "mine:1")


POOLS: list[dict[str, Any]] = [
    {"name": "prompts", "role": "prefill", "num_replicas": 2, "tensor_parallel_size": 2},
    {"name": "tokens", "role": "decode", "scheduler": {"max_num_seqs": 64}},
]


def apart(**fields: Any) -> Deployment:
    return Deployment.load(
        {"model": "llama-3-8b", "device": "h100", "pools": POOLS, "kv_transfer": {"link_gb_s": 50}, **fields}
    )


def test_pools_of_vllm_have_the_roles_of_its_nixl_connector() -> None:
    made = commands(apart(kv_transfer={"link_gb_s": 50, "layerwise": True, "min_prompt_tokens": 256}))
    prompts, tokens = made.launches
    for each, role, port in ((prompts, "kv_producer", "5600"), (tokens, "kv_consumer", "5700")):
        config = json.loads(dict(each.flags)["--kv-transfer-config"] or "")
        assert config == {"kv_connector": "NixlConnector", "kv_role": role}
        assert each.environment == {"VLLM_NIXL_SIDE_CHANNEL_PORT": port}
        plain = launch(each.resolved.deployment)
        assert each.flags[:-1] == plain.flags
    assert dict(tokens.flags)["--max-num-seqs"] == "64" and dict(prompts.flags)["--tensor-parallel-size"] == "2"
    words = " ".join(made.proxy)
    assert "--prefiller-hosts prompts-0 prompts-1 --prefiller-ports 8000 8000 --decoder-hosts tokens-0" in words
    assert made.text.startswith("# prompts: 2 replicas of role prefill\nVLLM_NIXL_SIDE_CHANNEL_PORT=5600 vllm serve ")
    said = " ".join(made.all_notes)
    assert "kv_transfer.layerwise: " in said and "min_prompt_tokens 256: no flag" in said and "behind" not in said
    assert made.as_dict()["pools"][1]["role"] == "decode" and made.as_dict()["pools"][0]["gpus"] == 2


def test_pools_and_ranks_of_sglang_have_its_modes() -> None:
    made = commands(apart(), "sglang")
    modes = [dict(each.flags)["--disaggregation-mode"] for each in made.launches]
    assert modes == ["prefill", "decode"]
    assert all(("--disaggregation-transfer-backend", "nixl") in each.flags for each in made.launches)
    assert "--pd-disaggregation --prefill http://prompts-0:30000 --prefill http://prompts-1:30000 --decode" in " ".join(
        made.proxy
    )
    assert any("simulated were vLLM's scheduler" in note for note in made.all_notes)
    ranks = deployment(model="Qwen/Qwen3-30B-A3B", data_parallel_size=4, enable_expert_parallel="true")
    flags = flags_of(ranks, "sglang")
    assert (flags["--tensor-parallel-size"], flags["--data-parallel-size"]) == ("4", "4")
    assert "--enable-dp-attention" in flags and flags["--expert-parallel-size"] == "4"
    assert "--disable-radix-cache" not in flags
    with pytest.raises(ConfigError, match="sglang does not run 'vllm_v1'"):
        launch(deployment(), "sglang")


def test_pools_in_a_cluster_have_names_of_their_own() -> None:
    made = commands(apart())
    objects = list(yaml.safe_load_all(manifest(made)))
    for service in objects[1::2]:
        check(service, SCHEMA["Service"])
    assert [one["metadata"]["name"] for one in objects[::2]] == ["meta-llama-3-8b-prompts", "meta-llama-3-8b-tokens"]
    assert [one["spec"]["replicas"] for one in objects[::2]] == [2, 1]
    environment = objects[0]["spec"]["template"]["spec"]["containers"][0]["env"]
    assert {"fieldRef": {"fieldPath": "status.podIP"}} in [one.get("valueFrom") for one in environment]
    alike = [{**pool, "name": name} for pool, name in zip(POOLS, ("a b", "a-b"), strict=True)]
    names = [one["metadata"]["name"] for one in yaml.safe_load_all(manifest(commands(apart(pools=alike))))]
    assert len(set(names)) == 2 and all(NAME.fullmatch(name) for name in names)


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_dynamo_gets_a_front_end_and_a_worker_for_each_pool(engine: str) -> None:
    made = graph(commands(apart(), engine))
    assert (made["apiVersion"], made["kind"]) == ("nvidia.com/v1beta1", "DynamoGraphDeployment")
    front, prompts, tokens = made["spec"]["components"]
    assert [one["type"] for one in (front, prompts, tokens)] == ["frontend", "prefill", "decode"]
    assert (prompts["replicas"], tokens["replicas"]) == (2, 1)
    (container,) = prompts["podTemplate"]["spec"]["containers"]
    assert container["command"] == ["python3", "-m", f"dynamo.{engine}"]
    assert container["resources"]["limits"] == {"nvidia.com/gpu": "2"}
    words = container["args"]
    assert words[words.index("--disaggregation-mode") + 1] == "prefill" and words.count("--disaggregation-mode") == 1
    assert words[1].endswith("Meta-Llama-3-8B") and (words.count("--kv-transfer-config") == 1) == (engine == "vllm")
    alone = graph(commands(deployment(num_replicas=3, scheduler__policy="sarathi"), engine))["spec"]["components"]
    assert [one["type"] for one in alone] == ["frontend", "worker"] and alone[1]["replicas"] == 3
    assert "--disaggregation-mode" not in alone[1]["podTemplate"]["spec"]["containers"][0]["args"]


def test_pools_of_one_role_are_started_behind_a_router(tmp_path: Any) -> None:
    described = tmp_path / "pools.yaml"
    described.write_text("model: llama-3-8b\ndevice: h100\npools: [{name: a}, {name: b, device: l40s}]\n")
    shown = CliRunner().invoke(cli, ["launch", str(described)])
    assert shown.stdout.startswith("# a: 1 replica\nvllm serve") and "kv-transfer" not in shown.stdout
    assert "start a router before the pools" in shown.output
    both = CliRunner().invoke(cli, ["launch", str(described), "--kubernetes", "--dynamo"])
    assert both.exit_code == 2 and "give one of them" in both.output

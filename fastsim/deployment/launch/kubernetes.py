"""The Kubernetes objects that start a deployment: a Deployment with one pod per replica, behind a Service."""

import re
from collections.abc import Sequence
from typing import Any

from fastsim.deployment.launch.launch import Launch
from fastsim.deployment.launch.pools import PORTS, Commands
from fastsim.errors import ConfigError
from fastsim.version import __version__

IMAGES = {"vllm": "vllm/vllm-openai:v0.19.0", "sglang": "lmsysorg/sglang:v0.5.10.post1"}
AMD_IMAGES = {"vllm": "vllm/vllm-openai-rocm:v0.19.0"}
START_S = 30 * 60  # a large model takes this long to load
NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")


def check_pod(launch: Launch) -> None:
    """Raise ConfigError for a replica that does not fit into one pod."""
    gpus, node = launch.resolved.gpus_per_replica, launch.resolved.node
    if gpus > node.num_devices:
        ranks = " x data_parallel_size" if launch.resolved.data_parallel_size > 1 else ""
        raise ConfigError(
            f"tensor_parallel_size x pipeline_parallel_size{ranks}: {gpus} GPUs do not fit a pod, as {node.name} has "
            f"{node.num_devices} (valid: {node.num_devices} or fewer)"
        )


def objects(launch: Launch, image: str | None, name: str) -> list[dict[str, Any]]:
    """The Deployment (apps/v1) and the Service (v1) of ``launch``, as plain dictionaries.

    ``image`` replaces the engine's own image. Raises ConfigError for a replica that does not fit into one pod.
    """
    check_pod(launch)
    resolved = launch.resolved
    gpus, port = resolved.gpus_per_replica, PORTS[launch.engine]
    labels = {"app.kubernetes.io/name": name, "app.kubernetes.io/component": launch.engine}
    resource = "amd.com/gpu" if resolved.device.is_amd else "nvidia.com/gpu"
    probe = {"httpGet": {"path": "/health", "port": "http"}, "periodSeconds": 10}
    container = {
        "name": launch.engine,
        "image": image or _image(launch),
        "command": list(launch.program),
        "args": [*launch.command[len(launch.program) :], "--host", "0.0.0.0", "--port", str(port)],
        "ports": [{"name": "http", "containerPort": port}],
        "env": [
            *({"name": variable, "value": value} for variable, value in launch.environment.items()),
            *(_address() if "VLLM_NIXL_SIDE_CHANNEL_PORT" in launch.environment else ()),
            {
                "name": "HF_TOKEN",
                "valueFrom": {"secretKeyRef": {"name": "hugging-face", "key": "token", "optional": True}},
            },
        ],
        "resources": {"limits": {resource: str(gpus)}, "requests": {resource: str(gpus)}},
        "startupProbe": {**probe, "failureThreshold": START_S // 10},
        "readinessProbe": probe,
        "volumeMounts": [{"name": "shared-memory", "mountPath": "/dev/shm"}],
    }
    pod = {
        "containers": [container],
        "volumes": [{"name": "shared-memory", "emptyDir": {"medium": "Memory"}}],
    }
    about = {"fastsim/version": __version__, "fastsim/device": resolved.deployment.device}
    return [
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name, "labels": labels, "annotations": about},
            "spec": {
                "replicas": resolved.num_replicas,
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": pod},
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "labels": labels},
            "spec": {"selector": labels, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]},
        },
    ]


def _address() -> list[dict[str, Any]]:
    """The variable that tells vLLM's NIXL connector the address of its pod."""
    return [
        {"name": "VLLM_NIXL_SIDE_CHANNEL_HOST", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
    ]


def _image(launch: Launch) -> str:
    """The engine's own image for the GPU. Raises ConfigError where none is known."""
    release, own = launch.resolved.scheduler.release, launch.resolved.scheduler.sglang
    if not launch.resolved.device.is_amd:
        if own is not None:
            return f"lmsysorg/sglang:v{own.release.recorded}"
        return f"vllm/vllm-openai:v{release.name.removeprefix('vllm-')}.0" if release else IMAGES[launch.engine]
    if launch.engine not in AMD_IMAGES:
        raise ConfigError(
            f"--image: no image of {launch.engine} for {launch.resolved.device.name} is known; name the one you use "
            "(e.g. --image registry.example/sglang-rocm:v1)"
        )
    return AMD_IMAGES[launch.engine]


def name_of(model: str) -> str:
    """Turn a model's name into a DNS label (RFC 1123)."""
    words = [part for part in model.lower().split("/") if part != "config.json"]
    name = re.sub(r"[^a-z0-9]+", "-", words[-1] if words else "").strip("-")[:63].strip("-")
    return name if NAME.fullmatch(name) else "model"


def names_of(launches: Sequence[Launch]) -> list[str]:
    """A DNS label for the model, and with pools one more for each of them; no two are the same."""
    model = name_of(launches[0].resolved.deployment.model)
    names = [model]
    for launch in launches:
        if launch.pool is not None:
            name = f"{model[:36].strip('-')}-{name_of(launch.pool.name)[:20].strip('-')}"
            names.append(name if name not in names else f"{name}-{len(names)}")
    return names


def manifest(commands: Commands, image: str | None = None) -> str:
    """The objects of all commands as YAML, after their notes. Raises ConfigError as ``objects`` does."""
    launches = commands.launches
    model, *names = names_of(launches)
    devices = " and ".join(dict.fromkeys(launch.resolved.device.name for launch in launches))
    more = [
        "a Service picks a pod for each connection at random, not each request",
        f"add a nodeSelector if the cluster has other GPUs than {devices}",
    ]
    made = [objects(launch, image, name) for launch, name in zip(launches, names or [model], strict=True)]
    return as_yaml([one for each in made for one in each], [*commands.all_notes, *more])


def as_yaml(objects: Sequence[Any], notes: Sequence[str]) -> str:
    """Objects as documents of YAML, after notes as comments."""
    import yaml

    class Plain(yaml.SafeDumper):
        """Writes repeated values out again where YAML would use anchors, which are hard to read."""

        def ignore_aliases(self, data: Any) -> bool:
            """Never write an anchor."""
            return True

    comments = "".join(f"# {' '.join(note.split())}\n" for note in notes)  # a line each, whatever a name holds
    return comments + yaml.dump_all(objects, Dumper=Plain, sort_keys=False, width=100)

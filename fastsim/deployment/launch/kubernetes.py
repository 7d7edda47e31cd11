"""A launch as Kubernetes objects: a Deployment of pods, a replica each, and a Service before them."""

import re
from typing import Any

from fastsim.deployment.launch.launch import Launch
from fastsim.errors import ConfigError
from fastsim.version import __version__

IMAGES = {"vllm": "vllm/vllm-openai:v0.19.0", "sglang": "lmsysorg/sglang:v0.5.10.post1"}
PORTS = {"vllm": 8000, "sglang": 30000}
START_S = 30 * 60  # a large model takes this long to load
NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")


def objects(launch: Launch, image: str | None = None) -> list[dict[str, Any]]:
    """A Deployment (apps/v1) and a Service (v1). Raises ConfigError for a replica that no single pod can hold."""
    resolved, node = launch.resolved, launch.resolved.node
    gpus = resolved.gpus_per_replica
    if gpus > node.num_devices:
        raise ConfigError(
            f"tensor_parallel_size x pipeline_parallel_size: {gpus} GPUs do not fit a pod, as {node.name} has "
            f"{node.num_devices} (valid: {node.num_devices} or fewer)"
        )
    name, port = name_of(resolved.deployment.model), PORTS[launch.engine]
    labels = {"app.kubernetes.io/name": name, "app.kubernetes.io/component": launch.engine}
    probe = {"httpGet": {"path": "/health", "port": "http"}, "periodSeconds": 10}
    container = {
        "name": launch.engine,
        "image": image or IMAGES[launch.engine],
        "command": list(launch.program),
        "args": [*launch.command[len(launch.program) :], "--host", "0.0.0.0", "--port", str(port)],
        "ports": [{"name": "http", "containerPort": port}],
        "env": [
            {
                "name": "HF_TOKEN",
                "valueFrom": {"secretKeyRef": {"name": "hugging-face", "key": "token", "optional": True}},
            }
        ],
        "resources": {"limits": {"nvidia.com/gpu": str(gpus)}, "requests": {"nvidia.com/gpu": str(gpus)}},
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


def name_of(model: str) -> str:
    """A DNS label (RFC 1123) of a model's name."""
    words = [part for part in model.lower().split("/") if part != "config.json"]
    name = re.sub(r"[^a-z0-9]+", "-", words[-1] if words else "").strip("-")[:63].strip("-")
    return name if NAME.fullmatch(name) else "model"


def manifest(launch: Launch, image: str | None = None) -> str:
    """The objects as YAML. Raises ConfigError as ``objects`` does."""
    import yaml

    notes = [
        *launch.notes,
        "a Service picks a pod for each connection at random, not each request",
        f"add a nodeSelector if the cluster has other GPUs than {launch.resolved.device.name}",
    ]

    class Plain(yaml.SafeDumper):
        """Repeats what is the same, for a reader, in place of anchors."""

        def ignore_aliases(self, data: Any) -> bool:
            return True

    comments = "".join(f"# {note}\n" for note in notes)
    return comments + yaml.dump_all(objects(launch, image), Dumper=Plain, sort_keys=False, width=100)

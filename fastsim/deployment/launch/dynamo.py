"""The Kubernetes object that starts a deployment in NVIDIA Dynamo: a DynamoGraphDeployment.

Fields and flags as in the examples of Dynamo 1.3 (examples/backends/*/deploy).
"""

from typing import Any

from fastsim.deployment.launch.kubernetes import as_yaml, check_pod, names_of
from fastsim.deployment.launch.launch import Launch
from fastsim.deployment.launch.pools import Commands, transfer

RELEASE = "1.3.0"
IMAGE = "nvcr.io/nvidia/ai-dynamo/{engine}-runtime:" + RELEASE
ROLES = {"mixed": "worker", "prefill": "prefill", "decode": "decode"}
SECRET = "hf-token-secret"


def graph(commands: Commands, image: str | None = None) -> dict[str, Any]:
    """The DynamoGraphDeployment (nvidia.com/v1beta1), as a plain dictionary: a front end, and a worker for each pool.

    ``image`` replaces Dynamo's own. Raises ConfigError for a replica that does not fit into one pod.
    """
    launches = commands.launches
    name, *workers = names_of(launches)
    runtime = image or IMAGE.format(engine=launches[0].engine)
    front = {
        "name": "Frontend",
        "type": "frontend",
        "replicas": 1,
        "podTemplate": {"spec": {"containers": [{"name": "main", "image": runtime}]}},
    }
    return {
        "apiVersion": "nvidia.com/v1beta1",
        "kind": "DynamoGraphDeployment",
        "metadata": {"name": name},
        "spec": {
            "components": [front, *(_worker(*each, runtime) for each in zip(launches, workers or [name], strict=True))]
        },
    }


def _worker(launch: Launch, name: str, image: str) -> dict[str, Any]:
    """A component of the graph: the replicas of a pool."""
    check_pod(launch)
    role = launch.pool.role if launch.pool else "mixed"
    model = launch.program[-1]
    container = {
        "name": "main",
        "image": image,
        "command": ["python3", "-m", f"dynamo.{launch.engine}"],
        "args": ["--model" if launch.engine == "vllm" else "--model-path", model, *_args(launch, role)],
        "env": [{"name": variable, "value": value} for variable, value in launch.environment.items()],
        "envFrom": [{"secretRef": {"name": SECRET}}],
        "resources": {"limits": {"nvidia.com/gpu": str(launch.resolved.gpus_per_replica)}},
    }
    return {
        "name": name,
        "type": ROLES[role],
        "replicas": launch.resolved.num_replicas,
        "podTemplate": {"spec": {"containers": [container]}},
    }


def _args(launch: Launch, role: str) -> list[str]:
    """The flags of a worker: those of its engine, and its role in Dynamo's words."""
    own = ("--kv-transfer-config", "--disaggregation-mode")
    flags = [flag for flag in launch.flags if flag[0] not in own]
    if role != "mixed":
        flags.append(("--disaggregation-mode", role))
        if launch.engine == "vllm":
            flags.append(transfer("kv_both"))
        else:
            flags += [("--disaggregation-bootstrap-port", "12345"), ("--host", "0.0.0.0")]
    return [word for flag in flags for word in flag if word is not None]


def manifest(commands: Commands, image: str | None = None) -> str:
    """The graph as YAML, after the notes. Raises ConfigError as ``graph`` does."""
    notes = [
        *commands.own_notes,
        f"needs the platform of Dynamo {RELEASE}, and the secret {SECRET}; its front end is the router",
    ]
    return as_yaml([graph(commands, image)], notes)

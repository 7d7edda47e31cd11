"""The container of vLLM or SGLang in a Kubernetes manifest, a Compose file or a chart's values."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastsim.deployment.commands.shell import Command, expanded, of_image, read
from fastsim.deployment.sglang import flags as sglang
from fastsim.deployment.vllm import flags as vllm
from fastsim.errors import ConfigError
from fastsim.files import yaml12
from fastsim.files.documents import Document, short

MAX_DOCUMENTS = 100
# Labels of nodes, and annotations, that name a GPU.
LABELS = (
    "fastsim/device",
    "nvidia.com/gpu.product",
    "amd.com/gpu.product-name",
    "cloud.google.com/gke-accelerator",
    "karpenter.k8s.aws/instance-gpu-name",
    "gpu.nvidia.com/class",
    "gpu.nvidia.com/model",
    "node.kubernetes.io/instance-type",
    "beta.kubernetes.io/instance-type",
)
# What a chart's values call flags, where the name is not the flag in camel case.
CHART = {"model_url": "model", "gpu_memory_util": "gpu_memory_utilization"}
COUNTS = ("replicas", "replicaCount", "minReplicas")


@dataclass(frozen=True, slots=True)
class Container:
    """A container that runs vLLM or SGLang: its command or its flags, and what surrounds it."""

    command: Command | None
    flags: Mapping[str, Any] = field(default_factory=dict)  # of a file with keys instead of a command
    engine: str = "vllm"  # or sglang
    num_replicas: int | None = None
    gpu: str = ""  # the product that a label names
    num_gpus: int | None = None  # that the container asks for


def containers(text: str, source: str) -> list[Container]:
    """The containers that run vLLM or SGLang in YAML or JSON, of one document or several. Raises ConfigError."""
    parts = re.split(r"(?m)^---(?=\s|$)", text)
    if len(parts) > MAX_DOCUMENTS:
        raise ConfigError(f"{source}: more than {MAX_DOCUMENTS} documents")
    found: list[Container] = []
    for part in parts:
        given = yaml12.parse(part, source)[0]
        if isinstance(given, list) and all(isinstance(word, str | int | float) for word in given):
            given = {"args": given}
        if given is not None:
            # The check of a document's size comes first, as nested aliases may repeat a part without end.
            found += _below(Document({"": given}, source).values[""], ())
    return found


def _below(node: Any, above: tuple[Mapping[str, Any], ...]) -> Iterator[Container]:
    """The containers at and below a node; ``above`` are the mappings around it, from the outside."""
    if isinstance(node, list):
        for item in node:
            yield from _below(item, above)
    if not isinstance(node, dict):
        return
    around = (*above, node)
    if container := _container(node, around):
        yield container
        return
    for value in node.values():
        yield from _below(value, around)


def _container(node: Mapping[str, Any], around: Sequence[Mapping[str, Any]]) -> Container | None:
    image = _image(node.get("image"))
    flat: dict[str, Any] = {}
    command = None
    if "modelURL" in node:  # a chart's values
        given = node.get("vllmConfig")
        settings = given if isinstance(given, dict) else {}
        extra = settings.get("extraArgs", [])
        image = image or _image(node)
        flat = {_snake(key): value for key, value in {**settings, "modelURL": node["modelURL"]}.items()}
        flat.pop("extra_args", None)
        command = Command(tuple(map(str, extra)) if isinstance(extra, list) else (), {}, image)
    elif words := [*_words(node.get("command")), *_words(node.get("args"))]:
        variables = _variables(node.get("env")) | _variables(node.get("environment"))
        words = [expanded(word, variables) for word in words]
        if isinstance(node.get("command"), str) and not image:
            command = read(" ".join(words), variables)
        by_chart = node.get("modelCommand") == "vllmServe"
        command = command or of_image("vllm" if by_chart else image or _flags_alone(words, node), words, variables)
        flat = _artifacts(around) if by_chart else {}
    elif len(around) == 1 and any(vllm.spelled(key) in ("model", "model_path", "tensor_parallel_size") for key in node):
        flat = dict(node)  # a file for `vllm serve --config`, or for SGLang's
    if command is None and not flat:
        return None
    engine = command.engine if command else engine_of_flags(flat)
    return Container(command, flat, engine, _replicas(node, around), _gpu(around), _num_gpus(node))


def engine_of_flags(names: Iterable[str]) -> str:
    """The engine that has most of some flags; vllm where both have as many, and "" where neither has one."""
    names = list(names)
    of_vllm = sum(vllm.spelled(name) in vllm.NAMES for name in names)
    of_sglang = sum(sglang.spelled(name) in sglang.NAMES for name in names)
    if not of_vllm and not of_sglang:
        return ""
    return "sglang" if of_sglang > of_vllm else "vllm"


def _artifacts(around: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The model and the parallelism that a chart's values give beside the container (llm-d's modelservice)."""
    found: dict[str, Any] = {}
    for mapping in around:
        artifacts, parallelism = mapping.get("modelArtifacts"), mapping.get("parallelism")
        if isinstance(artifacts, dict) and isinstance(artifacts.get("name"), str):
            found["model"] = artifacts["name"]
        if isinstance(parallelism, dict):
            found |= {f"{key}_parallel_size": parallelism[key] for key in ("tensor", "data") if key in parallelism}
    return found


def _words(given: Any) -> list[str]:
    """The words of a command or of arguments: a list, or text as Compose has it."""
    if isinstance(given, list):
        return [str(word) for word in given if isinstance(word, str | int | float)]
    if not isinstance(given, str):
        return []
    import shlex

    try:
        return shlex.split(given)
    except ValueError as problem:
        raise ConfigError(f"{short(given)} cannot be split into words: {str(problem).lower()}") from None


def _flags_alone(words: Sequence[str], node: Mapping[str, Any]) -> str:
    """The engine whose flags arguments without an image are, or ""."""
    if "image" in node:
        return ""
    return engine_of_flags(word.partition("=")[0] for word in words if word.startswith("--"))


def _image(given: Any) -> str:
    """The image of a container; a chart gives repository and tag apart."""
    if isinstance(given, dict):
        return f"{given.get('repository', '')}:{given.get('tag', '')}"
    return given if isinstance(given, str) else ""


def _variables(given: Any) -> dict[str, str]:
    """The environment of a container: a list of names and values, a list of NAME=VALUE, or a mapping."""
    if isinstance(given, dict):
        return {str(name): str(value) for name, value in given.items()}
    found: dict[str, str] = {}
    for item in given if isinstance(given, list) else ():
        if isinstance(item, dict) and isinstance(item.get("value"), str | int | float):
            found[str(item.get("name"))] = str(item["value"])
        elif isinstance(item, str) and "=" in item:
            name, _, found[name] = item.partition("=")
    return found


def _replicas(node: Mapping[str, Any], around: Sequence[Mapping[str, Any]]) -> int | None:
    for mapping in (node.get("deploy"), *reversed(around)):
        for key in COUNTS if isinstance(mapping, dict) else ():
            value = mapping.get(key)
            if isinstance(value, int) and not isinstance(value, bool) and value > 0:
                return value
    return None


def _gpu(around: Sequence[Mapping[str, Any]]) -> str:
    """The value of the first label or annotation that names a GPU, from the container outwards."""
    for mapping in reversed(around):
        labels: dict[str, str] = {}
        metadata = mapping.get("metadata")
        selectors = [mapping.get("nodeSelector"), metadata.get("annotations") if isinstance(metadata, dict) else None]
        for selector in selectors:
            labels |= {str(k): str(v) for k, v in selector.items()} if isinstance(selector, dict) else {}
        labels |= dict(_expressions([mapping.get("affinity"), mapping.get("nodeSelectorTerms")]))
        for label in LABELS:
            if label in labels:
                return labels[label]
    return ""


def _expressions(node: Any) -> Iterator[tuple[str, str]]:
    """The keys of expressions within an affinity, each with its first value."""
    if isinstance(node, list):
        for item in node:
            yield from _expressions(item)
    elif isinstance(node, dict):
        values = node.get("values")
        if isinstance(values, list) and values and node.get("operator") == "In":
            yield str(node.get("key")), str(values[0])
        for item in node.values():
            yield from _expressions(item)


def _num_gpus(node: Mapping[str, Any]) -> int | None:
    resources = node.get("resources")
    for part in ("limits", "requests"):
        given = resources.get(part) if isinstance(resources, dict) else None
        value = given.get("nvidia.com/gpu", given.get("amd.com/gpu")) if isinstance(given, dict) else None
        if isinstance(value, int | str) and str(value).isdecimal():
            return int(value)
    return None


def _snake(name: str) -> str:
    plain = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    return CHART.get(plain, plain)

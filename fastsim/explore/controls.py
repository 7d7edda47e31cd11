"""The controls of the page: what can be changed, with its choices, in groups."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import get_args

from fastsim.catalog.load import load_device, names
from fastsim.deployment.description import Deployment
from fastsim.deployment.engines import RELEASES as VLLM
from fastsim.deployment.sglang.releases import RELEASES as SGLANG
from fastsim.explore.question import MOST_REQUESTS, Question
from fastsim.files.schema import describe
from fastsim.workload.mixes import is_mix
from fastsim.workload.presets import presets

TOO_LONG = (("refuse", "are refused"), ("drop", "are dropped"), ("clip", "are clipped"))
MIX, FIXED = "mix of these", "fixed lengths"


@dataclass(frozen=True)
class Control:
    """A field of a question that can be changed.

    ``key`` is a dotted field of the deployment, or a field of Question. With ``ends`` a slider stands beside the box,
    whose steps are even factors where ``is_log``.
    """

    key: str
    label: str
    kind: str  # number | text | select | toggle
    choices: Sequence[tuple[str, str]] = ()  # values and what is shown; of text: suggestions
    ends: tuple[float, float] | None = None
    is_log: bool = False
    power: bool = False  # steps of the slider are powers of two
    least: float | None = None
    step: str = "1"
    unit: str = ""
    hint: str = ""
    engine: str = ""  # "vllm" or "sglang": shown with that engine alone


@dataclass(frozen=True)
class Group:
    """Controls under a heading."""

    title: str
    controls: Sequence[Control]


def controls(question: Question) -> list[Group]:
    """The groups of controls; what ``question`` has and no list holds is among the choices."""
    asked = question.settings
    return [
        Group(
            "Model and GPU",
            (
                Control("model", "Model", "text", [(name, "") for name in names("models")], hint=_hint("model")),
                Control("device", "GPU", "select", _with(_devices(), asked.get("device"))),
                Control("price", "Price of a GPU", "number", least=0, step="any", unit="· $ per hour"),
            ),
        ),
        Group(
            "Parallelism",
            (
                _count("tensor_parallel_size", "GPUs per layer (TP)"),
                _count("pipeline_parallel_size", "Pipeline stages (PP)"),
                Control("num_replicas", "Replicas", "number", ends=(1, 32), is_log=True, least=1),
                Control("enable_expert_parallel", "Expert parallelism", "toggle"),
            ),
        ),
        Group(
            "Engine and its limits",
            (
                Control("engine", "Engine", "select", _with(_engines(), asked.get("engine"))),
                _limit("scheduler.max_num_seqs", "Sequences in a batch", (1, 2048), "vllm"),
                _limit("scheduler.max_num_batched_tokens", "Tokens in a batch", (256, 65536), "vllm"),
                _limit("scheduler.max_running_requests", "Running requests", (1, 4096), "sglang"),
                _limit("scheduler.chunked_prefill_size", "Tokens of a chunk", (256, 65536), "sglang"),
                Control("max_model_len", "Tokens of a request", "number", least=1),
                Control(
                    "gpu_memory_utilization", "Share of memory used", "number", ends=(0.3, 1), step="0.01", least=0
                ),
                Control("scheduler.enable_prefix_caching", "Prefix caching", "toggle", engine="vllm"),
                Control("enforce_eager", "Eager mode", "toggle"),
            ),
        ),
        Group(
            "Precision",
            (
                Control("quantization", "Weights", "select", _precisions("quantization", "as published")),
                Control(
                    "kv_cache_dtype", "KV cache", "select", _precisions("kv_cache_dtype", "as the checkpoint says")
                ),
            ),
        ),
        Group(
            "Requests",
            (
                Control("workload", "Workload", "select", _workloads(question)),
                *(Control(f"mix.{name}", name, "number", ends=(0, 100), least=0, unit="%") for name in presets()),
                Control("input_len", "Prompt tokens", "number", ends=(1, 32768), is_log=True, least=1),
                Control("output_len", "Output tokens", "number", ends=(1, 8192), is_log=True, least=1),
                Control("too_long", "Requests beyond the longest", "select", TOO_LONG),
                Control("load", "Load", "select", [("rate", "requests per second"), ("users", "users who wait")]),
                Control("rate", "Requests/s", "number", ends=(0.1, 200), is_log=True, least=0, step="any"),
                Control("users", "Users", "number", ends=(1, 2000), is_log=True, least=1),
                Control(
                    "num_requests", "Requests simulated", "number", ends=(500, MOST_REQUESTS), is_log=True, least=1
                ),
            ),
        ),
        Group(
            "Objectives",
            (
                Control(
                    "objectives",
                    "Latencies to keep to",
                    "text",
                    hint="For example ttft:p90<500ms, tbt:p99<50ms. Empty: those that the verdict has by default.",
                ),
            ),
        ),
    ]


def _count(key: str, label: str) -> Control:
    return Control(key, label, "number", ends=(1, 16), is_log=True, power=True, least=1)


def _limit(key: str, label: str, ends: tuple[float, float], engine: str) -> Control:
    return Control(key, label, "number", ends=ends, is_log=True, power=True, least=1, engine=engine)


def _hint(field: str) -> str:
    text = describe(Deployment, (field,)).description or ""
    return f"{text[:1].upper()}{text[1:]}."


def _with(choices: Sequence[tuple[str, str]], value: object) -> list[tuple[str, str]]:
    """The choices, and the value that a question has beside them."""
    known = {choice for choice, _ in choices}
    return [*choices, *([(str(value), str(value))] if value is not None and value not in known else [])]


@cache
def _devices() -> tuple[tuple[str, str], ...]:
    """The GPUs whose operator times are known, with their prices, and then the others."""
    known: list[tuple[str, str]] = []
    others: list[tuple[str, str]] = []
    for name in names("devices"):
        device = load_device(name)
        price = "no price" if device.price_per_hour is None else f"${device.price_per_hour:.2f}/h"
        listed = known if device.predictor else others
        listed.append((name, f"{name} · {device.memory_gib:.0f} GiB · {price}"))
    return (*known, *others)


def _engines() -> list[tuple[str, str]]:
    newest = [*reversed([*VLLM]), *reversed([*SGLANG])]
    return [("", f"{newest[0]}, or as the policy"), *((name, name) for name in newest)]


def _precisions(field: str, default: str) -> list[tuple[str, str]]:
    """The values of a field, and before them its default."""
    annotation = Deployment.model_fields[field].annotation
    listed = [each for part in get_args(annotation) for each in (get_args(part) or (part,)) if isinstance(each, str)]
    shown = {"none": "16 bits"}
    return [("", default), *((each, shown.get(each, each)) for each in listed if each != "auto")]


def _workloads(question: Question) -> list[tuple[str, str]]:
    listed = [(name, name) for name in presets()]
    if question.workload and not is_mix(question.workload):
        listed = _with(listed, question.workload)
    return [*listed, (MIX, MIX), (FIXED, FIXED)]

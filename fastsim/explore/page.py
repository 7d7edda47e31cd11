"""The page itself: its HTML with the controls, its files, and what is shown beside the figures."""

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from fastsim.errors import ConfigError
from fastsim.explore.controls import FIXED, MIX, controls
from fastsim.explore.question import Question
from fastsim.report.headline import judged, words
from fastsim.report.headline import verdict as met_all
from fastsim.report.page.page import asset
from fastsim.report.page.palette import THEMES
from fastsim.report.runs import Run
from fastsim.report.words import seconds
from fastsim.result.result import Result
from fastsim.version import __version__

HERE = Path(__file__).parent / "assets"
SETTINGS = (  # of the deployment, whose defaults the page shows
    *("tensor_parallel_size", "pipeline_parallel_size", "num_replicas", "enable_expert_parallel", "engine"),
    *("max_model_len", "gpu_memory_utilization", "enforce_eager", "quantization", "kv_cache_dtype"),
    *("scheduler.max_num_seqs", "scheduler.max_num_batched_tokens", "scheduler.enable_prefix_caching"),
    *("scheduler.max_running_requests", "scheduler.chunked_prefill_size"),
)
GPUS = ("h100", "h200", "b200", "gb200", "a100", "l40s", "a10g", "rtx_4090")
SIZES = (1, 2, 4, 8)
COST = "cost.dollars_per_million_output_tokens"


def html(question: Question, problem: str = "") -> str:
    """The page about a question; ``problem``: what is wrong with the link that opened it."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    start = {"question": question.as_dict(), "problem": problem, "mix": MIX, "fixed": FIXED}
    return environment.get_template("explore.html").render(
        groups=controls(question), start=start, themes=THEMES, version=__version__
    )


@cache
def file(name: str) -> str:
    """The text of a file that the page loads: its style, its script, or BokehJS."""
    match name:
        case "explore.css":
            return asset("page.css") + (HERE / name).read_text(encoding="utf-8")
        case "explore.js":
            themes = f"const THEMES = {json.dumps(THEMES)};\n"
            return themes + asset("theme.js") + (HERE / name).read_text(encoding="utf-8")
        case "bokeh.js":
            from bokeh.resources import Resources

            return "\n".join(Resources(mode="inline", components=["bokeh"], minified=True).js_raw)
    raise ConfigError(f"{name}: no such file")


def defaults(result: Result) -> dict[str, Any]:
    """The values that the engine and the model give settings, by dotted name; and which engine it is."""
    deployment = result.config["deployment"]
    found: dict[str, Any] = {}
    for name in SETTINGS:
        value: Any = deployment
        for part in name.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        found[name] = value
    kind = "sglang" if deployment["scheduler"].get("policy") == "sglang" else "vllm"
    price = result.config["price"]
    return {
        "settings": found,
        "engine": kind,
        "device": deployment["device"],
        "rate": result.config["workload"].get("rate"),
        "price": price and price["dollars"],
    }


def verdict(run: Run) -> dict[str, Any]:
    """Whether the objectives are met, and the figures that say most, in a line."""
    outcomes = judged(run)
    met = met_all(outcomes)
    lost = ", ".join(words(outcome) for outcome in outcomes if outcome.met is False)
    text = {True: "Meets its objectives", False: f"Misses {lost}", None: "Not judged"}[met]
    figures = [
        f"{words(one)} {seconds(one.value)} of {seconds(one.limit)}" for one in outcomes if one.value is not None
    ]
    if (dollars := run.figures.get(COST)) is not None:
        figures.append(f"${dollars:,.2f} per million output tokens")
    return {"met": met, "text": text, "figures": ", ".join(figures)}


def subject(result: Result) -> str:
    """What was simulated, in a line."""
    deployment, gpus = result.config["deployment"], result.summary["cost"]["gpus"]
    engine = deployment.get("engine") or deployment["scheduler"]["policy"]
    number = f"{result.summary['totals']['requests']:,}"
    return f"{deployment['model']} on {gpus} x {deployment['device']}, {engine}, {number} requests"


def copies(question: Question) -> dict[str, str]:
    """The question in the forms in which it can be copied; of the link, what follows the address of the page."""
    return {"yaml": question.yaml(), "command": question.command(), "link": question.query()}


def next_settings(question: Question) -> Sequence[tuple[str, Sequence[Any]]]:
    """Settings that change operator times, with the values that may be asked for next."""
    return (
        ("tensor_parallel_size", SIZES),
        ("device", GPUS),
        ("quantization", ("fp8", "none", None)),
        ("kv_cache_dtype", ("fp8", "bfloat16")),
        ("pipeline_parallel_size", (1, 2)),
        ("scheduler.max_num_batched_tokens", (1024, 2048, 4096, 8192, 16384)),
        ("scheduler.max_num_seqs", (32, 64, 128, 256, 512, 1024)),
    )

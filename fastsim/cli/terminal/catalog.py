"""Print the entries of the catalog, or all metrics, as a table or as JSON."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from fastsim.catalog import prices
from fastsim.catalog.hardware import Device
from fastsim.catalog.load import checkpoints, load_device, load_model, load_node, names
from fastsim.cli.terminal.console import MISSING, print_json, stdout, table
from fastsim.cli.terminal.model import shapes
from fastsim.deployment import engine_times
from fastsim.deployment.engine_words import differences
from fastsim.deployment.engines import RELEASES, Release
from fastsim.deployment.schedulers import POLICIES
from fastsim.deployment.sglang import releases as sglang_releases
from fastsim.deployment.sglang import words as sglang_words
from fastsim.files import DATA
from fastsim.result.metrics.definitions import METRICS

ROUTERS = {
    "round_robin": "the replicas take turns",
    "random": "a replica drawn uniformly, from the seed",
    "least_outstanding": "the replica with the fewest unfinished requests",
    "least_waiting": "the replica with the shortest queue (Vidur's LOR)",
    "least_kv": "the replica with the smallest share of its KV blocks in use",
    "prefix_aware": "the replica that has cached most of the prompt, unless that is little or loads differ much "
    "(SGLang's cache_aware, with the blocks that replicas hold)",
    "weighted": "the highest sum of scores: cached prefix, free KV blocks, short queue (llm-d)",
    "session": "the same replica for all requests of a session, by consistent hashing (vLLM's production stack)",
    "pinned": "the replica in column replica_id of the workload",
}
PREDICTORS = DATA / "predictors"


def rows(kind: str) -> list[dict[str, Any]]:
    """Return one mapping per entry of a kind, which is one of those of ``fastsim catalog``."""
    if kind == "models":
        return [shapes(load_model(name)) for name in names("models")]
    if kind == "checkpoints":
        return [_quantised(name) for name in checkpoints()]
    if kind == "devices":
        return [_device(name) for name in names("devices")]
    if kind == "nodes":
        return [asdict(load_node(name)) for name in names("nodes")]
    if kind == "engines":
        return [*map(_engine, RELEASES.values()), *map(_sglang, sglang_releases.RELEASES.values())]
    if kind == "prices":
        return [{"device": name, **asdict(price)} for name, offers in prices.listed().items() for price in offers]
    if kind == "predictors":
        return [_card(path) for path in sorted(PREDICTORS.glob("*/*.json"))]
    if kind == "metrics":
        return [metric._asdict() for metric in METRICS]
    described = {policy.name: policy.meaning for policy in POLICIES.values()} if kind == "policies" else ROUTERS
    return [{"name": name, "meaning": meaning} for name, meaning in described.items()]


# The columns that fit on a terminal; JSON has all of them.
SHOWN = {
    "models": (
        "name",
        "num_layers",
        "hidden_size",
        "num_attention_heads",
        "num_key_value_heads",
        "head_dim",
        "num_experts",
        "quantization",
    ),
    "devices": ("name", "memory_gib", "bandwidth_gb_s", "tflops", "price_per_hour", "times"),
    "engines": ("name", "rules", "host", "sampler", "front_end", "differs"),
    "metrics": ("name", "unit", "kind", "meaning"),
    "prices": ("device", "dollars", "kind", "cloud", "date", "source"),
    "nodes": ("name", "device", "num_devices", "link_gb_s", "network_gb_s", "pairwise"),
    "predictors": ("name", "precision", "rows", "error_near", "error_far", "in_interval", "measured_in"),
}


def show(kind: str, as_json: bool) -> None:
    """Print the entries of a kind, which is one of those of ``fastsim catalog``."""
    listed = rows(kind)
    if as_json:
        print_json(listed)
        return
    columns = SHOWN.get(kind) or tuple(listed[0])
    heads = [column.replace("_", " ") for column in columns]
    entries = table(heads, left=heads)
    for row in listed:
        entries.add_row(*(_cell(row[column]) for column in columns))
    stdout().print(entries)


def _engine(release: Release) -> dict[str, Any]:
    """The fields of a release, whose rules it takes, and what it does otherwise than another."""
    rules = "certified" if release.certified else f"of {release.certified_as}"
    return {
        **asdict(release),
        "rules": rules,
        "differs": "; ".join(differences(release)),
        **_times_of(release.name, release.async_default),
    }


def _sglang(release: sglang_releases.Release) -> dict[str, Any]:
    """The same of a release of SGLang, each of which has been recorded itself."""
    words = "; ".join(sglang_words.differences(release))
    return {**asdict(release), "rules": "certified", "differs": words, **_times_of(release.name, True)}


def _times_of(release: str, is_async: bool) -> dict[str, Any]:
    """What a release takes beside its GPUs, and that in words; ``is_async``: as it schedules by default."""
    times = engine_times.of(release)
    in_words = {
        "host": _host(times.host(is_async)),
        "sampler": _sampler(times),
        "front_end": f"{times.front_end_ms:g} ms",
    }
    return {"times": asdict(times), **in_words}


def _host(times: engine_times.HostTimes) -> str:
    """The host time of a step in words: what the GPUs wait for, and what is hidden behind them."""
    waits = _line(times.host_ms_per_step, times.host_ms_per_sequence)
    hidden = _line(times.hidden_ms_per_step, times.hidden_ms_per_sequence)
    return "; ".join(part for part in (waits, hidden and f"hidden: {hidden}") if part)


def _line(per_step: float, per_sequence: float) -> str:
    parts = [f"{per_step:g} ms"] * bool(per_step) + [f"{per_sequence:g} ms a request"] * bool(per_sequence)
    return " + ".join(parts)


def _sampler(times: engine_times.EngineTimes) -> str:
    """What top-k or top-p take in words."""
    return f"{times.sampler_ms:g} ms + {times.sampler_us_per_sequence:g} us a request"


def _quantised(name: str) -> dict[str, Any]:
    """The precisions of a quantised checkpoint."""
    model = load_model(name)
    quantization = model.quantization.name if model.quantization else None
    return {"name": name, "quantization": quantization, "kv_cache_dtype": model.kv_cache_dtype, "source": model.source}


def _device(name: str) -> dict[str, Any]:
    """The fields of a device, and whether its operator times are measured or scaled from another's."""
    device = load_device(name)
    return {**asdict(replace(device, tflops={})), "tflops": dict(device.tflops), "times": _times(device)}


def _times(device: Device) -> str:
    """``measured``, ``scaled from a100``, or both where some families of operators were measured."""
    from fastsim.predictors.families import FAMILIES
    from fastsim.predictors.forests.forest import precisions
    from fastsim.predictors.times.origin import origin_of

    origin = origin_of(device)
    if origin.kinship == "own":
        return "measured"
    own = [family for family in FAMILIES if device.predictor and precisions(device.predictor, family)]
    measured = f"{', '.join(own)} measured, others " if own else ""
    return f"{measured}scaled from {origin.device}"


def _card(path: Path) -> dict[str, Any]:
    """The fields of a model card; a family without a forest lacks some of them.

    ``error_near`` is the error on new combinations of known sizes in %, ``error_far`` the error on new sizes.
    """
    card = json.loads(path.read_text())
    source, errors = card.get("source", {}), card.get("error_percent", {})
    unseen = [error for split, error in errors.items() if split.startswith("unseen")]
    return {
        "name": f"{path.parent.name}/{path.stem}",
        "family": card.get("family", path.stem),
        "precision": card.get("precision"),
        "rows": card.get("rows"),
        "error_near": unseen[0] if unseen else None,
        "error_far": unseen[-1] if unseen else None,
        "in_interval": card.get("coverage_percent", {}).get("all"),
        "measured_in": ", ".join(source.get("frameworks", ())) or None,
        "error_percent": errors,
        "coverage_percent": card.get("coverage_percent"),
        "hull": card.get("hull"),
        "source": source,
        "date": card.get("date"),
    }


def _cell(value: Any) -> str:
    """A field of an entry as text."""
    if isinstance(value, dict):
        return ", ".join(
            f"{key} {part:g}" if isinstance(part, float) else f"{key} {part}" for key, part in value.items()
        )
    return MISSING if value is None else str(value)

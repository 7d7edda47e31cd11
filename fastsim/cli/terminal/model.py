"""Print what was understood of a model: its modules with their precision and bytes, and its KV cache."""

from dataclasses import asdict, replace
from itertools import pairwise
from typing import Any

from fastsim.catalog.load import load_model
from fastsim.catalog.model import Model
from fastsim.cli.terminal.console import MISSING, note, number, print_json, stdout, table
from fastsim.deployment.memory.modules import modules
from fastsim.deployment.operators.decoder import operators
from fastsim.deployment.operators.parameters import parameters

GIB = 2**30


def described(name: str) -> dict[str, Any]:
    """A model of the catalog or of a config.json as JSON: its shapes, its modules, and the sums over them."""
    model = load_model(name)
    found = modules(model)
    cache = model.kv_cache_dtype or "bf16"
    ops, counted = operators(model, 1, kv_precision=cache), parameters(model)
    return {
        "model": shapes(model),
        "modules": [asdict(module) for module in found],
        "parameters": counted.total,
        "active_parameters": counted.active,
        "bytes": round(sum(module.bytes for module in found)),
        "kv_cache_dtype": cache,
        "kv_bytes_per_token": None if model.compressed_kv or not model.generates else ops.kv_bytes_per_token(),
        "state_bytes_per_sequence": ops.state_bytes_per_sequence(),
    }


def shapes(model: Model) -> dict[str, Any]:
    """The fields of a model as JSON: each kind of layer once, with the layers that are of this kind as text."""
    fields = asdict(replace(model, layers=()))
    fields["layers"] = [{"layers": ranges(layers), **asdict(kind)} for kind, layers in model.layer_kinds()]
    return {**fields, "quantization": model.quantization.name if model.quantization else None}


def show(name: str, as_json: bool) -> None:
    """Print a model's modules with their precision, layers, parameters and bytes, as a table or as JSON."""
    known = described(name)
    if as_json:
        print_json(known)
        return
    model, console = known["model"], stdout()
    heads = ("module", "precision", "bits", "input bits", "layers", "which layers", "10^6 parameters", "GiB")
    entries = table(heads, left=("module", "precision", "which layers"))
    for module in known["modules"]:
        layers = module["layers"]
        which = "all" if len(layers) == model["num_layers"] else ranges(layers)
        count = str(len(layers)) if layers else MISSING
        sizes = (number(module["parameters"] / 1e6), f"{module['bytes'] / GIB:.3f}")
        bits = (f"{module['weight_bits']:.4g}", str(module["input_bits"]))
        entries.add_row(module["name"], module["precision"], *bits, count, which, *sizes)
    console.print(f"{model['name']} ({model['source']})\n")
    console.print(entries)
    for said in model["notes"]:
        note(said)
    if model["refused"]:
        note(f"its times cannot be predicted, as it {model['refused']}")
    console.print(f"\n{_sums(known)}")
    for kind in model["layers"]:
        word = "Layer" if kind["layers"].isdecimal() else "Layers"
        console.print(f"{word} {kind['layers']}: {_consists(kind, model)}")


def _consists(kind: dict[str, Any], model: dict[str, Any]) -> str:
    """What a kind of layer consists of, in words: what mixes its tokens, and what follows."""
    window, linear = kind["window"], model["linear"]
    parts = []
    if kind["mixer"] == "attention":
        heads = kind["heads"] or {"query": model["num_attention_heads"], "kv": model["num_key_value_heads"]}
        over = "full attention" if window is None else f"attention over {window:,} tokens"
        shared = "a latent KV cache" if model["kv_lora_rank"] else f"{heads['kv']} KV heads"
        parts.append(f"{over} with {heads['query']} heads and {shared}")
    if linear and (kind["mixer"] == "linear" or kind["linear_beside"]):
        parts.append(linear["kind"])
    if kind["mlp"] == "experts":
        parts.append(f"{model['num_experts']} experts, {model['num_experts_per_tok']} for a token")
    elif kind["mlp"] == "dense":
        parts.append(f"an MLP of width {kind['intermediate_size'] or model['intermediate_size']:,}")
    return "; ".join(parts) or "nothing"


def _sums(known: dict[str, Any]) -> str:
    """The sums over a model's modules, and what its tokens and sequences take, as a sentence."""
    billions = f"{number(known['parameters'] / 1e9)} billion parameters, {known['bytes'] / GIB:.2f} GiB"
    if known["active_parameters"] != known["parameters"]:
        billions += f" ({number(known['active_parameters'] / 1e9)} billion active)"
    each, state = known["kv_bytes_per_token"], known["state_bytes_per_sequence"]
    cache = f"KV cache in {known['kv_cache_dtype']}, {each:,} bytes a token" if each is not None else ""
    kept = f"{state:,} bytes of state a sequence" if state else ""
    unknown = "KV cache of unknown size" if known["model"]["generates"] else "no KV cache"
    return "; ".join(part for part in (billions, cache or unknown, kept) if part)


def ranges(layers: tuple[int, ...]) -> str:
    """Layers as text: 0, 3-60; empty for none."""
    starts = [layer for before, layer in pairwise((-2, *layers)) if layer != before + 1]
    ends = [layer for layer, after in pairwise((*layers, -2)) if after != layer + 1]
    return ", ".join(
        f"{first}" if first == last else f"{first}-{last}" for first, last in zip(starts, ends, strict=True)
    )

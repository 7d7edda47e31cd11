"""Reads the precision of each module of a checkpoint, and of its KV cache, from its Hugging Face files."""

import re
from functools import lru_cache
from pathlib import Path
from typing import Any

from fastsim.catalog.config_fields import read
from fastsim.catalog.module_names import MODULES, Names
from fastsim.catalog.precisions import BF16, Precision
from fastsim.catalog.quantization import WIDE, Quantization, tabulated
from fastsim.catalog.quantization_fields import ModelOptFile
from fastsim.catalog.quantization_fields import Quantization as Fields
from fastsim.catalog.scheme import Scheme, UnknownSchemeError
from fastsim.catalog.schemes import KNOWN, kv_precision, scheme
from fastsim.errors import CatalogError
from fastsim.files.documents import short

# Files beside config.json that say how a checkpoint is quantised, and the method that writes each.
BESIDE = {"hf_quant_config.json": "modelopt", "quantize_config.json": "gptq", "quant_config.json": "awq"}
MAX_LAYERS = 4096  # that are told apart; all deeper ones are like the last of them


def checkpoint(
    file: Path, config: dict[str, Any], num_layers: int, has_experts: bool
) -> tuple[Quantization | None, str | None]:
    """Return the precision of every module, None where all have 16 bits; and fp8 or None for the KV cache.

    They are read from ``quantization_config`` of ``config``, whose fields have been validated, or from a file beside it
    in which tools write it. Raises CatalogError for a scheme that is not known.
    """
    field = "quantization_config" if config.get("quantization_config") else "compression_config"
    given, place = config.get(field), f"{field}."
    if (not given or _says_nothing(given)) and (beside := _beside(file)):
        file, place, given = beside
    if not given:
        return None, None
    try:
        said = scheme(given, str(config.get("expert_dtype") or ""))
    except UnknownSchemeError as unknown:
        method = given.get("quant_method") or ""
        shown = str(unknown) if str(unknown).startswith(method) else f"{method} {unknown}"
        raise CatalogError(
            f"{file}: {place}quant_method: {short(shown)} is not a scheme that is known (known: {KNOWN}); "
            "remove it, and set the deployment's quantization instead"
        ) from None
    try:
        found = by_module(said, num_layers, has_experts, str(config.get("model_type") or ""))
    except re.error as problem:
        raise CatalogError(
            f"{file}: {place.rstrip('.')}: a module's pattern is no regular expression ({problem})"
        ) from None
    return found, kv_precision(given)


def _says_nothing(given: dict[str, Any]) -> bool:
    """Whether several precisions are mixed, and those of the modules stand in the file beside config.json."""
    mixed = str(given.get("quant_algo")).upper() == "MIXED_PRECISION"
    return mixed and not (given.get("quantized_layers") or given.get("config_groups"))


def _beside(file: Path) -> tuple[Path, str, dict[str, Any]] | None:
    """What a file beside config.json says of the quantization, and where in it (with a dot); None if there is none."""
    for name, method in BESIDE.items():
        beside = file.with_name(name)
        if not beside.exists():
            continue
        if method == "modelopt":
            return beside, "quantization.", {"quant_method": method, **read(beside, ModelOptFile)["quantization"]}
        return beside, "", {"quant_method": method, **read(beside, Fields)}
    return None


@lru_cache(maxsize=64)  # a sweep reads the same file for every configuration
def by_module(said: Scheme, num_layers: int, has_experts: bool, family: str = "") -> Quantization | None:
    """The precision of every module in every layer of a model_type; None where all have 16 bits.

    Of several entries that name the matrices of one module the widest counts, since engines multiply by all of them
    at once; a module of which a matrix is left out stays in 16 bits.
    """
    excluded = Names(((entry, BF16) for entry in said.excluded), family)
    named = Names(said.named, family)

    def of(module: str, layer: int) -> Precision:
        if module in WIDE and module != "lm_head":
            return BF16
        if excluded.of(module, layer):
            return BF16
        if found := named.of(module, layer):
            return max(found, key=lambda one: one.bits)
        return BF16 if module in WIDE else said.default

    return tabulated(MODULES, min(num_layers, MAX_LAYERS), of, "moe_experts" if has_experts else "mlp_up_proj")

"""Reads a checkpoint's quantization_config, by the method that wrote it."""

from collections.abc import Callable, Mapping

from fastsim.catalog.precisions import precision
from fastsim.catalog.scheme import Given, Scheme, UnknownSchemeError
from fastsim.catalog.tensor_schemes import compressed_tensors, modelopt, quark
from fastsim.catalog.weight_schemes import (
    EXPERTS_IN_FP4,
    auto_round,
    awq,
    bitsandbytes,
    fp8,
    fp_quant,
    gptq,
    hqq,
    mxfp4,
    torchao,
)

EXCLUDED = (
    *("modules_to_not_convert", "ignored_layers", "ignore", "exclude_modules", "exclude"),
    "exclude_layers",
    *("llm_int8_skip_modules", "skip_modules"),
)


METHODS: Mapping[str, Callable[[Given], Scheme]] = {
    "fp8": fp8,
    "fbgemm-fp8": lambda given: Scheme(precision("fp8")),
    "compressed-tensors": compressed_tensors,
    "modelopt": modelopt,
    "mxfp4": mxfp4,
    "mxfp8": lambda given: Scheme(precision("mxfp8")),
    "w8a8-fp8": lambda given: Scheme(precision("fp8")),
    "w8a8-int8": lambda given: Scheme(precision("int8")),
    "awq": awq,
    "awq-marlin": awq,
    "gptq": gptq,
    "gptq-marlin": gptq,
    "auto-round": auto_round,
    "autoround": auto_round,
    "intel/auto-round": auto_round,
    "hqq": hqq,
    "bitsandbytes": bitsandbytes,
    "torchao": torchao,
    "quark": quark,
    "fp-quant": fp_quant,
}
KNOWN = "fp8, fbgemm_fp8, compressed-tensors, modelopt, mxfp4, awq, gptq, auto-round, hqq, bitsandbytes, torchao, quark"
KNOWN += ", fp_quant"


def scheme(given: Given, expert_dtype: str = "") -> Scheme:
    """What a quantization_config says, whose fields have been validated. Raises UnknownSchemeError.

    ``expert_dtype``: that of the routed experts, where config.json says it beside a quantization_config of fp8.
    """
    inner = given.get("quantization")
    given = {**inner, **given} if isinstance(inner, dict) else given
    method = (given.get("quant_method") or "").lower().replace("_", "-")
    if (not method and "quant_algo" in given) or method.startswith("modelopt"):
        method = "modelopt"
    if not method and (given.get("load_in_4bit") or given.get("load_in_8bit")):
        method = "bitsandbytes"
    read = METHODS.get(method)
    if read is None:
        raise UnknownSchemeError(method or "a quantization without quant_method")
    found = read(given)
    if method == "fp8" and (given.get("quantized_layers") or expert_dtype == "fp4"):
        # Experts alone are in fewer bits; the lists say what else was left as it was, which is fp8.
        return Scheme(found.default, modelopt(given).named or EXPERTS_IN_FP4)
    lists = [given.get(name) or () for name in EXCLUDED]
    return Scheme(found.default, found.named, (*found.excluded, *(entry for one in lists for entry in one)))


def kv_precision(given: Given) -> str | None:
    """The precision of the KV cache that a checkpoint was calibrated for; None: that of the activations.

    Engines take it where they are told nothing else (vLLM's kv_cache_dtype auto, from release 0.14 on).
    """
    inner = given.get("quantization")
    given = {**inner, **given} if isinstance(inner, dict) else given
    if (given.get("kv_cache_quant_algo") or "").upper() in ("FP8", "FP8_E4M3"):
        return "fp8"
    cache = given.get("kv_cache_scheme")
    floats = isinstance(cache, dict) and cache.get("num_bits") == 8 and cache.get("type", "float") == "float"
    return "fp8" if floats else None

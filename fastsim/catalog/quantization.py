"""Reads the precision of the weights of a checkpoint from its Hugging Face files."""

from pathlib import Path
from typing import Any

from fastsim.catalog.config_fields import ModelOptFile, read
from fastsim.errors import CatalogError
from fastsim.files.documents import short

KNOWN = "fp8, compressed-tensors, awq, gptq, modelopt"


def quantisation(file: Path, config: dict[str, Any]) -> str | None:
    """Return fp8, fp8_block, int8_wo, int4_wo or nvfp4; None for 16 bits.

    It is read from ``quantization_config`` of ``config``, whose fields have been validated, or from
    hf_quant_config.json in the same folder. Raises CatalogError for a scheme that cannot be simulated.
    """
    beside = file.with_name("hf_quant_config.json")
    place, given = "quantization_config", config.get("quantization_config")
    if not given and beside.exists():
        written = read(beside, ModelOptFile)["quantization"]
        file, place, given = beside, "quantization", {"quant_method": "modelopt", **written}
    if not given:
        return None
    found = _scheme(given)
    if found is None:
        method = given.get("quant_method")
        said = given.get("quant_algo", given.get("bits", ""))
        shown = f"{method} {said}".strip()
        raise CatalogError(
            f"{file}: {place}.quant_method: {short(shown)} is not a scheme that can be simulated (known: {KNOWN}); "
            "remove it, and set the deployment's quantization instead"
        )
    return found


def _scheme(given: dict[str, Any]) -> str | None:
    method = (given.get("quant_method") or "").lower()
    if method == "fp8" or method == "fbgemm_fp8":
        return "fp8_block" if given.get("weight_block_size") else "fp8"
    if method == "modelopt" or "quant_algo" in given:
        algorithm = (given.get("quant_algo") or "").upper()
        return {"FP8": "fp8", "NVFP4": "nvfp4", "FP8_PB_WO": "fp8_block"}.get(algorithm)
    if method in ("awq", "gptq"):
        return {4: "int4_wo", 8: "int8_wo"}.get(given.get("bits", given.get("w_bit", 4)))
    if method == "compressed-tensors":
        groups = given.get("config_groups")
        first: dict[str, Any] = next(iter((groups or {}).values()), {})
        weights, inputs = first.get("weights") or {}, first.get("input_activations")
        bits, floats = weights.get("num_bits"), weights.get("type") == "float"
        if bits == 8 and floats:
            return "fp8_block" if weights.get("strategy") == "block" else "fp8"
        if bits == 4 and floats:
            return "nvfp4"
        return {4: "int4_wo", 8: "int8_wo"}.get(bits or 0) if inputs is None else None
    return None

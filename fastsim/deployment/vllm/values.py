"""The values of vLLM's flags as fastsim writes them."""

import json
import re
from typing import Any

from fastsim.catalog.load import load_model
from fastsim.catalog.model import Model
from fastsim.catalog.sampling import is_top_k_top_p
from fastsim.errors import ConfigError, InputError
from fastsim.files.documents import short

DTYPES = {"auto": "bfloat16", "half": "float16", "fp16": "float16", "bf16": "bfloat16"}
KV_CACHE_DTYPES = {
    "fp8_e4m3": "fp8",
    "fp8_e5m2": "fp8",
    "fp8_inc": "fp8",
    "fp8_ds_mla": "fp8",
    "float16": "bfloat16",  # both have 16 bits
    "half": "bfloat16",
}
ALL_TO_ALL = {
    "naive": "allgather_reducescatter",
    "deepep_high_throughput": "deepep",
    "deepep_low_latency": "deepep",
}
# Of vLLM's methods that fit a checkpoint, the precision that one with 16-bit weights is planned in; None: any.
METHODS: dict[str, str | None] = {
    "awq": "int4_wo",
    "awq_marlin": "int4_wo",
    "gptq": "int4_wo",
    "gptq_marlin": "int4_wo",
    "gptq_marlin_24": "int4_wo",
    "gptq_bitblas": "int4_wo",
    "marlin": "int4_wo",
    "moe_wna16": "int4_wo",
    "bitsandbytes": "nf4",
    "experts_int8": "int8_wo",
    "tpu_int8": "int8_wo",
    "fbgemm_fp8": "fp8",
    "ptpc_fp8": "fp8",
    "modelopt_fp4": "nvfp4",
    "petit_nvfp4": "nvfp4_wo",
    "gpt_oss_mxfp4": "mxfp4",
    "modelopt": None,
    "modelopt_mxfp8": "mxfp8",
    "modelopt_mixed": None,
    "compressed_tensors": None,
    "quark": None,
    "torchao": None,
    "inc": None,
    "auto_round": None,
    "hqq": "int4_wo",
    "gguf": None,
}
TENTHS = re.compile(r"(\d+)(?:\.(\d+))?([kmgt])")  # thousands, and so on
BINARY = re.compile(r"(\d+)([KMGT])")  # 1,024, and so on


def whole(value: Any) -> Any:
    """A whole number as vLLM reads it: 32k is 32,000 and 32K is 32,768; any other value stays as it is."""
    if not isinstance(value, str) or len(value) > 20:
        return value
    text = value.strip()
    if decimal := TENTHS.fullmatch(text):
        digits, rest, suffix = decimal.groups()
        zeros = 3 * ("kmgt".index(suffix) + 1)
        return int(digits + (rest or "").ljust(zeros, "0")[:zeros])
    if binary := BINARY.fullmatch(text):
        return int(binary[1]) * 1024 ** ("KMGT".index(binary[2]) + 1)
    return value


def dtype(value: Any) -> Any:
    """The type of activations. Raises ConfigError for 32 bits."""
    if value in ("float", "float32"):
        raise ConfigError(f"{short(value)}: 32-bit activations are not simulated (valid: bfloat16, float16)")
    return DTYPES.get(value, value) if isinstance(value, str) else value


def max_model_len(value: Any) -> Any:
    """The most tokens of a request; None where vLLM finds them (``auto``, -1)."""
    return None if value in ("auto", -1, "-1") else whole(value)


def quantization(value: Any, model: Any) -> Any:
    """The precision of the weights: None (as published) for a method that fits the checkpoint.

    Raises ConfigError for a method that says no precision, of a model whose weights are published in 16 bits.
    """
    method = value.lower().replace("-", "_") if isinstance(value, str) else None
    if method is None or method not in METHODS:
        return value
    entry = model_of(model)
    if entry is not None and entry.quantization is not None:
        return None
    if METHODS[method] is None:
        raise ConfigError(
            f"{short(value)} is the precision of a checkpoint, and {short(model)} is published in 16 bits; name the "
            "config.json of the checkpoint as the model, or a precision (e.g. fp8)"
        )
    return METHODS[method]


def data_parallel_size(value: Any, model: Any) -> dict[str, Any]:
    """The ranks of a replica that share experts and step together; the number of replicas of a model without them."""
    size, entry = whole(value), model_of(model)
    dense = isinstance(size, int) and size > 1 and entry is not None and not entry.num_experts
    return {"num_replicas" if dense else "data_parallel_size": size}


def balancer(value: Any) -> Any:
    """How requests come to ranks, by whether a balancer outside of vLLM sends them."""
    if isinstance(value, bool):
        return "external" if value else "internal"
    return value


def model_of(name: Any) -> Model | None:
    """The model of a deployment, or None if it cannot be loaded, which is reported where it is needed."""
    try:
        return load_model(name) if isinstance(name, str) else None
    except InputError:
        return None


def sampling(override: Any) -> str | None:
    """How tokens are drawn with vLLM's override_generation_config, a mapping or JSON; None: as the model asks."""
    fields = mapping(override)
    if override is not None and fields is None:
        raise ConfigError(f"{short(override)} is no JSON object (e.g. {{temperature: 0}})")
    if not fields:
        return None
    if fields.get("temperature") == 0:
        return "greedy"
    return "top_k_top_p" if is_top_k_top_p(fields) else None


def redundant_experts(config: Any) -> Any:
    """Copies of experts of vLLM's eplb_config, a mapping or JSON; None: none are given."""
    fields = mapping(config)
    if config is not None and fields is None:
        raise ConfigError(f"{short(config)} is no JSON object (e.g. {{num_redundant_experts: 32}})")
    return None if fields is None else fields.get("num_redundant_experts")


def mapping(value: Any) -> dict[str, Any] | None:
    """A mapping, or the JSON of one; None for anything else."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return None
    return value if isinstance(value, dict) else None

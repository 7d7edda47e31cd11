"""The values of SGLang's flags as fastsim writes them."""

import re
from typing import Any

from fastsim.deployment.vllm import values
from fastsim.errors import ConfigError
from fastsim.files.documents import short

KV_CACHE_DTYPES = values.KV_CACHE_DTYPES | {"bf16": "bfloat16"}
ROUTERS = {"cache_aware": "prefix_aware"}
BALANCED = {"auto": None, "round_robin": None, "total_requests": "least_outstanding"}
# Of SGLang's methods that vLLM does not have, the precision that a checkpoint with 16-bit weights is planned in.
METHODS: dict[str, str] = {
    "w8a8_int8": "int8",
    "w8a8_fp8": "fp8",
    "w4afp8": "int4_fp8",
    "quark_int4fp8_moe": "int4_fp8",
    "modelopt_fp8": "fp8",
    "nvfp4_online": "nvfp4",
    "quark_mxfp4": "mxfp4",
    "unquant": "none",
}
TORCHAO = {"int8wo": "int8_wo", "int8dq": "int8", "int4wo": "int4_wo", "fp8wo": "fp8_wo", "fp8dq": "fp8"}
SIZES = {"k": 1000, "M": 1000**2, "G": 1000**3, "Ki": 1024, "Mi": 1024**2, "Gi": 1024**3}
SIZE = re.compile(r"(\d{1,12})(?:\.(\d{1,12}))?(Ki|Mi|Gi|k|M|G)")


def whole(value: Any) -> Any:
    """A whole number as SGLang reads it: 32k is 32,000 and 32Ki is 32,768; any other value stays as it is."""
    found = SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None or (found[2] and found[3].endswith("i")):
        return value
    digits = found[2] or ""
    return int(found[1] + digits) * SIZES[found[3]] // 10 ** len(digits)


def quantization(value: Any, model: Any) -> Any:
    """The precision of the weights: None (as published) for a method that fits the checkpoint. Raises ConfigError."""
    method = METHODS.get(value.lower().replace("-", "_")) if isinstance(value, str) else None
    if method is None:
        return values.quantization(value, model)
    entry = values.model_of(model)
    return None if entry is not None and entry.quantization is not None else method


def torchao(value: Any) -> Any:
    """The precision that TorchAO makes of the weights; None for an empty text. Raises ConfigError for another."""
    if not value:
        return None
    method = str(value).partition("-")[0]
    if method not in TORCHAO:
        raise ConfigError(f"{short(value)}: this precision is not simulated (valid: {', '.join(TORCHAO)})")
    return TORCHAO[method]


def balanced(value: Any) -> Any:
    """The router that comes closest to how a server divides requests among its data-parallel ranks."""
    if value is None:
        return None
    if not isinstance(value, str) or value not in BALANCED:
        raise ConfigError(f"{short(value)}: ranks are not balanced in this way here (valid: {', '.join(BALANCED)})")
    return BALANCED[value]

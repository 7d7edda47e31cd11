"""The values that fields of a deployment may have."""

from typing import Literal

Dtype = Literal["bfloat16", "float16"]
Quantization = Literal[
    "none",
    "fp8",
    "fp8_block",
    "fp8_wo",
    "mxfp8",
    "int8",
    "int8_wo",
    "int4_wo",
    "int4_fp8",
    "nvfp4",
    "nvfp4_wo",
    "mxfp4",
    "nf4",
]
KvCacheDtype = Literal["auto", "bfloat16", "fp8"]
AllToAll = Literal["allgather_reducescatter", "deepep"]
Balancer = Literal["internal", "external"]
Sampling = Literal["greedy", "random", "top_k_top_p"]
Role = Literal["mixed", "prefill", "decode"]

MOST_REPLICAS = 100_000

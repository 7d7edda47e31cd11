"""What vLLM takes where a command leaves a limit open: by release, and by the memory of the GPU.

Read in the releases 0.8.5, 0.11.0, 0.14.1, 0.19.0 and 0.33.0 (``get_default_args`` of the engine's arguments); of a
release in between, those of the one before it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from fastsim.catalog.hardware import Device

Release = tuple[int, ...]
ASSUMED: Release = (0, 19)  # where no image names a release; `fastsim launch` writes commands for it
TAG = re.compile(r":v?(\d+)\.(\d+)(?:\.(\d+))?")


@dataclass(frozen=True, slots=True)
class Defaults:
    """The limits of a server that was given none."""

    max_num_seqs: int
    max_num_batched_tokens: int
    gpu_memory_utilization: float
    chunked: bool  # whether prompts are computed in chunks
    prefix_caching: bool


def release_of(image: str) -> Release | None:
    """The release that the tag of an image names, such as (0, 11, 0); None if it names none."""
    found = TAG.search(image)
    return tuple(int(part or 0) for part in found.groups()) if found else None


def is_v0(release: Release, variables: Mapping[str, str]) -> bool:
    """Whether a release runs engine V0: before 0.8, and up to 0.10 where VLLM_USE_V1=0 asks for it."""
    return release < (0, 8) or (release < (0, 11) and variables.get("VLLM_USE_V1") == "0")


def defaults(release: Release, device: Device, v0: bool, length: int, chunked: bool | None) -> Defaults:
    """The limits of `vllm serve` for requests of up to ``length`` tokens.

    ``chunked``: whether the command asks for chunked prefill; None: it leaves that to vLLM.
    """
    if v0:
        in_chunks = bool(chunked)
        tokens = (2048 if release >= (0, 6, 4) else 512) if in_chunks else max(2048, length)
        return Defaults(256, tokens, 0.9, in_chunks, False)
    in_chunks = chunked is not False
    large = device.memory_gib >= 70 and (device.name != "a100" or release < (0, 11))
    seqs, tokens = (1024, 8192) if large else (256, 2048)
    if large and device.memory_gib >= 160 and release >= (0, 33):
        tokens = 16384
    tokens = min(tokens, seqs * length) if in_chunks else max(tokens, length)
    return Defaults(min(seqs, tokens), tokens, 0.92 if release >= (0, 33) else 0.9, in_chunks, True)

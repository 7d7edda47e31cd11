"""Which release of vLLM a command starts, and what engine V0 took where a command leaves a limit open.

The defaults of engine V1 are those of its releases (``deployment.engines``). V0's were read in release 0.8.5
(``get_default_args`` of the engine's arguments).
"""

from collections.abc import Mapping
from dataclasses import dataclass

from fastsim.deployment.commands.shell import Version

ASSUMED: Version = (0, 33)  # where no image names a release


@dataclass(frozen=True, slots=True)
class Defaults:
    """The limits of a server that was given none."""

    max_num_seqs: int
    max_num_batched_tokens: int
    chunked: bool  # whether prompts are computed in chunks


def is_v0(release: Version, variables: Mapping[str, str]) -> bool:
    """Whether a release runs engine V0: before 0.8, and up to 0.10 where VLLM_USE_V1=0 asks for it."""
    return release < (0, 8) or (release < (0, 11) and variables.get("VLLM_USE_V1") == "0")


def of_v0(release: Version, length: int, chunked: bool) -> Defaults:
    """The limits of `vllm serve` with engine V0, for requests of up to ``length`` tokens."""
    tokens = (2048 if release >= (0, 6, 4) else 512) if chunked else max(2048, length)
    return Defaults(256, tokens, chunked)

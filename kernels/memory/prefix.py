"""What a replica already holds of a prompt: nothing, as no policy caches prefixes. Prefix caching belongs here."""

from .._jit import merged
from ..state import Limits, State
from .blocks import blocks_for


@merged
def cached_tokens(state: State, limits: Limits, request: int) -> int:
    """How many tokens at the front of a waiting request's prefill need not be computed by its replica."""
    return 0


@merged
def blocks_to_take(limits: Limits, tokens: int, cached: int) -> int:
    """KV blocks that a request takes from the free ones to hold ``tokens``, the ``cached`` tokens among them."""
    return blocks_for(tokens, limits.block_size) - cached // limits.block_size

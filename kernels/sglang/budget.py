"""How many tokens a prefill batch of SGLang may still take, and how many slots are promised to requests."""

from .._jit import inlined
from ..memory.blocks import blocks_for
from ..state import RUNNING, Ints
from .serving import Serving
from .slots import available
from .state import CHUNK_TOKENS, INPUT_TOKENS, PROMISED, TAKEN

LONGEST_RESERVE = 4096  # outputs; the engine plans no further ahead

GO, NO_MEMORY, NO_TOKENS = range(3)


@inlined
def reserve(limit: Ints, known: Ints, request: int) -> int:
    """Outputs to come of a request, as far as the engine plans ahead."""
    return min(max(int(limit[request]) - int(known[request]), 0), LONGEST_RESERVE)


@inlined
def _reserved(running: Ints, number: int, limit: Ints, known: Ints, ratio: float) -> float:
    """What ``number`` running requests keep back; added up one by one, as the sum depends on the order."""
    reserved = 0.0
    for i in range(number):
        reserved += reserve(limit, known, int(running[i])) * ratio
    return reserved


@inlined
def begin_budget(at: Serving) -> None:
    """Set what a prefill batch may take beside the running requests."""
    rules, budget, running = at.rules, at.budget, at.running
    number = at.counts[RUNNING]
    decodes = number if rules.mixed else 0
    ratio = 1.0 if rules.ignore_eos and rules.ignore_eos_reserves_all else at.ratio[0]
    reserved = _reserved(running, number, at.limit, at.known, ratio)
    budget[INPUT_TOKENS] = at.max_prefill_tokens - decodes
    budget[CHUNK_TOKENS] = rules.chunk - decodes
    budget[PROMISED] = decodes + reserved
    budget[TAKEN] = decodes


@inlined
def memory_left(at: Serving) -> float:
    """KV slots that are available and not promised."""
    return float(available(at) - at.budget[PROMISED])


@inlined
def batch_memory_left(at: Serving) -> int:
    """KV slots that are available and not taken by this batch."""
    return int(available(at) - at.budget[TAKEN])


@inlined
def state_of_budget(at: Serving) -> int:
    """Whether the batch may take more: GO, NO_MEMORY or NO_TOKENS."""
    budget = at.budget
    if memory_left(at) <= 0.0 or batch_memory_left(at) <= 0:
        return NO_MEMORY
    if budget[INPUT_TOKENS] <= 0 or (at.rules.chunk > 0 and budget[CHUNK_TOKENS] <= 0):
        return NO_TOKENS
    return GO


@inlined
def charge(at: Serving, tokens: int, outputs: int) -> None:
    """Charge a request for tokens of this batch, for outputs to come, and for one more page."""
    budget, page = at.budget, at.page
    slots = blocks_for(tokens, page) * page
    budget[PROMISED] += slots + min(outputs, LONGEST_RESERVE) + page
    budget[TAKEN] += slots + page
    budget[INPUT_TOKENS] -= slots
    budget[CHUNK_TOKENS] -= slots

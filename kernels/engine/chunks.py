"""How many tokens of a request a batch of vLLM V1 may compute."""

from .._jit import inlined
from ..state import PRESENT, Limits, State
from .state import CALLS, ONE_BATCH, TURNS


@inlined
def tokens_due(state: State, limits: Limits, r: int, request: int) -> int:
    """How many tokens a running request has yet to compute, as far as this batch may; 0 when there is none."""
    engine, rules = state.engine, limits.engine
    computed, sampled = int(state.requests.processed[request]), int(engine.sampled[request])
    if sampled > 0:
        if not rules.extra_slot and computed + 2 - sampled >= engine.limit[request]:
            return 0  # a batch in flight yields its last token
        if limits.num_stages > 1 and rules.shares_turns == ONE_BATCH:
            return 0
    since = engine.counts[r, CALLS] - engine.last_call[request]
    if limits.num_stages > 1 and rules.shares_turns == TURNS and since < limits.num_stages:
        return 0
    due = int(engine.known[request]) + sampled - computed
    return min(due, rules.max_model_len - 1 - computed)


@inlined
def threshold_of(state: State, limits: Limits, r: int) -> int:
    """The most tokens of a chunk, 0 where only the budget bounds it."""
    alone = state.replicas.counts[r, PRESENT] <= 1
    return 0 if alone and not limits.engine.threshold_alone else limits.engine.threshold


@inlined
def cut(due: int, threshold: int) -> int:
    """How many of the tokens due the threshold allows in one batch."""
    return threshold if 0 < threshold < due else due

"""The time of a step: that of the rank that takes longest, with what all ranks compute together."""

from .._jit import inlined
from ..accounts.breakdown import detailed
from ..cost import batch_ms_padded, decodes_alone_ms, host_seconds, shared_ms, stage_seconds
from ..state import NUM_DECODES, NUM_SAMPLED, NUM_SEQS, NUM_TOKENS, REPLICA, Limits, State
from ..tables import Cost
from .state import FIRST_RANK


@inlined
def tokens_of_all(cost: Cost, most: int, total: int, number: int) -> tuple[int, int]:
    """The tokens that each rank computes at the least, and the mean of all ranks, rounded up, that experts compute.

    Where the batches are small enough for CUDA graphs, all are padded to the largest. ``most``: tokens of that;
    ``total``: of all ``number`` batches.
    """
    if most <= cost.ranks.graph_tokens:
        return most, most
    return 1, (total + number - 1) // number


@inlined
def step_seconds(
    state: State, cost: Cost, limits: Limits, f: int, slot: int, sizes: tuple[int, int, int, int, int]
) -> tuple[float, float, float]:
    """The time of the step in a slot of a replica, its host time, and how much longer it takes than with all decodes
    alone, s. The first is not positive where the tables give a batch no time.

    ``sizes``: tokens of the largest batch and of all, chunks of prompts in all, decodes of the largest number and of
    all. A rank without tokens runs a dummy batch of one, which is never the slowest.
    """
    first, number, batches = int(state.ranks.counts[f, FIRST_RANK]), limits.ranks.num_ranks, state.batches
    most, total, prefills, most_decodes, decodes = sizes
    least, mean = tokens_of_all(cost, most, total, number)
    seconds, host, shared = 0.0, 0.0, shared_ms(cost, mean)
    for r in range(first, first + number):
        features = batches.features[r, slot]
        if features[NUM_TOKENS] > 0:
            tokens = max(least, features[NUM_TOKENS])
            ms = batch_ms_padded(cost, features, batches.layers_ms[r, slot], tokens) + shared
            own = stage_seconds(cost, tokens, features[NUM_SEQS], features[NUM_SAMPLED], ms, 0)
            if not own > 0.0:
                state.cursor[REPLICA] = r
                return 0.0, 0.0, 0.0
            seconds = max(seconds, own)
            if detailed(state.requests):
                host = max(host, host_seconds(cost, features[NUM_SEQS]))
    other = 0.0
    if detailed(state.requests) and prefills > 0 and most_decodes > 0:
        least, mean = tokens_of_all(cost, most_decodes, decodes, number)
        other, shared = seconds, shared_ms(cost, mean)
        for r in range(first, first + number):
            features = batches.features[r, slot]
            alone = features[NUM_DECODES]
            if alone > 0:
                ms = decodes_alone_ms(cost, features) + shared
                other = min(other, max(0.0, seconds - stage_seconds(cost, alone, alone, alone, ms, 0)))
    return seconds, host, other


@inlined
def dummy_seconds(state: State, cost: Cost, limits: Limits, f: int) -> float:
    """The time of a step in which all ranks run a dummy batch of one token, s."""
    features = state.batches.features[f, 0]
    features[:] = 0
    features[NUM_TOKENS] = 1
    ms = batch_ms_padded(cost, features, 0.0, 1) + shared_ms(cost, 1)
    return stage_seconds(cost, 1, 0, 0, ms, 0)

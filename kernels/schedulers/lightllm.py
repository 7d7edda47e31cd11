"""LightLLM: token-level memory; a prompt is admitted when the peak of all that runs will still fit."""

from .._jit import inlined, kernel, merged
from .._pointed import pointed
from ..exits import Ending, Exit
from ..iterations.group import grouped
from ..iterations.group_iterations import NO_LIMIT, launch_group
from ..memory.admission import admit
from ..memory.prefix import blocks_to_take
from ..replicas.pools import Stages, one_stage
from ..state import (
    ALLOCATED,
    FREE,
    GROUP,
    GROUP_STEP,
    ITERATIONS,
    OUTCOME,
    REPLICA,
    RUNNING,
    WAITED,
    WAITING,
    Limits,
    Longs,
    State,
)
from ..tables import Cost
from .loop import simulate_plain

GROWS, STATIC, REFUSAL_LASTS = True, False, False


@inlined
def _insert(remaining: Longs, held: Longs, number: int, tokens_left: int, tokens_held: int) -> None:
    """Add a request to remaining[:number] and held[:number], tokens, which are in descending order of ``remaining``."""
    position = number
    while position > 0 and remaining[position - 1] < tokens_left:
        remaining[position] = remaining[position - 1]
        held[position] = held[position - 1]
        position -= 1
    remaining[position] = tokens_left
    held[position] = tokens_held


@inlined
def _peak(remaining: Longs, held: Longs, number: int) -> int:
    """The most tokens ever held at once: until a request finishes, those before it in ``remaining`` grow as well."""
    peak = total = 0
    for i in range(number):
        total += held[i]
        peak = max(peak, remaining[i] * (i + 1) + total)
    return peak


@merged
def _grant(
    state: State, limits: Limits, request: int, cached: int, held: int, size: int, known: tuple[int, int]
) -> tuple[int, int, tuple[int, int]]:
    """Grant a whole prompt when the peak still fits; ``known``: requests in scratch, and tokens of the batch."""
    counts, computed = state.replicas.counts[state.cursor[REPLICA]], held - cached
    number, num_tokens = known
    output = state.requests.total[request] - held
    _insert(state.scratch[0], state.scratch[1], number, max(output - 2, 0), held + 1)
    number += 1
    if (
        _peak(state.scratch[0], state.scratch[1], number) >= limits.num_blocks
        or num_tokens + computed > limits.max_num_batched_tokens
        or counts[ALLOCATED] == limits.max_num_seqs
        or size == limits.micro_batch_size
    ):
        return 0, 0, known
    return computed, blocks_to_take(limits, held, cached), (number, num_tokens + computed)


@inlined
def _admit(state: State, limits: Limits) -> int:
    """Fill the batch at cursor with prompts; returns its size."""
    r = state.cursor[REPLICA]
    requests, counts, running = state.requests, state.replicas.counts[r], state.replicas.running[r]
    known = 0
    if counts[WAITING] > 0:
        for i in range(counts[RUNNING]):
            member = running[i]
            if requests.finished_at[member] >= 0.0:
                continue
            processed = requests.processed[member] + counts[GROUP_STEP]
            tokens_left = max(requests.total[member] - processed - 1, 0)
            _insert(state.scratch[0], state.scratch[1], known, tokens_left, processed)
            known += 1
    return admit(state, limits, 0, (known, 0), _grant)


@merged
def launch_next(state: State, cost: Cost, limits: Limits, stages: Stages) -> int:
    """Start a batch of prompts, or decode iterations of all running requests until something has to be decided."""
    grouped(state, limits)  # No request is ever preempted, so decodes are always a group.
    counts = state.replicas.counts[state.cursor[REPLICA]]
    size = 0
    if counts[GROUP] == 0:
        size = _admit(state, limits)
    elif counts[WAITED] >= limits.max_waiting_iters:
        counts[WAITED] = 0
        size = _admit(state, limits)
    if size > 0:
        counts[WAITED] = 0
    elif counts[FREE] < counts[GROUP]:
        counts[OUTCOME] = Ending.OUT_OF_MEMORY
        return Exit.FORM
    most = max(1, limits.max_waiting_iters - counts[WAITED]) if counts[WAITING] > 0 else NO_LIMIT
    before = counts[ITERATIONS]
    code = launch_group(state, cost, limits, size, False, most, GROWS, STATIC)
    decodes = counts[ITERATIONS] - before
    if size == 0 and decodes > 0:
        # The counter starts again whenever it has reached its end, also while no request waits.
        again = max(1, limits.max_waiting_iters)
        counts[WAITED] = (counts[WAITED] + decodes - 1) % again + 1
    return code


@merged
def advance(state: State, costs: tuple[Cost, ...], limits: tuple[Limits, ...], stages: Stages) -> int:
    """Simulate until all is DONE, the BUDGET of iterations is used up, or a FAULT."""
    return simulate_plain(state, costs, limits, stages, launch_next, GROWS, STATIC, REFUSAL_LASTS)


@kernel
def run(state: State, costs: tuple[Cost, ...], limits: tuple[Limits, ...]) -> int:
    """Simulate replicas of one stage."""
    return advance(pointed(state), pointed(costs), pointed(limits), one_stage)

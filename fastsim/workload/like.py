"""Draws workloads like a trace: its statistics, and none of its requests."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastsim.errors import ConfigError
from fastsim.files.memory import check_memory
from fastsim.workload import intensity, recurring
from fastsim.workload.following import NONE, previous_turns
from fastsim.workload.marginal import Law, correlated, marginal
from fastsim.workload.ranks import ascending, rank_correlation
from fastsim.workload.workload import MAX_REQUESTS, Workload

FEWEST = 20  # requests of a trace that statistics can be taken of
GROW = 0.5  # the share of later turns whose prompts hold all before, from which on prompts are taken to grow
BYTES = 200  # of memory for a request while it is drawn and checked

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Pair:
    """Two laws, and the correlation of their normal scores."""

    first: Law
    second: Law
    score: float

    @classmethod
    def of(cls, first: NDArray[np.int64], second: NDArray[np.int64]) -> "Pair":
        """Fit two columns, int64[n] each."""
        laws = marginal(first), marginal(second)
        return cls(*laws, correlated(*laws, rank_correlation(first, second)))

    def draw(self, number: int, rng: np.random.Generator) -> tuple[Integers, Integers]:
        """Draw ``number`` values of each column, int64[number]."""
        score, other = rng.standard_normal((2, number))
        second = self.score * score + (1 - self.score**2) ** 0.5 * other
        return self.first(score).astype(np.int64), self.second(second).astype(np.int64)


def synthesise_like(trace: Workload, *, num_requests: int | None = None, seed: int = 0) -> Workload:
    """Draw a workload with the statistics of ``trace`` and none of its requests.

    The rate over time, the unevenness of gaps, prompt and output tokens and their rank correlation, the turns, pauses
    and growth of sessions, and how blocks of tokens recur are those of the trace. Tenants, priorities and
    ends by a stop token are as frequent as in the trace, whatever the lengths; replicas are left out.

    Parameters
    ----------
    trace : Workload
        At least 20 requests.
    num_requests : int, optional
        How many requests to draw. By default as many as the trace has; of more, the rate begins again as at its start.
    seed : int
        By default 0.

    Returns
    -------
    Workload
        The requests drawn. ``closeness`` says how close they are.

    Raises
    ------
    errors.ConfigError
        When the trace is too short, or an argument is not valid.

    Examples
    --------
    >>> trace = fastsim.load_workload("chat", num_requests=500)
    >>> fastsim.synthesise_like(trace, num_requests=100).num_requests
    100
    """
    number = trace.num_requests if num_requests is None else num_requests
    if trace.num_requests < FEWEST:
        raise ConfigError(
            f"{trace.name}: {trace.num_requests} requests are too few to take statistics of (e.g. {FEWEST} or more)"
        )
    if not 1 <= number <= MAX_REQUESTS:
        raise ConfigError(f"num_requests: {number} is not a whole number from 1 to {MAX_REQUESTS:,} (e.g. 1000)")
    if not 0 <= seed < 2**63:
        raise ConfigError(f"seed: {seed} is not an integer from 0 to below 2^63 (e.g. 0)")
    check_memory(number, f"num_requests: {number:,} requests", BYTES)
    rngs = map(np.random.default_rng, np.random.SeedSequence(seed).spawn(4))
    for_turns, for_lengths, for_times, for_blocks = rngs
    before = _before(trace)
    turn = _turns(trace, before, number, for_turns)
    prompts, outputs = _lengths(trace, before, turn, for_lengths)
    drawn = _timed(trace, before, turn, (prompts, outputs), for_times)
    if trace.block_hashes is None:
        return drawn
    known = recurring.fit(trace.block_hashes, trace.num_prompt_tokens, trace.num_output_tokens, before)
    previous = previous_turns(number, drawn.session_id, np.zeros(number))
    hashes = recurring.draw(known, drawn.num_prompt_tokens, drawn.num_output_tokens, previous, for_blocks)
    return replace(drawn, block_hashes=hashes)


def _before(trace: Workload) -> Integers:
    """The turn before each request of its session, int64[n]; NONE for the first, and for all where none is known."""
    think = trace.think_time
    if think is None and not np.isnan(trace.arrived_at).any():
        think = np.zeros(trace.num_requests)  # turns that arrive at times of their own
    return previous_turns(trace.num_requests, trace.session_id, think)


def _turns(trace: Workload, before: Integers, number: int, rng: np.random.Generator) -> Integers:
    """Draw the turn that each request is, int64[number], from 0: all turns of a conversation after one another."""
    if not (before != NONE).any():
        return np.zeros(number, np.int64)
    assert trace.session_id is not None
    entries = before[ascending(trace.session_id)] == NONE
    turns = marginal(np.bincount(np.cumsum(entries) - 1))
    counts = np.zeros(0, np.int64)
    while counts.sum() < number:
        counts = np.append(counts, turns(rng.standard_normal(number)).astype(np.int64))
    ends = np.cumsum(counts)
    return (np.arange(ends[-1]) - np.repeat(ends - counts, counts))[:number]


def _lengths(trace: Workload, before: Integers, turn: Integers, rng: np.random.Generator) -> tuple[Integers, Integers]:
    """Draw prompt and output tokens, int64[number] each. Prompts of later turns grow, if those of the trace do."""
    prompts, outputs = np.empty((2, len(turn)), np.int64)
    first, later = before == NONE, before != NONE
    rows = np.flatnonzero(turn == 0)
    pair = Pair.of(trace.num_prompt_tokens[first], trace.num_output_tokens[first])
    prompts[rows], outputs[rows] = pair.draw(len(rows), rng)
    if not later.any():
        return prompts, outputs
    new = trace.num_prompt_tokens[later] - (trace.num_prompt_tokens + trace.num_output_tokens)[before[later]]
    grow = bool((new >= 0).mean() >= GROW)
    pair = Pair.of(new if grow else trace.num_prompt_tokens[later], trace.num_output_tokens[later])
    rows = np.flatnonzero(turn > 0)
    prompts[rows], outputs[rows] = pair.draw(len(rows), rng)
    for place in range(1, int(turn.max()) + 1) if grow else ():
        rows = np.flatnonzero(turn == place)
        prompts[rows] += prompts[rows - 1] + outputs[rows - 1]
    return np.clip(prompts, 1, trace.num_prompt_tokens.max()), outputs


def _timed(
    trace: Workload, before: Integers, turn: Integers, tokens: tuple[Integers, Integers], rng: np.random.Generator
) -> Workload:
    """Draw the times of requests with these turns and tokens, int64[number] each, and their tenants."""
    entries, later = np.flatnonzero(turn == 0), np.flatnonzero(turn > 0)
    arrived_at = np.full(len(turn), np.nan)
    arrived_at[entries] = _arrivals(trace, before, len(entries), rng)
    think, pause = _pauses(trace, before, turn, rng)
    conversation = np.cumsum(turn == 0) - 1
    passed = np.cumsum(pause)
    passed -= passed[entries][conversation]
    about = np.nan_to_num(arrived_at[entries], nan=np.inf)[conversation] + passed
    order = np.argsort(about, kind="stable")
    # A conversation has the tenant, the priority and the kind of end of one of the trace, whatever its lengths.
    of = rng.choice(np.flatnonzero(before == NONE), len(entries))[conversation][order]
    return Workload(
        (about if think is None else arrived_at)[order],
        tokens[0][order],
        tokens[1][order],
        name=f"like {trace.name}",
        session_id=conversation[order] if len(later) else None,
        think_time=None if think is None else think[order],
        max_concurrency=trace.max_concurrency,
        priority=None if trace.priority is None else trace.priority[of],
        tenant=None if trace.tenant is None else trace.tenant[of],
        **_ends(trace, of, tokens[1][order]),
    )


def _ends(trace: Workload, of: Integers, outputs: Integers) -> dict[str, Any]:
    """The columns max_tokens and ends_by_stop of requests that end as the rows ``of`` do; none where it has none."""
    limits, stops = trace.max_tokens, trace.ends_by_stop
    columns: dict[str, Any] = {}
    if limits is not None:
        by_stop = limits > trace.num_output_tokens if stops is None else stops
        columns["max_tokens"] = np.where(by_stop[of], np.maximum(limits[of], outputs), outputs)
    if stops is not None:
        columns["ends_by_stop"] = stops[of]
    return columns


def _arrivals(trace: Workload, before: Integers, number: int, rng: np.random.Generator) -> Floats:
    """Draw the arrival times of the first turns, float64[number], s; NaN of those that wait in a closed loop."""
    known = trace.arrived_at[before == NONE]
    known = known[~np.isnan(known)]
    if not trace.is_loop:
        return intensity.draw(intensity.fit(known), number, rng)
    users = min(trace.max_concurrency or 1, number)
    arrived_at = np.full(number, np.nan)
    arrived_at[:users] = np.linspace(known[0], known[-1], users)
    return arrived_at


def _pauses(
    trace: Workload, before: Integers, turn: Integers, rng: np.random.Generator
) -> tuple[Floats | None, Floats]:
    """Draw think times, float64[number], s, or None; and the time from the turn before to each later one, s."""
    entries, later = turn == 0, turn > 0
    pause = np.zeros(len(turn))
    if trace.think_time is None:
        at = np.flatnonzero(before != NONE)
        if later.any():
            law = marginal(trace.arrived_at[at] - trace.arrived_at[before[at]])
            pause[later] = law(rng.standard_normal(np.count_nonzero(later)))
        return None, pause
    think = np.full(len(turn), np.nan)
    for rows, of in ((entries, before == NONE), (later, before != NONE)):
        values = trace.think_time[of & ~np.isnan(trace.think_time)]
        if len(values):
            think[rows] = marginal(values)(rng.standard_normal(np.count_nonzero(rows)))
    pause[later] = think[later]
    return think, pause

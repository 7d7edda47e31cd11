"""Draws requests that share prefixes: texts in front of them, and the turns of sessions.

Rows are in order of the tasks, and in a task in order of its sessions and their turns. All draws are read in the order
of the rows, or of what they belong to, so that a longer workload begins with the shorter one.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastsim.errors import WorkloadError
from fastsim.workload.arrivals import draw_arrivals, draw_loop, draw_times
from fastsim.workload.checks import MAX_TOKENS
from fastsim.workload.conversations import NO_SESSIONS, FixedTurns, Sessions
from fastsim.workload.description import Description
from fastsim.workload.gaps import ClosedLoop, Gaps, mean_rate
from fastsim.workload.identities import Turns, hashes
from fastsim.workload.origin import Origin
from fastsim.workload.prefixes import draw_texts, whole
from fastsim.workload.tokens import draw_lengths, shrink
from fastsim.workload.workload import Workload

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]


class Places(NamedTuple):
    """Where each of n requests is."""

    session: Integers  # int64[n], from 0
    turn: Integers  # int64[n], from 0
    last: NDArray[np.bool_]  # bool[n], whether its session has no turn after it


def draw_sharing(described: Description, seeds: list[np.random.SeedSequence], name: str) -> Workload:
    """Draw the workload of a description with a prefix, or with sessions. ``seeds``: those of six random streams."""
    sessions = described.sessions or NO_SESSIONS
    for_lengths, for_gaps, for_turns, for_think, for_context = map(np.random.default_rng, seeds[:5])
    places = _places(sessions, described.num_requests, for_turns)
    task = places.session // sessions.fan_out
    tasks = int(task[-1]) + 1
    texts = draw_texts(described.prefixes, tasks, seeds[5])
    context = np.zeros(tasks, np.int64) if sessions.context is None else whole(sessions.context, tasks, for_context)
    prompts, outputs, origin = draw_lengths(described.lengths, described.num_requests, for_lengths)
    shared = (texts.total + context)[task]
    most = described.max_tokens or MAX_TOKENS
    _check_room(shared, most, described, name)
    shrink(prompts, outputs, most - shared)
    history, text = _histories(places, prompts + outputs, most - shared)
    prompts += shared + history
    until = prompts + outputs
    turns = Turns(task, text, until, np.where(places.last, shared + history, until))
    arrived_at, think, users = _times(described.gaps, sessions, places, for_gaps, for_think)
    return Workload(
        arrived_at,
        prompts,
        outputs,
        name=name,
        block_hashes=hashes(texts, context, turns, described.block_size),
        origin=replace(origin or Origin(), hashed=True),
        session_id=places.session if described.sessions else None,
        think_time=think,
        max_concurrency=users or described.max_concurrency,
    )


def _check_room(shared: Integers, most: int, described: Description, name: str) -> None:
    """Raise WorkloadError unless each prefix leaves room for a token of a prompt and one of its output."""
    longest = int(shared.max())
    if longest > most - 2:
        key = "max_tokens" if described.max_tokens else "prefix"
        raise WorkloadError(
            f"{name}: {key}: the shared prefix of a request has {longest:,} tokens, and {most:,} are the most that it "
            "may have in all; shorten the prefix"
        )


def _places(sessions: Sessions, number: int, rng: np.random.Generator) -> Places:
    """The session and the turn of ``number`` requests."""
    turns = sessions.turns
    if isinstance(turns, FixedTurns):
        counts = np.full(-(-number // turns.number), turns.number)
    else:
        drawn = [np.zeros(0, np.int64)]
        missing = number
        while missing > 0:
            drawn.append(rng.geometric(1 / turns.mean, int(missing / turns.mean) + 8))
            missing -= int(drawn[-1].sum())
        counts = np.concatenate(drawn)
        counts = counts[: np.searchsorted(np.cumsum(counts), number) + 1]
    session = np.repeat(np.arange(len(counts)), counts)[:number]
    turn = np.arange(number) - (np.cumsum(counts) - counts)[session]
    return Places(session, turn, turn == counts[session] - 1)


def _histories(places: Places, tokens: Integers, most: Integers) -> tuple[Integers, Integers]:
    """The tokens of messages and answers before each request, and the number of the text that they belong to.

    ``tokens``: of the request's own message and answer; ``most``: of these and the history, int64[n] each. A session
    that would have more forgets its history.
    """
    until = np.cumsum(tokens)
    firsts = np.flatnonzero(places.turn == 0)
    history = until - tokens
    history -= history[firsts][places.session]
    forgets = np.zeros(len(tokens), bool)
    late = np.flatnonzero(history + tokens > most)
    if len(late):
        _forget(history, forgets, places, tokens, most, np.unique(places.session[late]), firsts)
    return history, np.cumsum(forgets | (places.turn == 0)) - 1


def _forget(
    history: Integers,
    forgets: NDArray[np.bool_],
    places: Places,
    tokens: Integers,
    most: Integers,
    sessions: Integers,
    firsts: Integers,
) -> None:
    """Count the histories of some sessions anew, and mark the requests that forget theirs, in place."""
    ends = np.append(firsts[1:], len(tokens))
    rows, stop, before = firsts[sessions], ends[sessions], np.zeros(len(sessions), np.int64)
    while len(rows):  # one turn of all these sessions
        over = before + tokens[rows] > most[rows]
        before[over] = 0
        forgets[rows] = over
        history[rows] = before
        before = before + tokens[rows]
        rows = rows + 1
        left = rows < stop
        rows, stop, before = rows[left], stop[left], before[left]


def _times(
    gaps: Gaps, sessions: Sessions, places: Places, for_gaps: np.random.Generator, for_think: np.random.Generator
) -> tuple[Floats, Floats | None, int | None]:
    """Arrival times, think times, float64[n] each, s, and the users of a closed loop."""
    first = places.turn == 0
    tasks = int(places.session[-1]) // sessions.fan_out + 1
    think = np.where(first, np.nan, draw_times(sessions.think_time, len(first), for_think))
    arrived_at = np.full(len(first), np.nan)
    if isinstance(gaps, ClosedLoop):
        arrived_at[first], think[first] = draw_loop(gaps, tasks, for_gaps)
        return arrived_at, think, gaps.concurrency
    rate = mean_rate(gaps)
    if rate is not None:  # of all turns
        gaps = gaps.model_copy(update={"rate": rate / sessions.requests})
    arrived_at[first] = draw_arrivals(gaps, tasks, for_gaps)[places.session[first] // sessions.fan_out]
    return arrived_at, None if sessions is NO_SESSIONS else think, None

"""Which requests arrive only once others have finished: later turns of sessions, and requests of a closed loop."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastsim.errors import WorkloadError
from fastsim.workload.ranks import ascending

NONE, LOOP = -1, -2


class Following(NamedTuple):
    """The order of arrival of n requests, as far as it is known before a simulation."""

    follower: NDArray[np.int32]  # int32[n], the request that arrives after each, NONE, or LOOP for the next of ``loop``
    think: NDArray[np.float64]  # float64[n], s, from the end of the request before to the arrival
    first: NDArray[np.int32]  # requests whose arrival is known from the start, in order of arrival
    loop: NDArray[np.int32]  # requests that wait until one of those in flight has finished, in their order


def follow(
    number: int, session: NDArray[np.int64] | None, think: NDArray[np.float64] | None, max_concurrency: int | None
) -> Following | None:
    """Return which of ``number`` requests follow others; None where all arrive by themselves.

    A request with a think time follows the request before it of its session. All others enter from outside: with
    ``max_concurrency``, all but the first so many of these wait until another has finished. The other arguments are the
    columns of a Workload.
    """
    if think is None and max_concurrency is None:
        return None
    follower = np.full(number, NONE, np.int32)
    before = previous_turns(number, session, think)
    turns = np.flatnonzero(before != NONE)
    follower[before[turns]] = turns
    entries = np.flatnonzero(before == NONE).astype(np.int32)
    first, loop = entries, entries[:0]
    if max_concurrency is not None:
        first, loop = np.split(entries, [max_concurrency])
        follower[follower == NONE] = LOOP
    return Following(follower, np.zeros(number) if think is None else np.nan_to_num(think), first, loop)


def previous_turns(
    number: int, session: NDArray[np.int64] | None, think: NDArray[np.float64] | None
) -> NDArray[np.int64]:
    """Return the request that each of ``number`` requests follows in its session, int64[number]; NONE where it enters.

    A request without a think time arrives at a time of its own, even if its session has earlier requests.
    """
    before = np.full(number, NONE)
    if session is None or think is None:
        return before
    order = ascending(session)
    same = session[order[1:]] == session[order[:-1]]
    before[order[1:][same]] = order[:-1][same]
    before[np.isnan(think)] = NONE
    return before


def sent_by(
    users: int,
    num_requests: int,
    session: NDArray[np.int64] | None,
    think: NDArray[np.float64] | None,
    ramp_up: float,
    place: str,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return when requests arrive that a number of users send, and their think times, float64[num_requests] each, s.

    ``session`` and ``think`` are columns of a Workload, which messages call ``place``. Within ``ramp_up`` seconds each
    user sends a first request; the times of all others are NaN. Raises WorkloadError unless every user has a request
    to send, and no turn of a session arrives at a time of its own.
    """
    if think is None and session is not None and len(np.unique(session)) < len(session):
        raise WorkloadError(
            f"{place}: users: {users:,} cannot wait for answers, as each turn of its sessions arrives at a time of its "
            "own; give later turns a think_time in place of their arrived_at"
        )
    entries = np.flatnonzero(previous_turns(num_requests, session, think) == NONE)
    if not 1 <= users <= len(entries):
        raise WorkloadError(
            f"{place}: users: {users:,} is not a number from 1 to the {len(entries):,} requests or sessions that they "
            f"send (e.g. {min(len(entries), 64)})"
        )
    arrived_at = np.full(num_requests, np.nan)
    arrived_at[entries[:users]] = np.arange(users) * (ramp_up / users)
    think = np.zeros(num_requests) if think is None else think.copy()
    think[entries] = np.nan_to_num(think[entries])
    return arrived_at, think


def earliest(
    arrived_at: NDArray[np.float64], session: NDArray[np.int64] | None, think: NDArray[np.float64] | None
) -> NDArray[np.float64]:
    """Return when each request would arrive if no answer took any time, float64[n], s; NaN in a closed loop.

    The arguments are columns of a Workload.
    """
    if session is None or think is None or not np.isnan(arrived_at).any():
        return arrived_at
    before = previous_turns(len(arrived_at), session, think)
    order = ascending(session)
    steps = np.where(before == NONE, arrived_at, think)[order]
    begins = np.flatnonzero(before[order] == NONE)
    total = np.cumsum(np.nan_to_num(steps))
    lengths = np.diff(begins, append=len(order))
    times = np.empty(len(order))
    times[order] = total - np.repeat((total - steps)[begins], lengths)
    return times


def check_following(
    place: str,
    arrived_at: NDArray[np.float64],
    session: NDArray[np.int64] | None,
    think: NDArray[np.float64] | None,
    max_concurrency: int | None,
) -> None:
    """Raise WorkloadError for the first request of which nothing says when it arrives, or two things do.

    ``place`` is what messages call the workload; the other arguments are columns of a Workload.
    """
    known = ~np.isnan(arrived_at)
    if think is not None and max_concurrency is None and (row := _first(known & ~np.isnan(think))) is not None:
        raise WorkloadError(
            f"{place}: data row {row + 1}: think_time: {think[row]:g} is given, and arrived_at {arrived_at[row]:g} "
            "too; leave one of them empty"
        )
    entries = previous_turns(len(arrived_at), session, think) == NONE
    lost = entries & ~known
    if max_concurrency is not None:
        lost[np.flatnonzero(entries)[max_concurrency:]] = False
    if (row := _first(lost)) is None:
        return
    if think is None or np.isnan(think[row]):
        raise WorkloadError(f"{place}: data row {row + 1}: arrived_at is empty, and think_time too; give one")
    of = "" if session is None else f" of session {session[row]}"
    raise WorkloadError(
        f"{place}: data row {row + 1}: think_time: {think[row]:g} needs an earlier request{of} to follow; give its "
        "arrived_at instead"
    )


def _first(flags: NDArray[np.bool_]) -> int | None:
    return int(flags.argmax()) if flags.any() else None

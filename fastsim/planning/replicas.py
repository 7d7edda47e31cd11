"""How many replicas a load needs: the fewest that bear it for good, and how much more they would bear."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from fastsim.deployment.resolve import with_copies
from fastsim.deployment.resolved import Resolved
from fastsim.planning.bracket import Bracket
from fastsim.planning.settle import LONGER, shortest, spared
from fastsim.planning.steady import outlasting
from fastsim.planning.trials import CONFIRM, CONFIRMING, Trials, load_of
from fastsim.predictors.replicates import Replicate
from fastsim.predictors.replicates import replicates as drawn_replicates
from fastsim.simulation.probe import Probed

FACTOR = 4  # times the first guess: more replicas than this help no further
MORE = 8  # and this many beside
STEP = 1.04  # by which the load of the recommended fleet grows first, to find its margin
MOST_MARGIN = 3.0  # times the load up to which a margin is looked for


@dataclass(frozen=True, slots=True)
class Smallest:
    """The fewest replicas that bear a load, and the runs that show it."""

    resolved: Resolved
    at_load: Probed  # the run at the load
    held: Probed  # three times as long, another draw, a little more load
    fewer: Probed | None  # the run of one replica less that fails; None: there is no replica less
    margin: float  # share by which the load may grow before an objective is missed or the queue grows
    margin_is_least: bool  # whether no load that was tried misses an objective
    chance: float | None  # share of replicates that meet the objectives
    number: int  # requests of a run


def smallest(trials: Trials, load: float, guess: int, tolerance: float, replicates: int) -> Smallest | Probed:
    """The fewest replicas that bear ``load`` with ``tolerance`` to spare; the last run if many more do not either.

    The load is requests/s, or users if the source is for them. ``trials``: of any number of replicas. A fleet must
    bear the load in runs that are as long as those of ``settle``, and in one that is CONFIRM times as long, of another
    draw; where it does not, it gets more replicas. The margin is found by simulating the fleet under more load.
    """
    users = trials.source.users
    more = spared(load, tolerance, users)
    fleets: dict[int, Trials] = {}

    def of(replicas: int) -> Trials:
        for other, one in fleets.items():
            if other != replicas:
                one.forget()
        if replicas not in fleets:
            fleets[replicas] = trials.with_replicas(with_copies(trials.resolved, replicas))
        return fleets[replicas]

    most = FACTOR * guess + MORE
    number = shortest(trials, more, tolerance)
    while True:
        enough, failed = _fewest(lambda replicas: of(replicas).at(more, number), guess, most)  # noqa: B023
        if enough is None:
            assert failed is not None
            return failed
        longer = outlasting(of(enough).at(more, number), number, trials.most)
        if longer < LONGER * number:
            break
        number, guess = longer, enough
    held = of(enough).at(more, CONFIRM * number, CONFIRMING)
    fewer = failed
    while not held.met:
        if enough > most:
            return held
        fewer, enough = held, enough + max(1, enough // 100)
        held = of(enough).at(more, CONFIRM * number, CONFIRMING)
    whole = of(enough)
    margin, is_least = margin_of(partial(whole.at, num_requests=number), load, more, users)
    chance = chance_of(whole, load, number, replicates) if replicates else None
    return Smallest(whole.resolved, whole.at(load, number), held, fewer, margin, is_least, chance, number)


def _fewest(at: Callable[[int], Probed], guess: int, most: int) -> tuple[int | None, Probed | None]:
    """The fewest replicas that pass, None if ``most`` do not, and the run of one replica less, or of the last tried."""
    low, high = 0, None  # the most that fail, the fewest that pass
    failed: Probed | None = None
    tested, step, probed = guess, 1, at(guess)
    while True:
        if probed.met:
            high = tested
            if tested == 1 or low:
                break
            tested = max(1, tested - step)
        else:
            low, failed = tested, probed
            if high or tested >= most:
                break
            tested = min(most, tested + step)
        step *= 2
        probed = at(tested)
    if high is None:
        return None, failed
    while high - low > 1:
        middle = (low + high) // 2
        probed = at(middle)
        if probed.met:
            high = middle
        else:
            low, failed = middle, probed
    return high, failed


def margin_of(at: Callable[[float], Probed], load: float, passes: float, users: bool) -> tuple[float, bool]:
    """By which share the load may grow, and whether no load that was tried fails; ``passes``: a load known to pass."""
    bracket = Bracket()
    low, high, step = passes, None, STEP
    while high is None and low < MOST_MARGIN * load:
        tested = spared(low, step - 1, users)
        if bracket.add(at(tested)):
            low, step = tested, step * step
        else:
            high = tested
    while high is not None and high - low > (max(1.0, 0.01 * low) if users else 0.01 * low):
        tested = (low + high) // 2 if users else (low * high) ** 0.5
        low, high = (tested, high) if bracket.add(at(tested)) else (low, tested)
    return low / load - 1, high is None


def chance_of(trials: Trials, load: float, number: int, replicates: int) -> float:
    """The share of replicates, with other requests and operator times from their intervals, that bear the load."""

    def bears(one: Replicate, draw: int) -> bool:
        drawn = Trials(one.resolved, trials.source, trials.objectives, one.built.cost)
        return drawn.at(load, number, draw).met

    drawn = list(drawn_replicates(trials.resolved, replicates, trials.resolved.seed))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return sum(pool.map(bears, drawn, range(1, replicates + 1))) / replicates


def why(probed: Probed) -> str:
    """What a run that fails misses: ``ttft:p90<2s``."""
    return ", ".join(probed.broken)


def tightness(found: Smallest, load: float) -> str:
    """Why one replica less would not do, in a clause: ``22 replicas miss ttft:p90<2s``."""
    if found.fewer is None:
        return "there is no replica less"
    replicas, at = found.resolved.num_replicas - 1, load_of(found.fewer)
    return f"{replicas:,} miss {why(found.fewer)} at {at:,.4g}" + ("" if at == load else f", {at / load - 1:.1%} more")

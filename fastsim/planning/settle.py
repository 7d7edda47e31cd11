"""The load that a deployment bears for good: found in runs that are steady, and confirmed in a longer one."""

from dataclasses import dataclass
from functools import partial
from math import ceil

from fastsim.planning.bracket import Bracket, highest_rate, most_users
from fastsim.planning.steady import above_quantiles, outlasting, requests, seconds
from fastsim.planning.stream import NUM_REQUESTS
from fastsim.planning.trials import CONFIRM, CONFIRMING, Trials, hold, load_of
from fastsim.simulation.probe import ROUNDS, Probed

LONGER = 1.2  # times as many requests as a run has: fewer more are not worth another search
LENGTHENINGS = 4  # at most
MANY_USERS = 16 * NUM_REQUESTS  # requests of a run with users, whose number is not bounded otherwise


@dataclass(frozen=True, slots=True)
class Settled:
    """The highest load that holds, and the runs that show it."""

    load: float  # requests/s or users: with ``tolerance`` more the confirming run still meets the objectives; 0: none
    bracket: Bracket  # of the runs that it was found with
    held: Probed | None  # the confirming run, with another draw, that meets the objectives; None: none does
    confirming: tuple[Probed, ...]  # all runs of that length
    number: int  # requests of a run that it was found with
    ceiling: float  # requests/s that finish while the queue is never empty

    @property
    def failing(self) -> Probed | None:
        """The run at the lowest load above ``load`` that does not meet the objectives; None: all do."""
        failed = [probed for probed in (*self.confirming, self.bracket.high) if probed is not None and not probed.met]
        return min(failed, key=load_of, default=None)

    @property
    def probes(self) -> tuple[Probed, ...]:
        """All runs, in order."""
        return (*self.bracket.probes, *self.confirming)


def settle(trials: Trials, tolerance: float, guess: float | None = None, ceiling: float | None = None) -> Settled:
    """Find the highest load that holds.

    Runs begin with the requests that the source has at least, or as many as must arrive for an overload of
    ``tolerance`` to show. They become longer until they outlast the longest request. The load found must hold in a run
    CONFIRM times as long, of another draw; where it does not, the highest one that does is taken. What is left is
    ``tolerance`` for further draws.

    ``guess``: a load to begin with, which is close; ``ceiling``: the requests/s that finish while the queue is never
    empty; both come from an earlier search.
    """
    users, number, most = trials.source.users, trials.source.least, trials.most
    ceiling = ceiling or trials.throughput(number)
    number = max(number, above_quantiles(trials.objectives))
    if users:
        guess = guess or trials.resolved.num_engines * trials.resolved.scheduler.max_num_seqs
    else:
        span = seconds(trials.objectives, tolerance, trials.sample)
        number = requests(ceiling, span, number, most)
        if guess is None and number >= 2 * trials.source.least:  # few requests show no ceiling
            ceiling = trials.throughput(number)
    if guess is None:
        bracket = bracketed(trials, number, ceiling, ceiling, tolerance)
    else:
        bracket = bracketed(trials, number, guess, ceiling, tolerance, step=1 + 2 * tolerance)
    for _ in range(LENGTHENINGS):
        low = bracket.low
        if low is None:
            break
        longer = outlasting(low, number, most)
        if users and bracket.high is None:
            longer = max(longer, min(4 * number, MANY_USERS, most))
        if longer < LONGER * number:
            break
        number = longer
        again = bracketed(trials, number, load_of(low), ceiling, tolerance, step=1.05)
        bracket = Bracket(again.low, again.high, bracket.probes + again.probes)
    if bracket.low is None:
        return Settled(0.0, bracket, None, (), number, ceiling)
    # Where every rate passes, the deployment still finishes no more than its ceiling.
    borne = ceiling if bracket.high is None and not users else load_of(bracket.low)
    held, tried = hold(
        partial(trials.at, num_requests=CONFIRM * number, draw=CONFIRMING), borne, tolerance, whole=users
    )
    load = load_of(held) / (1 + tolerance) if held is not None else 0.0
    return Settled(max(1.0, round(load)) if users and load else load, bracket, held, tuple(tried), number, ceiling)


@dataclass(frozen=True, slots=True)
class Borne:
    """Whether a deployment bears a load for good, and the runs that show it."""

    met: bool
    at_load: Probed
    failing: Probed  # the last run, which fails if the load is not borne
    number: (
        int  # requests of a run; the one that confirms it, with another draw and more load, has CONFIRM times as many
    )


def bear(trials: Trials, load: float, tolerance: float) -> Borne:
    """Whether a load holds, with ``tolerance`` to spare, in runs that are as long as those of ``settle``."""
    number = length(trials, load, tolerance)
    last = at_load = trials.at(load, number)
    if last.met:
        last = trials.at(spared(load, tolerance, trials.source.users), CONFIRM * number, CONFIRMING)
    return Borne(last.met, at_load, last, number)


def length(trials: Trials, load: float, tolerance: float) -> int:
    """The requests of a run under a load that outlasts what ``settle`` says."""
    number = shortest(trials, load, tolerance)
    for _ in range(LENGTHENINGS):
        longer = outlasting(trials.at(load, number), number, trials.most)
        if longer < LONGER * number:
            break
        number = longer
    return number


def shortest(trials: Trials, load: float, tolerance: float) -> int:
    """The requests of a run under a load, at least: those of the source, and as many as show an overload."""
    number = max(trials.source.least, above_quantiles(trials.objectives))
    if trials.source.users:
        return max(number, ROUNDS * int(load))
    span = seconds(trials.objectives, tolerance, trials.sample)
    return requests(load, span, number, trials.most)


def spared(load: float, share: float, users: bool) -> float:
    """A load that is a share larger; of users, a whole number."""
    return ceil(load * (1 + share)) if users else load * (1 + share)


def bracketed(
    trials: Trials, number: int, guess: float, ceiling: float, tolerance: float, step: float = 1.3, draw: int = 0
) -> Bracket:
    """Bracket the highest load that runs of ``number`` requests of a draw bear; ``ceiling``: as for ``settle``."""
    at = partial(trials.at, num_requests=number, draw=draw)
    if trials.source.users:
        return most_users(at, int(guess), trials.prober(number, draw).most_users, tolerance)
    return highest_rate(at, guess, ceiling, tolerance, step)

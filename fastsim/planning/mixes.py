"""The cheapest mix of pools that serves a rate within the objectives."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import ceil
from pathlib import Path
from typing import Any

from fastsim.deployment.description import Deployment
from fastsim.deployment.resolve import of_pools, resolve, with_copies
from fastsim.deployment.resolved import Resolved
from fastsim.errors import ConfigError
from fastsim.kernels.tables import Cost
from fastsim.planning.capacity import TOLERANCE
from fastsim.planning.fleet import REPLICATES, Fleet, fleet_of
from fastsim.planning.replicas import Smallest, chance_of, margin_of, smallest, why
from fastsim.planning.rungs import WATCHED
from fastsim.planning.settle import shortest, spared
from fastsim.planning.stream import Source
from fastsim.planning.trials import CONFIRM, CONFIRMING, Trials
from fastsim.predictors.build import build_cost
from fastsim.result.metrics.objectives import DEFAULTS, Objective, parse_all
from fastsim.simulation.probe import Probed
from fastsim.simulation.run import Progress

Numbers = tuple[int, ...]  # of replicas, a number for each pool
MORE = 4  # times the pools are repeated once more, where as many as seem enough do not hold in a longer run
COARSE = 16  # numbers of replicas of a pool that are tried before those between the best of them


@dataclass(frozen=True, slots=True)
class Mix:
    """The cheapest mix of pools, or what the pools as they are given miss.

    Attributes
    ----------
    fleet : Fleet or None
        The mix. None where no mix was found that serves the rate.
    missed : str
        What the pools miss in the ratio that they have, however many there are; empty where there is a mix.
    resolved : Resolved
        The deployment as given.
    notes : tuple of str
        What became of the requests, a sentence each.
    """

    fleet: Fleet | None
    missed: str
    resolved: Resolved
    notes: tuple[str, ...]


def cheapest_mix(
    rate: float,
    deployment: Deployment,
    workload: str | Path | Mapping[str, Any],
    objectives: Sequence[str | Objective] = (),
    *,
    num_requests: int | None = None,
    replicates: int = REPLICATES,
    too_long: str = "refuse",
    unit: str | None = None,
    progress: Progress | None = None,
) -> Mix:
    """Find the numbers of replicas of a deployment's pools that serve a rate at the least cost.

    The search begins with as many replicas as serve the rate in the ratio of the pools as given, and with each pool
    alone where it can be. Cheaper mixes are then tried: all of them where a pool has fewer than 16 replicas, else those
    between the best of a coarse grid. More replicas are taken never to serve less. A mix must hold as a fleet does.

    Parameters
    ----------
    rate : float
        The rate to serve, requests/s.
    deployment : Deployment
        A deployment with pools. A pool may be left out of the mix, but for the last of its role.
    workload, objectives, num_requests, replicates, too_long, unit, progress
        As of ``fleets``.

    Returns
    -------
    Mix
        The cheapest mix, or what was missed.

    Raises
    ------
    errors.InputError
        When a GPU has no price, or the deployment, the workload or an objective is not valid.
    """
    wanted, given = parse_all(objectives, "--slo") or DEFAULTS, resolve(deployment)
    for kind in given.kinds:
        if not kind.price:
            raise ConfigError(
                f"device: {kind.device.name} has no price_per_hour, by which mixes are compared; give one (e.g. "
                f"--price {kind.device.name}=2.50)"
            )
    source = Source(workload, deployment.seed, num_requests=num_requests, unit=unit, too_long=too_long)
    mixes = _Mixes(given, source, (*wanted, *WATCHED), rate, progress)
    found = mixes.cheapest()
    notes = mixes.whole.sample.notes
    if found is None:
        return Mix(None, mixes.missed, given, notes)
    trials, smallest_found = mixes.as_found(found, replicates)
    fleet = fleet_of(smallest_found, trials, rate, wanted)
    return Mix(replace(fleet, tight=mixes.tight(found)), "", given, notes)


class _Mixes:
    """Simulates mixes of the pools of a deployment at a rate, each only once."""

    def __init__(
        self,
        given: Resolved,
        source: Source,
        objectives: Sequence[Objective],
        rate: float,
        progress: Progress | None,
    ) -> None:
        self.given, self.source, self.objectives, self.rate = given, source, objectives, rate
        self.progress = progress
        self.costs: tuple[Cost, ...] = build_cost(given).costs
        self.dollars = [(each.resolved.dollars_per_hour or 0.0) / each.pool.num_replicas for each in given.pools]
        self.whole = Trials(with_copies(given, 1), source, objectives, self.costs)
        self.more = spared(rate, TOLERANCE, False)
        self.number = shortest(self.whole, self.more, TOLERANCE)
        self.known: dict[Numbers, Probed | None] = {}
        self.held: dict[Numbers, Probed] = {}
        self.missed = ""

    def cheapest(self) -> Numbers | None:
        """The cheapest mix that holds; None if none of those to begin with does."""
        best: Numbers | None = None
        starts = list(self._starts())
        for done, (unit, copies) in enumerate(starts):
            for number in range(copies, copies + MORE):
                start = tuple(each * number for each in unit)
                if best is not None and self.price(start) >= self.price(best):
                    break
                if self._holds(start):
                    best = start
                    break
            self._share(0.3 * (done + 1) / len(starts))
        if best is None:
            self.missed = self.missed or "no mix that was tried holds in a longer run"
            return None
        # The pool whose replicas cost least is found by bisection, for each choice of the others.
        last = min(range(len(self.dollars)), key=lambda pool: self.dollars[pool])
        step = 1
        while max(self._most(pool, best) for pool in range(len(best))) / step >= COARSE:
            step *= 2
        near = False
        while True:
            around = list(self._around(best, last, step, near))
            for done, others in enumerate(around):
                best = self._better(best, others, last)
                self._share(0.3 + 0.6 * (done + 1) / len(around))
            if step == 1:
                return best
            step, near = step // 2, True

    def price(self, numbers: Numbers) -> float:
        """Dollars per hour."""
        return sum(number * dollars for number, dollars in zip(numbers, self.dollars, strict=True))

    def as_found(self, numbers: Numbers, replicates: int) -> tuple[Trials, Smallest]:
        """The mix as ``smallest`` describes a fleet, and the trials of it."""
        trials = self._trials(numbers)
        margin, is_least = margin_of(lambda load: trials.at(load, self.number), self.rate, self.more, False)
        chance = chance_of(trials, self.rate, self.number, replicates) if replicates else None
        at_load = trials.at(self.rate, self.number)
        resolved, held = trials.resolved, self.held[numbers]
        return trials, Smallest(resolved, at_load, held, None, margin, is_least, chance, self.number)

    def tight(self, numbers: Numbers) -> str:
        """Why one replica less of a pool would not do, a clause: ``1 prompts + 2 tokens miss ttft:p90<2s``."""
        said = []
        for place, number in enumerate(numbers):
            fewer = tuple(each - (other == place) for other, each in enumerate(numbers))
            if number and (probed := self._probed(fewer)) is not None and not probed.met:
                said.append(f"{self._named(fewer)} miss {why(probed)}")
        return "; ".join(said) or "no pool has a replica less"

    def _starts(self) -> Iterator[tuple[Numbers, int]]:
        """The pools in the ratio that they have, and each of them alone, and how many times these serve the rate."""
        copies = self.given.copies
        ratio = tuple(each.pool.num_replicas // copies for each in self.given.pools)
        alone = [tuple(int(place == other) for other in range(len(ratio))) for place in range(len(ratio))]
        for unit in dict.fromkeys((ratio, *alone)):
            trials = self._trials_of(unit)
            if trials is None:
                continue
            guess = ceil(self.rate / max(trials.throughput(self.number), 1e-9))
            found = smallest(trials, self.rate, guess, TOLERANCE, 0)
            if isinstance(found, Smallest):
                yield unit, found.resolved.copies
            elif unit == ratio:
                self.missed = f"many times {self._named(unit)} miss {why(found)}"

    def _around(self, best: Numbers, last: int, step: int, near: bool) -> Iterator[Numbers]:
        """Numbers of all pools but the last, 0 in its place; ``near``: those about the best only."""
        ranges = []
        for pool, number in enumerate(best):
            if pool == last:
                ranges.append([0])
                continue
            low, high = (number - 2 * step, number + 2 * step) if near else (0, self._most(pool, best))
            values = [value for value in range(max(0, low), high + 1) if (value - number) % step == 0]
            ranges.append(sorted(values, key=lambda value: abs(value - number)))
        yield from product(*ranges)

    def _most(self, pool: int, best: Numbers) -> int:
        """The most replicas of a pool in a mix that is cheaper than the best."""
        return int(self.price(best) / self.dollars[pool])

    def _better(self, best: Numbers, others: Numbers, last: int) -> Numbers:
        """The cheapest mix with these numbers of the other pools, if it is cheaper than the best."""

        def mix(number: int) -> Numbers:
            return tuple(number if pool == last else other for pool, other in enumerate(others))

        least, high = 0, ceil((self.price(best) - self.price(others)) / self.dollars[last] - 1e-9) - 1
        if high < 0 or not self._passes(mix(high)):
            return best
        while high > least:
            middle = (least + high) // 2
            if self._passes(mix(middle)):
                high = middle
            else:
                least = middle + 1
        while self.price(mix(high)) < self.price(best) - 1e-9:
            if self._holds(mix(high)):
                return mix(high)
            high += 1
        return best

    def _passes(self, numbers: Numbers) -> bool:
        """Whether a mix bears the rate; one with fewer replicas than one that does not does not either."""
        for other, probed in self.known.items():
            if (probed is None or not probed.met) and all(a <= b for a, b in zip(numbers, other, strict=True)):
                return False
        probed = self._probed(numbers)
        return probed is not None and probed.met

    def _holds(self, numbers: Numbers) -> bool:
        """Whether a mix also bears the rate in a longer run, of another draw."""
        if not self._passes(numbers):
            return False
        trials = self._trials(numbers)
        self.held[numbers] = held = trials.at(self.more, CONFIRM * self.number, CONFIRMING)
        return held.met

    def _probed(self, numbers: Numbers) -> Probed | None:
        """The run of a mix at the rate, with a little to spare; None for a mix that there cannot be."""
        if numbers not in self.known:
            trials = self._trials_of(numbers)
            self.known[numbers] = None if trials is None else trials.at(self.more, self.number)
        return self.known[numbers]

    def _named(self, numbers: Numbers) -> str:
        named = zip(numbers, self.given.pools, strict=True)
        return " + ".join(f"{number:,} {each.pool.name}" for number, each in named if number)

    def _trials(self, numbers: Numbers) -> Trials:
        trials = self._trials_of(numbers)
        assert trials is not None, "the mix has been simulated"
        return trials

    def _trials_of(self, numbers: Numbers) -> Trials | None:
        if not any(numbers):
            return None
        try:
            resolved = of_pools(self.given, numbers)
        except ConfigError:  # a role without its partner, or prompts without a pool
            return None
        costs = tuple(cost for cost, number in zip(self.costs, numbers, strict=True) if number)
        return Trials(resolved, self.source, self.objectives, costs)

    def _share(self, done: float) -> None:
        if self.progress:
            self.progress(done)

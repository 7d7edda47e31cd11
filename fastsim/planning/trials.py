"""Trials of one deployment: runs of any length and draw, under any load, each judged by objectives and its queue."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from fastsim.deployment.description import Deployment
from fastsim.deployment.resolve import resolve
from fastsim.deployment.resolved import Resolved
from fastsim.errors import ConfigError
from fastsim.kernels.tables import Cost
from fastsim.planning.steady import judged
from fastsim.planning.stream import Source
from fastsim.predictors.build import build_cost
from fastsim.result.metrics.objectives import DEFAULTS, Objective, parse_all
from fastsim.simulation.arena import Arena
from fastsim.simulation.probe import Probed, Prober
from fastsim.workload import Workload
from fastsim.workload.loading import is_loop

CONFIRM = 3  # times as many requests as a run that a plan is found with has the run that confirms it
CONFIRMING = 10_001  # the draw of that run


class Trials:
    """Simulates a deployment under loads: requests/s, or numbers of users if the source is for those."""

    def __init__(
        self,
        resolved: Resolved,
        source: Source,
        objectives: Sequence[Objective],
        cost: Cost | tuple[Cost, ...] | None = None,
    ) -> None:
        """``cost``: its operator times; by default they are built."""
        self.resolved, self.source, self.objectives = resolved, source, objectives
        self.num_runs = 0
        self.num_simulated = 0  # requests
        self._cost = build_cost(resolved).costs if cost is None else cost
        self._arena = Arena()
        self._known: dict[tuple[float, int, int], Probed] = {}
        self._probers: dict[tuple[int, int], Prober] = {}  # the last two, by number of requests and draw

    def with_replicas(self, resolved: Resolved) -> "Trials":
        """Trials of a deployment that differs in its number of replicas only."""
        return Trials(resolved, self.source, self.objectives, self._cost)

    def prober(self, num_requests: int, draw: int = 0) -> Prober:
        """The simulations with these requests."""
        key = (num_requests, draw)
        if key not in self._probers:
            if len(self._probers) > 1:
                self._probers.pop(next(iter(self._probers)))
            requests = self.source.draw(num_requests, self.resolved, draw)
            self._probers[key] = Prober(self.resolved, self._cost, requests, self._arena)
        return self._probers[key]

    @property
    def most(self) -> int:
        """The most requests of a run."""
        return self.source.most(self.sample)

    @cached_property
    def sample(self) -> Workload:
        """As few requests of the first draw as a run has at least."""
        return self.source.draw(self.source.least, self.resolved)

    def forget(self) -> None:
        """Release the memory of the simulations."""
        self._probers.clear()
        self._arena = Arena()

    def at(self, load: float, num_requests: int, draw: int = 0) -> Probed:
        """Simulate a load with ``num_requests`` requests of a draw, each only once."""
        known = self._known.get((load, num_requests, draw))
        if known is None:
            known = self._known[load, num_requests, draw] = self._run(load, num_requests, draw)
        return known

    def _run(self, load: float, num_requests: int, draw: int) -> Probed:
        prober = self.prober(num_requests, draw)
        if self.source.users:
            probed = prober.with_users(min(int(load), prober.num_requests), self.objectives)
        else:
            probed = prober.at(load, self.objectives)
        self.num_runs += 1
        self.num_simulated += probed.simulated
        return judged(probed)

    def throughput(self, num_requests: int) -> float:
        """The requests/s that finish while the queue is never empty."""
        self.num_runs += 1
        self.num_simulated += num_requests
        return self.prober(num_requests).throughput()


def trials_of(
    deployment: Deployment,
    workload: Workload | str | Path | Mapping[str, Any],
    objectives: Sequence[str | Objective],
    users: bool | None,
    **options: Any,
) -> Trials:
    """Trials as a capacity or a curve asks for them; ``options`` are those of ``Source``.

    ``objectives``: Vidur's where there are none. ``users``: None: whether the workload is a closed loop. Raises
    ConfigError for a closed loop without users, and what ``resolve`` raises.
    """
    wanted = parse_all(objectives, "--slo") or DEFAULTS
    resolved, loop = resolve(deployment), is_loop(workload)
    users = loop if users is None else users
    if loop and not users:
        raise ConfigError("users: a closed loop has a number of users and no rate to look for (valid: true)")
    return Trials(resolved, Source(workload, deployment.seed, users=users, **options), wanted)


def load_of(probed: Probed) -> float:
    """The load of a run: its number of users, or its rate in requests/s."""
    return probed.rate if probed.users is None else float(probed.users)


def hold(
    at: Callable[[float], Probed], load: float, tolerance: float, whole: bool
) -> tuple[Probed | None, list[Probed]]:
    """The highest load up to ``load`` that a longer run meets its objectives at, and all that was tried.

    Lower loads are tried in steps that double, then the last step is halved until the one that passes is within
    ``tolerance`` of one that fails. ``whole``: whether loads are whole numbers. None: no load passes.
    """
    tried: list[Probed] = []

    def passes(tested: float) -> bool:
        tried.append(at(tested))
        return tried[-1].met

    low, high, step = load, None, tolerance
    while not passes(low):
        if low <= (1.0 if whole else load / 1000):
            return None, tried
        high, low = low, load / (1 + step)
        low, step = (max(1.0, min(high - 1, low // 1)) if whole else low), 2 * step
    best = tried[-1]
    while high is not None and high - low > (max(1.0, tolerance * low) if whole else tolerance * low):
        middle = (low + high) // 2 if whole else (low * high) ** 0.5
        if passes(middle):
            low, best = middle, tried[-1]
        else:
            high = middle
    return best, tried

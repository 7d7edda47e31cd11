"""Estimates the engine's own time beside operator times that are known: host, factors of families, and front end."""

import numpy as np
from numpy.typing import NDArray

from fastsim.calibration.bounds import BOUNDS
from fastsim.calibration.by_replay import Coefficient, fitted
from fastsim.calibration.estimate import Estimate, coefficient, interval, rounded
from fastsim.calibration.fit import Column, fit, huber, spread_of
from fastsim.calibration.observed import Observed
from fastsim.calibration.replays import Replay, Replayed
from fastsim.calibration.steps import Steps
from fastsim.deployment.calibration import Calibration, Factors, Fitted, Host
from fastsim.deployment.resolved import Resolved
from fastsim.errors import ConfigError
from fastsim.kernels.tables import Cost, FastsimTables
from fastsim.predictors.build import build_cost
from fastsim.predictors.calibrated import HOST, family_of, scaled
from fastsim.predictors.tables.by_operator import is_attention, on_each_stage, on_first_stage, on_last_stage

Floats = NDArray[np.float64]
PER_STEP, PER_SEQUENCE, FRONT_END = "host_ms_per_step", "host_ms_per_sequence", "front_end_ms"
OFFSET = PER_STEP
ROUNDS = 3  # of weights
BY_REPLAY = ("gemm", "decode_attention", "prefill_attention", "experts")  # what latencies may tell apart


class Operators:
    """A deployment's operator times, in which host time and factors of families are changed.

    Parameters
    ----------
    resolved : Resolved
        The deployment, without a calibration.
    base : Calibration, optional
        Where all but the host time of a step is taken from.
    """

    def __init__(self, resolved: Resolved, base: Calibration | None) -> None:
        if resolved.predictor.compose != "fastsim":
            raise ConfigError(f"predictor.compose: {resolved.predictor.compose!r} has no calibration (valid: fastsim)")
        self.resolved, self.base = resolved, base
        built = build_cost(resolved)
        self._cost, self._operators = built.cost, built.operators
        families = [family_of(resolved, name) for name in self._operators]
        self.families = [name for name in Factors.model_fields if name in families]
        self.names = [PER_STEP, PER_SEQUENCE, *self.families]
        host = resolved.host_times if base is None or base.host is None else base.host
        factors = Factors() if base is None else base.factors
        self.prior = np.array(
            [host.host_ms_per_step, host.host_ms_per_sequence, *(getattr(factors, name) for name in self.families)]
        )

    def cost(self, values: Floats) -> Cost:
        """Times of batches with given values, float64[names]."""
        factors = dict(zip(self.families, values[2:].tolist(), strict=True))
        tables, _ = scaled(self.resolved, self._cost.fastsim, self._operators, factors)
        host = values[0] + values[1] * np.arange(tables.host_ms.size)
        host[0] = 0.0
        return self._cost._replace(fastsim=tables._replace(host_ms=host))

    def columns(self, steps: Steps) -> Floats:
        """What each value is multiplied by in the times of steps, float64[steps, names], ms."""
        found = {name: np.zeros(len(steps)) for name in self.families}
        for name, tables in self._operators.items():
            if (family := family_of(self.resolved, name)) != HOST:
                found[family] += _ms(tables, self._cost.fastsim, steps)
        return np.column_stack([np.ones(len(steps)), steps.num_seqs, *found.values()])

    def least(self, steps: Steps) -> Floats:
        """What the host takes beside the GPUs, which they do not go below, float64[steps], ms."""
        table = self._cost.fastsim.least_ms
        return table[np.minimum(steps.num_seqs.astype(np.int64), table.size - 1)]

    def seconds(self, values: Floats, steps: Steps) -> Floats:
        """How long steps take, float64[steps], s."""
        columns = self.columns(steps)
        gpu = np.maximum(columns[:, 2:] @ values[2:], self.least(steps))
        return np.asarray((gpu + columns[:, :2] @ values[:2]) * 1e-3)


def estimate(of: Operators, observed: Observed, replay: Replay | None, given: float | None, draws: int) -> Estimate:
    """Host time, factors and front end of what was observed, with so many draws for intervals.

    They are those of the steps where there are any. ``given``: the front end, s; None where it is fitted.
    """
    values, drawn, left = of.prior, np.tile(of.prior, (draws, 1)), dict[str, str]()
    front_end, front_ends = given or 0.0, np.zeros(0)
    if observed.steps is not None:
        values, drawn, left = _of_steps(of, observed.steps, draws)
        if replay is not None and given is None and of.base is None:
            front_end, front_ends = replay.front_end(of.cost(values), observed.chosen, draws)
    else:
        assert observed.requests is not None and replay is not None
        values, drawn, left, front_end, front_ends = _of_requests(of, observed, replay, given, draws)
    if of.base is not None:
        front_end = (of.base.front_end_ms or 0.0) / 1e3
    listed: list[Fitted] = []
    for at, name in enumerate(of.names):
        bounds = name if name in BOUNDS else "factor"
        ends = interval(drawn[:, at])
        listed.append(
            coefficient(name, float(values[at]), ends, left.get(name, ""), prior=float(of.prior[at]), bounds=bounds)
        )
    front_end_ms = None if given is not None else 1e3 * front_end
    if front_end_ms is not None and of.base is None:
        listed.append(coefficient(FRONT_END, front_end_ms, interval(1e3 * front_ends)))
    factors = {name: rounded(float(value)) for name, value in zip(of.families, values[2:], strict=True)}
    parts = {
        "host": Host(host_ms_per_step=rounded(float(values[0])), host_ms_per_sequence=rounded(float(values[1]))),
        "factors": Factors(**factors),
        FRONT_END: None if front_end_ms is None else rounded(front_end_ms),
    }
    return Estimate(of.cost(values), front_end, lambda steps: of.seconds(values, steps), tuple(listed), parts)


def _of_steps(of: Operators, steps: Steps, draws: int) -> tuple[Floats, Floats, dict[str, str]]:
    columns, ms = of.columns(steps), steps.seconds * 1e3
    inside = columns[:, 2:] @ of.prior[2:] > of.least(steps)  # the others do not wait for their operators
    shown, target = columns * np.where(inside, 1.0, 0.0)[:, None], ms - 1e3 * of.seconds(of.prior, steps)
    shown[:, :2] = columns[:, :2]
    bound = [BOUNDS.get(name, BOUNDS["factor"])[:2] for name in of.names]
    named = [
        Column(name, shown[:, at], bound[at][0] - of.prior[at], bound[at][1] - of.prior[at], name == PER_STEP)
        for at, name in enumerate(of.names)
        if shown[:, at].any() and (of.base is None or name == OFFSET)
    ]
    expected, found = 1e3 * of.seconds(of.prior, steps), None
    for _ in range(ROUNDS):
        off = target / np.sqrt(expected) if found is None else (target - _sum(named, found)) / np.sqrt(expected)
        result = fit(named, target, huber(off, spread_of(off)) / expected, draws)
        found = result.values
    at = [of.names.index(column.name) for column in named]
    values, drawn = of.prior.copy(), np.tile(of.prior, (draws, 1))
    values[at] += result.values
    drawn[:, at] += result.draws
    unseen = {name: "no step has any" for name in of.names if name not in {column.name for column in named}}
    if of.base is not None:
        unseen = dict.fromkeys(unseen, "is that of the calibration that this one starts from")
    return values, drawn, {**unseen, **result.left}


def _sum(columns: list[Column], values: Floats) -> Floats:
    return np.column_stack([column.values for column in columns]) @ values


def _of_requests(
    of: Operators, observed: Observed, replay: Replay, given: float | None, draws: int
) -> tuple[Floats, Floats, dict[str, str], float, Floats]:
    assert observed.requests is not None
    tpot = observed.requests.tpot
    step = 1e3 * float(np.nanmedian(tpot)) if not np.isnan(tpot).all() else 10.0
    units = {PER_STEP: 0.3 * step, PER_SEQUENCE: 0.02 * step} | dict.fromkeys(BY_REPLAY, 0.2)
    names = [name for name in of.names if name in units] if of.base is None else [OFFSET]
    at = [of.names.index(name) for name in names]
    found = [
        Coefficient(
            name,
            float(of.prior[place]),
            units[name],
            *BOUNDS.get(name, BOUNDS["factor"])[:2],
            prior=float(of.prior[place]),
            is_kept=name == PER_STEP,
        )
        for name, place in zip(names, at, strict=True)
    ]
    fits_front_end = given is None and of.base is None
    if fits_front_end:
        found.append(Coefficient(FRONT_END, 5.0, 5.0, *BOUNDS[FRONT_END][:2], is_kept=True))
    known = given if given is not None else 0.0 if of.base is None else (of.base.front_end_ms or 0.0) / 1e3

    def replayed(some: Floats) -> Replayed:
        values = of.prior.copy()
        values[at] = some[: len(at)]
        return replay.of(of.cost(values), float(some[-1]) / 1e3 if fits_front_end else known)

    some, some_drawn, left = fitted(observed.requests, found, replayed, draws, observed.chosen)
    values, drawn = of.prior.copy(), np.tile(of.prior, (draws, 1))
    values[at], drawn[:, at] = some[: len(at)], some_drawn[:, : len(at)]
    untold = {name: "latencies of requests do not tell it" for name in of.names if name not in names}
    if fits_front_end:
        return values, drawn, {**untold, **left}, float(some[-1]) / 1e3, some_drawn[:, -1] / 1e3
    return values, drawn, {**untold, **left}, known, np.zeros(0)


def _ms(tables: FastsimTables, whole: FastsimTables, steps: Steps) -> Floats:
    """What an operator takes in each step, float64[steps], ms; prompts of a step count as equally long."""
    tokens, sampled = steps.num_tokens.astype(np.int64), steps.num_seqs.astype(np.int64)
    ms = on_each_stage(tables, tokens) + on_first_stage(tables, tokens) + on_last_stage(tables, sampled)
    if not is_attention(tables):
        return ms
    if tables.decode_ms.size:
        number = np.minimum(steps.num_decode_seqs.astype(np.int64), tables.decode_ms.shape[0] - 1)
        mean = steps.decode_context_tokens / np.maximum(number, 1)
        mixed = np.where(steps.num_prefill_seqs > 0, whole.mixed, 1.0)
        ms = ms + np.where(number > 0, _between(tables.decode_ms, number, mean / tables.kv_step), 0.0) * mixed
    if tables.prefill_ms.size:
        prompts = np.maximum(steps.num_prefill_seqs, 1)
        chunk, before = steps.num_prefill_tokens / prompts, steps.prefill_context_tokens / prompts
        row = np.minimum((before / tables.kv_step).astype(np.int64), tables.prefill_ms.shape[0] - 2)
        low, high = (_between(tables.prefill_ms, row + more, chunk / tables.chunk_step) for more in (0, 1))
        ms = ms + steps.num_prefill_seqs * (low + (high - low) * (before / tables.kv_step - row))
    return ms


def _between(grid: Floats, row: NDArray[np.int64], at: Floats) -> Floats:
    """Entries of rows of a grid, linear between columns and beyond the last."""
    cell = np.minimum(at.astype(np.int64), grid.shape[1] - 2)
    low = grid[row, cell]
    return np.asarray(low + (grid[row, cell + 1] - low) * (at - cell))

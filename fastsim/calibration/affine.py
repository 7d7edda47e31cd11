"""Estimates affine terms and a front end, from steps, from requests, or from both."""

import numpy as np
from numpy.typing import NDArray

from fastsim.calibration import affine_requests, affine_steps
from fastsim.calibration.affine_steps import AffineFit
from fastsim.calibration.bounds import BOUNDS
from fastsim.calibration.by_replay import Coefficient, fitted
from fastsim.calibration.estimate import Estimate, coefficient, interval, rounded
from fastsim.calibration.fit import SEED
from fastsim.calibration.observed import Observed
from fastsim.calibration.replays import Replay, Replayed
from fastsim.calibration.steps import Steps
from fastsim.calibration.sums import STRETCHES, stretches_of
from fastsim.deployment.calibration import Calibration, Fitted
from fastsim.deployment.sections import Affine
from fastsim.predictors.affine import NS, by_tokens, cost_of

Floats = NDArray[np.float64]
OFFSET, FRONT_END = "constant_ns", "front_end_ms"
SAME = "is that of the calibration that this one starts from"


def estimate(observed: Observed, replay: Replay | None, given: float | None, stages: int, draws: int) -> Estimate:
    """Affine terms of what was observed, with so many draws for intervals.

    They are those of the steps where there are any, as a step tells more than a request. ``given``: the front end, s;
    None where it is fitted.
    """
    listed: list[Fitted] = []
    if observed.steps is not None:
        found, front_end, drawn = affine_steps.fitted(observed.steps, draws), given or 0.0, np.zeros(0)
        terms = terms_of(found)
        if replay is not None and given is None:
            front_end, drawn = replay.front_end(cost_of(terms, stages), observed.chosen, draws)
    else:
        assert observed.requests is not None and replay is not None
        found, front_end, drawn = affine_requests.fitted_on(observed.requests, replay, given, draws, observed.chosen)
        terms = terms_of(found)
    for name in NS:
        if found.terms.get(name) or name in found.left:
            listed.append(
                coefficient(name, found.terms.get(name, 0.0), found.intervals.get(name), found.left.get(name, ""))
            )
    for (tokens, ns), ends in zip(found.by_tokens, found.by_tokens_intervals, strict=False):
        if not ns:  # at the last, where times go on as a line
            continue
        name = f"by_tokens_ns at {tokens}"
        listed.append(coefficient(name, ns, ends, bounds="by_tokens_ns"))
    if given is None:
        listed.append(coefficient(FRONT_END, 1e3 * front_end, interval(1e3 * drawn)))
    return _estimate(terms, stages, front_end, None if given is not None else 1e3 * front_end, listed)


def offset(observed: Observed, replay: Replay | None, base: Calibration, stages: int, draws: int) -> Estimate:
    """The terms of another calibration, of which only the time of every step is fitted."""
    assert base.affine is not None
    front_end = (base.front_end_ms or 0.0) / 1e3
    if observed.steps is not None:
        constant, drawn = _of_steps(observed.steps, base.affine, draws)
    else:
        assert observed.requests is not None and replay is not None
        one = Coefficient(OFFSET, base.affine.constant_ns, 1e6, *BOUNDS[OFFSET][:2], is_kept=True)
        terms = base.affine

        def replayed(values: Floats) -> Replayed:
            return replay.of(cost_of(terms.model_copy(update={OFFSET: float(values[0])}), stages), front_end)

        values, all_draws, _ = fitted(observed.requests, [one], replayed, draws, observed.chosen)
        constant, drawn = float(values[0]), all_draws[:, 0]
    listed = [
        coefficient(OFFSET, constant, interval(drawn))
        if known.name == OFFSET
        else known.model_copy(update={"low": None, "high": None, "left": SAME})
        for known in base.coefficients
    ]
    found = base.affine.model_copy(update={OFFSET: rounded(constant)})
    return _estimate(found, stages, front_end, base.front_end_ms, listed)


def _of_steps(steps: Steps, terms: Affine, draws: int) -> tuple[float, Floats]:
    """The constant, ns, with which all steps together take as long as they took, and draws of it."""
    without = seconds_of(terms.model_copy(update={OFFSET: 0.0}), steps) * 1e9
    weights = 1 / np.maximum(without + terms.constant_ns, 1.0)
    late = steps.seconds * 1e9 - without
    stretch = stretches_of(len(steps))
    above, below = (np.bincount(stretch, one, STRETCHES) for one in (weights * late, weights))
    drawn = np.random.default_rng(SEED).integers(0, STRETCHES, (draws, STRETCHES))
    least, most, _ = BOUNDS[OFFSET]
    constants = above[drawn].sum(axis=1) / below[drawn].sum(axis=1)
    return float(np.clip(above.sum() / below.sum(), least, most)), np.clip(constants, least, most)


def terms_of(found: AffineFit) -> Affine:
    """Terms as a deployment has them, with six digits."""
    pairs = tuple((tokens, rounded(ns)) for tokens, ns in found.by_tokens)
    return Affine(**{name: rounded(ns) for name, ns in found.terms.items()}, by_tokens_ns=pairs or None)


def seconds_of(terms: Affine, steps: Steps) -> Floats:
    """How long steps take, float64[steps], s."""
    ns = sum(getattr(terms, name) * count for name, count in affine_steps.counts_of(steps).items())
    more = by_tokens(terms)
    tokens = np.minimum(steps.num_tokens, more.size - 1).astype(np.int64)
    return np.asarray((ns + more[tokens]) * 1e-9, np.float64)


def _estimate(terms: Affine, stages: int, front_end: float, fitted_ms: float | None, listed: list[Fitted]) -> Estimate:
    return Estimate(
        cost_of(terms, stages),
        front_end,
        lambda steps: seconds_of(terms, steps),
        tuple(listed),
        {"affine": terms, FRONT_END: None if fitted_ms is None else rounded(fitted_ms)},
    )

"""Calibrates a deployment on a measured run: coefficients from its steps, from latencies of requests, or both."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fastsim.calibration import affine, operators
from fastsim.calibration.estimate import Estimate, rounded
from fastsim.calibration.fit import DRAWS, FOLDS
from fastsim.calibration.observed import Observed, fold_of
from fastsim.calibration.replays import Replay, Replayed, errors
from fastsim.deployment.calibration import Calibration, Fitted, HeldOut, MeasuredOn
from fastsim.deployment.description import Deployment
from fastsim.deployment.resolve import resolve
from fastsim.deployment.resolved import Resolved
from fastsim.deployment.sections import Affine
from fastsim.errors import ConfigError, WorkloadError
from fastsim.measured.recordings import SERVING_SIM

WORDS = {"ttft": "TTFT mean", "tpot": "TPOT mean", "e2e": "E2E mean"}
SOURCES = ("default", "aic", "profile", "affine")  # of operator times that have something to fit
Z = 1.645  # standard deviations to either end of a 90 % interval
STEPS, STEP = "time of all steps", "time of a step, median distance"


@dataclass(frozen=True, eq=False)
class Calibrated:
    """A calibration, and a replay of the run that it was fitted on.

    Attributes
    ----------
    calibration : the coefficients.
    errors : of that replay, by figure, predicted over measured less 1; empty without requests.
    """

    calibration: Calibration
    errors: dict[str, float]


def calibrate(
    observed: Observed,
    deployment: Deployment,
    base: Calibration | None = None,
    progress: Callable[[float], None] | None = None,
) -> Calibrated:
    """Fit what a measured run tells of the deployment that served it.

    Parameters
    ----------
    observed : Observed
        What was measured.
    deployment : Deployment
        What served the run.
    base : Calibration, optional
        A calibration whose coefficients stay as they are, but for the time of every step and the number of KV blocks:
        what a restart of an engine changes. By default everything is fitted.
    progress : callable, optional
        Called with the share of the work that is done, from 0 to 1.

    Returns
    -------
    Calibrated
        The calibration, with intervals and with the errors on parts of the run that were held out in turn.

    Raises
    ------
    errors.InputError
        The deployment cannot run or has no coefficients that can be fitted, or too little was measured.
    """
    given = _given(deployment, observed, base)
    resolved = resolve(given)
    replay = None if observed.requests is None else Replay(observed.requests, given)
    estimate = _method(resolved, replay, base, _front_end(observed, deployment))
    whole, held = estimate(observed, DRAWS), []
    for fold in range(FOLDS):
        if progress:
            progress((1 + fold) / (FOLDS + 1))
        held.append(estimate(observed.without(fold), 0))
    found = {} if replay is None else errors(replay.measured, replay.of(whole.cost, whole.front_end))
    calibration = Calibration(
        engine=resolved.deployment.engine,
        model=resolved.deployment.model,
        device=resolved.deployment.device,
        source=resolved.predictor.source.partition(":")[0],
        num_blocks=_logged_blocks(observed, resolved),
        coefficients=tuple(_widened(one, held) for one in whole.coefficients),
        fitted_on=tuple(_measured_on(*one) for one in observed.files),
        held_out=tuple(
            HeldOut(name=name, error=rounded(error)) for name, error in _held_out(observed, replay, held).items()
        ),
        notes=tuple(_notes(observed, given, resolved)),
        **whole.parts,
    )
    return Calibrated(calibration, {WORDS[name]: error for name, error in found.items()})


def _widened(one: Fitted, held: list[Estimate]) -> Fitted:
    """A coefficient whose interval also holds the spread of those that were fitted without a fold, by the jackknife."""
    others = [other.value for each in held for other in each.coefficients if other.name == one.name]
    if one.low is None or one.high is None or len(others) < FOLDS:
        return one
    spread = Z * float(np.sqrt((FOLDS - 1) * np.var(others)))
    low, high = max(one.least, min(one.low, one.value - spread)), min(one.most, max(one.high, one.value + spread))
    return one.model_copy(update={"low": rounded(low), "high": rounded(high)})


def _given(deployment: Deployment, observed: Observed, base: Calibration | None) -> Deployment:
    """The deployment as it is replayed: with terms where it has none yet, and the KV blocks that were logged."""
    if deployment.calibration is not None:
        raise ConfigError(
            "calibration: the deployment has one already; leave it out to fit everything anew, or name it with --from "
            "to fit the time of every step alone (e.g. --set calibration=null)"
        )
    predictor = deployment.predictor
    kind = predictor.source.partition(":")[0]
    if kind not in SOURCES:
        raise ConfigError(f"predictor.source: {predictor.source!r} cannot be calibrated (valid: {', '.join(SOURCES)})")
    if base is not None and base.source != kind:
        raise ConfigError(f"--from: was fitted with source {base.source}, and predictor.source is {predictor.source}")
    if kind == "affine" and predictor.affine is None:
        predictor = predictor.model_copy(update={"affine": Affine(constant_ns=1e6)})
    given = deployment.model_copy(update={"predictor": predictor})
    blocks = _logged_blocks(observed, resolve(given))
    if blocks is not None and given.scheduler.num_blocks is None:
        given = given.model_copy(update={"scheduler": given.scheduler.model_copy(update={"num_blocks": blocks})})
    return given


def _front_end(observed: Observed, deployment: Deployment) -> float | None:
    """The front end that is given, s; None where it is fitted."""
    if observed.requests is None or observed.requests.layout == SERVING_SIM:
        return 0.0  # latencies count from the engine's queue
    return None if deployment.front_end_ms is None else deployment.front_end_ms / 1e3


def _method(
    resolved: Resolved, replay: Replay | None, base: Calibration | None, front_end: float | None
) -> Callable[[Observed, int], Estimate]:
    """What estimates coefficients of something observed, with so many draws."""
    stages = resolved.pipeline_parallel_size
    if resolved.predictor.source != "affine":
        of = operators.Operators(resolved, base)
        return lambda observed, draws: operators.estimate(of, observed, replay, front_end, draws)
    if base is not None:
        start = base
        return lambda observed, draws: affine.offset(observed, replay, start, stages, draws)
    return lambda observed, draws: affine.estimate(observed, replay, front_end, stages, draws)


def _logged_blocks(observed: Observed, resolved: Resolved) -> int | None:
    """Usable KV blocks of a replica by the engine's log, or by what recorded its steps."""
    if observed.log is not None and (blocks := observed.log.num_blocks(resolved.scheduler.block_size)) is not None:
        return blocks
    whole = observed.steps.num_gpu_blocks if observed.steps is not None else None
    return None if whole is None else whole - 1  # the null block holds nothing


def _held_out(observed: Observed, replay: Replay | None, held: list[Estimate]) -> dict[str, float]:
    """Errors on what was held out in turn, by figure, predicted over measured less 1."""
    found: dict[str, float] = {}
    if observed.steps is not None:
        folds = fold_of(len(observed.steps))
        parts = [observed.steps.of(folds == fold) for fold in range(FOLDS)]
        predicted = np.concatenate([one.seconds(part) for one, part in zip(held, parts, strict=True)])
        seconds = np.concatenate([part.seconds for part in parts])
        found[STEPS] = float(predicted.sum() / seconds.sum() - 1)
        found[STEP] = float(np.median(np.abs(predicted / seconds - 1)))
    if replay is None:
        return found
    replays = [replay.of(one.cost, one.front_end) for one in held]
    names = ("ttft", "tpot", "e2e")
    whole = Replayed(
        *(
            np.select([observed.held(fold) for fold in range(FOLDS)], [getattr(one, name) for one in replays])
            for name in names
        )
    )
    return found | {WORDS[name]: error for name, error in errors(replay.measured, whole).items()}


def _measured_on(path: Path, holds: str) -> MeasuredOn:
    try:
        return MeasuredOn(file=path.name, sha256=hashlib.sha256(path.read_bytes()).hexdigest(), holds=holds)
    except OSError as problem:
        raise WorkloadError(f"{path}: cannot be read: {problem.strerror or problem}") from None


def _notes(observed: Observed, given: Deployment, resolved: Resolved) -> list[str]:
    """What was left out, and what does not fit together, one sentence each."""
    said = [*(observed.steps.notes if observed.steps is not None else ())]
    if observed.requests is not None:
        said += observed.requests.notes
    log = observed.log
    if log is not None and log.running is not None and log.waiting is not None:
        said.append(
            f"the log has {log.lines:,} lines of statistics with requests, {log.running:.3g} running and "
            f"{log.waiting:.3g} waiting on average"
        )
    blocks = _logged_blocks(observed, resolved)
    if blocks is not None and blocks != resolved.memory.num_blocks:
        said.append(f"scheduler.num_blocks: the deployment says {resolved.memory.num_blocks:,}, and the log {blocks:,}")
    return said

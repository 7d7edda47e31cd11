"""A deployment with the coefficients of the calibration that it names."""

from fastsim.deployment import calibration as calibrations
from fastsim.deployment.calibration import Calibration
from fastsim.deployment.description import Deployment
from fastsim.errors import ConfigError


def calibration_of(deployment: Deployment) -> Calibration | None:
    """The calibration that a deployment holds, or that the file which it names holds. Raises ConfigError."""
    found = deployment.calibration
    return calibrations.load(found) if isinstance(found, str) else found


def calibrated(given: Deployment) -> Deployment:
    """The deployment with its calibration written out, whose values stand where it gives none itself.

    Raises ConfigError for a calibration that cannot be read, was fitted with another source of operator times, or is
    contradicted.
    """
    found = calibration_of(given)
    if found is None:
        return given
    predictor, file = given.predictor, given.calibration if isinstance(given.calibration, str) else str(found)
    if predictor.source.partition(":")[0] != found.source:
        raise ConfigError(
            f"calibration: {file} was fitted with operator times from source {found.source}, not {predictor.source} "
            f"(valid: predictor.source={found.source})"
        )
    if found.source == "affine":
        if predictor.affine not in (None, found.affine):
            raise ConfigError(f"predictor.affine: {file} has other terms; leave out either calibration or these")
        predictor = predictor.model_copy(update={"affine": found.affine})
    elif predictor.compose != "fastsim":
        raise ConfigError(f"predictor.compose: {predictor.compose!r} has no calibration (valid: fastsim)")
    scheduler = given.scheduler
    if scheduler.num_blocks is None and found.num_blocks is not None:
        scheduler = scheduler.model_copy(update={"num_blocks": found.num_blocks})
    front_end = found.front_end_ms if given.front_end_ms is None else given.front_end_ms
    values = {"calibration": found, "predictor": predictor, "scheduler": scheduler, "front_end_ms": front_end}
    return given.model_copy(update=values)


def calibration_notes(found: Calibration | None, engine: str | None, model: str, device: str) -> list[str]:
    """A sentence for each of engine, model and device that is not what the calibration was fitted with."""
    if found is None:
        return []
    ours = {"engine": (found.engine, engine), "model": (found.model, model), "device": (found.device, device)}
    return [
        f"calibration: was fitted with {name} {fitted or 'null'}, not {here or 'null'}"
        for name, (fitted, here) in ours.items()
        if fitted != here
    ]

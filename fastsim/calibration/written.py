"""Writes a calibration as a file that deployments name."""

from pathlib import Path

import yaml

from fastsim.deployment.calibration import Calibration
from fastsim.files.writing import write_text

HEADER = (
    "# Coefficients that `fastsim calibrate` fitted on a measured run. Deployments take them with `calibration:` and\n"
    "# the name of this file; affine terms also need `predictor: {source: affine}`.\n"
)


def text_of(calibration: Calibration) -> str:
    """A calibration as YAML."""
    values = calibration.model_dump(mode="json", exclude_none=True)
    return HEADER + yaml.safe_dump(values, sort_keys=False, default_flow_style=None, width=120)


def save(calibration: Calibration, path: Path) -> None:
    """Write a calibration in one atomic step. Raises OutputError."""
    write_text(path, text_of(calibration))

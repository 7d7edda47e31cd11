"""What was measured of a run, and parts of it that are held out."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fastsim.calibration.engine_log import EngineLog
from fastsim.calibration.fit import FOLDS
from fastsim.calibration.steps import Steps
from fastsim.measured.measured import Measured

Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Observed:
    """What was measured of a run.

    Attributes
    ----------
    requests : its requests and their latencies.
    steps : the engine's steps, one by one.
    log : what the engine's own log says.
    files : the files that hold these, and what each holds.
    chosen : bool[requests], those that are fitted on; None: all.

    One of requests and steps may be None.
    """

    requests: Measured | None
    steps: Steps | None
    log: EngineLog | None = None
    files: tuple[tuple[Path, str], ...] = ()
    chosen: Mask | None = None

    def without(self, fold: int) -> "Observed":
        """What is left when a fold of its time is held out."""
        steps = None if self.steps is None else self.steps.of(fold_of(len(self.steps)) != fold)
        return replace(self, steps=steps, chosen=None if self.requests is None else ~self.held(fold))

    def held(self, fold: int) -> Mask:
        """The requests of a fold, bool[requests]."""
        assert self.requests is not None
        return np.equal(fold_of(self.requests.workload.num_requests), fold)


def fold_of(rows: int) -> NDArray[np.int64]:
    """The fold of each of so many rows in the order of time, int64[rows]."""
    return np.arange(rows) * FOLDS // max(1, rows)

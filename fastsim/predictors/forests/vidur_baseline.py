"""Vidur's own method, for comparison: a random forest on the raw shape columns that predicts the time itself.

Source: microsoft/vidur at 7d47513, sklearn_execution_time_predictor.py and its random-forest configuration: grid
search by mean absolute percentage error.
"""

from typing import Any

import numpy as np

from fastsim.predictors.chip import Floats
from fastsim.predictors.families import FAMILIES
from fastsim.predictors.measurements.records import Records

from .fit import SEED
from .intervals import Held
from .splits import FOLDS, folds

GRID = {"n_estimators": [250, 500, 750], "max_depth": [8, 16, 32], "min_samples_split": [2, 5, 10]}
FEW = {"n_estimators": [250], "max_depth": [32], "min_samples_split": [2]}  # the usual winner of the full search
CROSS_FOLDS = 10


def fit(shape: Floats, ms: Floats, grid: dict[str, list[int]]) -> Any:
    """The best forest of ``grid`` (scikit-learn), fitted on all rows."""
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.model_selection import GridSearchCV

    if all(len(values) == 1 for values in grid.values()):
        only = {name: values[0] for name, values in grid.items()}
        return RandomForestRegressor(random_state=SEED, **only).fit(shape, ms)
    search = GridSearchCV(
        RandomForestRegressor(random_state=SEED),
        grid,
        scoring="neg_mean_absolute_percentage_error",
        cv=min(CROSS_FOLDS, len(ms)),
    )
    return search.fit(shape, ms).best_estimator_


def hold_out(records: Records, grid: dict[str, list[int]] = GRID, count: int = FOLDS) -> dict[str, list[Held]]:
    """Errors of log time on the rows that fastsim's own forests keep from training, by split and fold."""
    out: dict[str, list[Held]] = {}
    for name, split in FAMILIES[records.family].splits.items():
        for train, held in folds(split, records.shape, SEED, count):
            got = fit(records.shape[train], records.ms[train], grid).predict(records.shape[held])
            error = np.log(got / records.ms[held])
            out.setdefault(name, []).append(Held(error, np.zeros_like(error)))
    return out

"""A forest over roofline features: fitted base times, and trees for how far a kernel stays behind them."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from fastsim.predictors.chip import Columns, Features, Floats
from fastsim.predictors.families import Size

SEED = 0


@dataclass(frozen=True, slots=True)
class Fitted:
    """Weights of the terms that make the base time, and the trees (scikit-learn) over features."""

    method: str
    weights: dict[str, float]
    trees: list[Any]

    def base(self, terms: Columns) -> Floats:
        """Base time float64[rows], ms."""
        return base(self.weights, terms)

    def by_tree(self, inputs: Features) -> Floats:
        """log(time / base) of every tree: float64[rows, trees]; their mean is the forest's answer."""
        return np.column_stack([tree.tree_.predict(inputs)[:, 0] for tree in self.trees])


def base(weights: dict[str, float], terms: Columns) -> Floats:
    """Sum of the weighted terms, ms."""
    total: Floats = sum((weight * terms[name] for name, weight in weights.items()), np.zeros(1))
    return total


def fit(
    inputs: Features, terms: Columns, ms: Floats, size: Size, method: str = "forest", rows: np.ndarray | None = None
) -> Fitted:
    """Fit on ``rows`` (all by default); the same forest for the same rows, on any machine and number of cores.

    Weights are not negative and minimise relative error; trees learn the logarithm of what is left.
    """
    from scipy.optimize import nnls  # type: ignore[import-untyped]
    from sklearn.ensemble import ExtraTreesRegressor, RandomForestRegressor

    if rows is None:
        rows = np.ones(len(ms), dtype=bool)
    known = ms[rows]
    parts = np.column_stack([term[rows] for term in terms.values()])
    found, _ = nnls(parts / known[:, None], np.ones(known.size))
    weights = {name: float(weight) for name, weight in zip(terms, found, strict=True) if weight > 0}
    wanted = np.log(known / base(weights, terms)[rows])
    kind, share = (RandomForestRegressor, 0.5) if method == "forest" else (ExtraTreesRegressor, 1.0)
    trees = kind(
        size.trees,
        min_samples_leaf=size.min_leaf,
        max_leaf_nodes=size.leaves,
        max_features=share,
        random_state=SEED,
        n_jobs=1,
    ).fit(inputs[rows], wanted)
    return Fitted(method, weights, list(trees.estimators_))

"""Fitting a forest on roofline features: weights of the base time, and trees for how far a kernel stays behind it."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from fastsim.predictors.chip import Columns, Features, Floats
from fastsim.predictors.families import Size

SEED = 0


@dataclass(frozen=True, slots=True)
class Fitted:
    """A fitted forest: the weights of the terms of its base time, and its trees (scikit-learn)."""

    method: str
    weights: dict[str, float]
    trees: list[Any]

    def base(self, terms: Columns) -> Floats:
        """Base times, float64[rows], ms."""
        return base(self.weights, terms)

    def by_tree(self, inputs: Features) -> Floats:
        """log(time / base) by tree, float64[rows, trees]; the forest's prediction is their mean."""
        return np.column_stack([tree.tree_.predict(inputs)[:, 0] for tree in self.trees])


def base(weights: dict[str, float], terms: Columns) -> Floats:
    """Sum of the weighted terms, ms."""
    total: Floats = sum((weight * terms[name] for name, weight in weights.items()), np.zeros(1))
    return total


def fit(
    inputs: Features, terms: Columns, ms: Floats, size: Size, method: str = "forest", rows: np.ndarray | None = None
) -> Fitted:
    """Fit a forest on ``rows`` (None: all).

    The same rows give the same forest on any machine and number of cores. The weights are not negative and minimise
    the relative error; the trees learn the logarithm of what remains.
    """
    from scipy.optimize import nnls  # type: ignore[import-untyped]
    from sklearn.ensemble import ExtraTreesRegressor, RandomForestRegressor

    if rows is None:
        rows = np.ones(len(ms), dtype=bool)
    known = ms[rows]
    parts = np.column_stack([term[rows] for term in terms.values()])
    solution, _ = nnls(parts / known[:, None], np.ones(known.size))
    weights = {name: float(weight) for name, weight in zip(terms, solution, strict=True) if weight > 0}
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

"""Least squares within bounds, from the sums of products of its columns."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
RIDGE = 1e-10  # of the mean of the diagonal, so that columns which are alike have one answer


def solve(products: Floats, target: Floats, least: Floats, most: Floats) -> Floats:
    """The coefficients x, float64[n], that minimise x' P x - 2 t' x within their bounds.

    Parameters
    ----------
    products, target : float64[n, n] and float64[n], X' X and X' y.
    least, most : float64[n], bounds, which may be infinite; 0 is inside them or at one of them.
    """
    from scipy.optimize import lsq_linear  # type: ignore[import-untyped]

    size = len(target)
    if not size:
        return np.zeros(0)
    scale = np.sqrt(np.maximum(np.diag(products), 1e-300))
    root = np.linalg.cholesky(products / np.outer(scale, scale) + RIDGE * np.eye(size))
    goal = np.linalg.solve(root, target / scale)
    found = lsq_linear(root.T, goal, (least * scale, most * scale), "bvls", tol=1e-12)
    x = found.x / scale
    # A coefficient at a bound has its value to the last bit.
    return np.asarray(np.where(found.active_mask < 0, least, np.where(found.active_mask > 0, most, x)))

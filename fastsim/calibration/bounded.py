"""Least squares within bounds, from the sums of products of its columns."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
MOST_STEPS = 1000  # of a solution, each of which fixes or frees one coefficient
RIDGE = 1e-10  # of the mean of the diagonal, so that columns which are alike have one answer


def solve(products: Floats, target: Floats, least: Floats, most: Floats) -> Floats:
    """The coefficients x, float64[n], that minimise x' P x - 2 t' x within their bounds.

    The active-set method of Stark and Parker, "Bounded-variable least squares" (1995), on the normal equations.

    Parameters
    ----------
    products, target : float64[n, n] and float64[n], X' X and X' y.
    least, most : float64[n], bounds, which may be infinite; 0 is inside them or at one of them.
    """
    size = len(target)
    if not size:
        return np.zeros(0)
    scale = np.sqrt(np.maximum(np.diag(products), 1e-300))
    normal = products / np.outer(scale, scale) + RIDGE * np.eye(size)
    goal, low, high = target / scale, least * scale, most * scale
    best_without = np.linalg.solve(normal, goal)
    is_free = (best_without >= low) & (best_without <= high)
    if is_free.all():
        return np.asarray(np.clip(best_without / scale, least, most))
    x = np.clip(np.zeros(size), low, high)
    slack = 1e-9 * max(1.0, float(np.abs(goal).max()))
    for _ in range(MOST_STEPS):
        x, is_free = _within(normal, goal, low, high, x, is_free)
        slope = goal - normal @ x  # how the sum of squares falls as a coefficient rises
        gain = np.where(is_free, 0.0, np.where(x <= low, slope, np.where(x >= high, -slope, np.abs(slope))))
        best = int(np.argmax(gain))
        if gain[best] <= slack:
            break
        is_free[best] = True
    inside = np.clip(x / scale, least, most)
    return np.asarray(np.where(x <= low, least, np.where(x >= high, most, inside)))  # at a bound to the bit


def _within(
    normal: Floats, goal: Floats, low: Floats, high: Floats, x: Floats, is_free: NDArray[np.bool_]
) -> tuple[Floats, NDArray[np.bool_]]:
    """Solve for the free coefficients; those that would leave their bounds are fixed at them, the nearest first."""
    while is_free.any():
        fixed = ~is_free
        right = goal[is_free] - normal[np.ix_(is_free, fixed)] @ x[fixed]
        new = x.copy()
        new[is_free] = np.linalg.solve(normal[np.ix_(is_free, is_free)], right)
        outside = is_free & ((new < low) | (new > high))
        if not outside.any():
            return new, is_free
        bound = np.where(new < low, low, high)
        with np.errstate(divide="ignore", invalid="ignore"):
            way = np.where(outside, (bound - x) / (new - x), np.inf)
        first = int(np.argmin(way))
        x = np.where(is_free, x + max(0.0, float(way[first])) * (new - x), x)
        x[first] = bound[first]
        is_free = is_free.copy()
        is_free[first] = False
    return x, is_free

"""How sure a load is: the spread of what other draws of requests and of operator times bear."""

from collections.abc import Sequence

import numpy as np

FEWEST = 5  # replicates that an interval needs
SHARE = 0.9  # of the interval


def interval(load: float, found: float, others: Sequence[float]) -> tuple[float, float] | None:
    """The 90 % interval of a load for one more draw, or None of fewer than FEWEST ``others``.

    ``found`` is what the first draw bears, and ``others`` what the others do, found in runs of the same length. The
    logarithms of their ratios are taken to be normal, which gives Student's interval for a further draw: mean +- t s
    sqrt(1 + 1/n). It is laid around ``load``, and reaches it where all others lie on one side.
    """
    if len(others) < FEWEST or min(others) <= 0 or found <= 0:
        return None
    from scipy.special import stdtrit  # type: ignore[import-untyped]

    ratios, number = np.log(np.array(others) / found), len(others)
    half = stdtrit(number - 1, (1 + SHARE) / 2) * ratios.std(ddof=1) * np.sqrt(1 + 1 / number)
    low, high = load * np.exp(ratios.mean() - half), load * np.exp(ratios.mean() + half)
    return min(float(low), load), max(float(high), load)

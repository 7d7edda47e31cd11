"""How sure a result is: the same run with operator times drawn from their intervals, over and over."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastsim.result.metrics.definitions import flatten

LOW, HIGH = 0.05, 0.95
SECTIONS = ("latency", "throughput", "utilisation", "cost")


def intervals(summaries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What summary.json holds under ``replicates``: 90 % intervals by figure, and every value they come from.

    ``summaries``: of runs that differ in operator times only.
    """
    values: dict[str, list[float]] = {}
    for summary in summaries:
        for name, value in flatten({section: summary[section] for section in SECTIONS}).items():
            if value is not None:
                values.setdefault(name, []).append(float(value))
    return {
        "number": len(summaries),
        "intervals": {name: [float(q) for q in np.quantile(found, (LOW, HIGH))] for name, found in values.items()},
        "values": values,
    }

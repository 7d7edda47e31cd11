"""The uncertainty of a result: intervals over replicates, whose operator times are drawn from their own intervals."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastsim.result.metrics.definitions import flatten

LOW, HIGH = 0.05, 0.95
SECTIONS = ("latency", "throughput", "utilisation", "cost")


def intervals(summaries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the section ``replicates`` of a summary: the 90 % interval of each figure, and the values behind it.

    ``summaries`` belong to runs that differ in their operator times only.
    """
    values: dict[str, list[float]] = {}
    for summary in summaries:
        for name, value in flatten({section: summary[section] for section in SECTIONS}).items():
            if value is not None:
                values.setdefault(name, []).append(float(value))
    return {
        "number": len(summaries),
        "intervals": {name: [float(q) for q in np.quantile(drawn, (LOW, HIGH))] for name, drawn in values.items()},
        "values": values,
    }

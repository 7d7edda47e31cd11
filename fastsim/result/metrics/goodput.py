"""Goodput: the requests that meet every objective."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fastsim.result.metrics.distribution import ratio
from fastsim.result.metrics.objectives import Objective, met, value
from fastsim.result.metrics.window import inside


def judge(objectives: Sequence[Objective], columns: Mapping[str, Any], summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sections ``objectives`` and ``goodput`` of a summary.

    A request is good if it finished and each of its latencies is below the limit; for tbt, the mean of its own gaps
    counts. Requests that the summary excludes are left out.

    Parameters
    ----------
    objectives : sequence of Objective
        What each request, and each figure of the summary, is held to.
    columns : mapping of str to array[n]
        The columns of requests.parquet, by name.
    summary : mapping
        The summary so far, with its latencies, totals and what it excludes.
    """
    excluded = summary.get("excluded", {})
    arrived = columns["arrived_at"]
    exclude = excluded.get("warm_up_s", 0.0), excluded.get("cool_down_s", 0.0)
    kept = inside(arrived, exclude)
    if kept is None:
        kept = np.ones(len(arrived), bool)
    num_kept, good, judged = int(kept.sum()), kept & np.isfinite(columns["finished_at"]), {}
    for objective in objectives:
        latencies = columns["tpot" if objective.metric == "tbt" else objective.metric]
        # A request with one output token has no gap between tokens that could be too long.
        below = np.isnan(latencies) if objective.metric in ("tbt", "tpot") else np.zeros(len(latencies), bool)
        below |= latencies < objective.limit
        good &= below
        judged[str(objective)] = {
            "value": value(objective, summary),
            "limit": objective.limit,
            "met": met(objective, summary),
            "share": ratio(int((below & kept).sum()), num_kept),
        }
    span = summary["totals"]["span_s"]
    if any(exclude) and len(arrived):
        span = max(0.0, float(arrived[-1] - arrived[0]) - sum(exclude))
    num_good = int(good.sum())
    goodput = {"share": ratio(num_good, num_kept), "requests_per_s": ratio(num_good, span)}
    return {"objectives": judged, "goodput": goodput}

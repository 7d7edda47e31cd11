"""Requests that meet every objective."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    pass
from .objectives import Objective, met, value


def judge(objectives: Sequence[Objective], requests: Mapping[str, Any], summary: Mapping[str, Any]) -> dict[str, Any]:
    """``objectives`` and ``goodput`` of a summary.

    ``requests``: columns of requests.parquet, by name. A request is good when its own latency is below every limit, of
    tbt the mean of its own gaps; one that did not finish is not. What the summary excludes does not count.
    """
    import numpy as np

    from fastsim.result.metrics.distribution import ratio
    from fastsim.result.metrics.window import inside

    out = summary.get("excluded", {})
    arrived = requests["arrived_at"]
    exclude = out.get("warm_up_s", 0.0), out.get("cool_down_s", 0.0)
    kept = inside(arrived, exclude)
    if kept is None:
        kept = np.ones(len(arrived), bool)
    number, good, judged = int(kept.sum()), kept & np.isfinite(requests["finished_at"]), {}
    for objective in objectives:
        values = requests["tpot" if objective.metric == "tbt" else objective.metric]
        # A request of one output token has no gap between tokens that could be too long.
        below = np.isnan(values) if objective.metric in ("tbt", "tpot") else np.zeros(len(values), bool)
        below |= values < objective.limit
        good &= below
        judged[str(objective)] = {
            "value": value(objective, summary),
            "limit": objective.limit,
            "met": met(objective, summary),
            "share": ratio(int((below & kept).sum()), number),
        }
    span = summary["totals"]["span_s"]
    if any(exclude) and len(arrived):
        span = max(0.0, float(arrived[-1] - arrived[0]) - sum(exclude))
    rate = ratio(int(good.sum()), span)
    return {"objectives": judged, "goodput": {"share": ratio(int(good.sum()), number), "requests_per_s": rate}}

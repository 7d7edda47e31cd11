"""Comparing two results of the same requests: differences with intervals, and the requests that got worse.

Requests are paired, so what they have in common cancels. Neighbouring requests wait for each other, so the intervals
come from a paired block bootstrap: requests are cut by request_id into BLOCKS blocks, and whole blocks are drawn
RESAMPLES times. Quantiles of a draw are looked up on a grid of EDGES values: exact if both results together hold no
more values than that, and within 0.05 % of rank otherwise.
"""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastsim.arrays import Floats
from fastsim.errors import InputError
from fastsim.result.columns import PARTS
from fastsim.result.metrics.definitions import flatten
from fastsim.result.result import Result

BLOCKS, RESAMPLES, EDGES = 200, 1000, 4096
LOW, HIGH = 0.025, 0.975
COLUMNS = ("ttft", "tpot", "e2e", "scheduling_delay")
QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
SECTIONS = ("latency", "throughput", "goodput", "utilisation", "cache", "preemptions", "cost", "energy", "totals")


def compare(a: Result, b: Result, top: int = 10) -> dict[str, Any]:
    """Compare two results of the same requests, as `fastsim compare --json` prints it.

    Parameters
    ----------
    a, b : Result
        The results; all differences are B - A.
    top : int
        How many of the requests that got worse are listed.

    Returns
    -------
    dict
        ``latency``: by column and figure, both values, their difference and its 95 % interval, in seconds.
        ``breakdown``: the same for the mean of each part of e2e. ``figures``: the other figures that both summaries
        have. ``worse``: the ``top`` requests whose e2e grew most. ``requests``, ``compared`` and ``notes`` say what
        was compared.

    Raises
    ------
    InputError
        The results are not of the same requests.
    """
    a, b = _by_id(a), _by_id(b)
    _check_same_requests(a, b)
    blocks = np.arange(a.requests.num_rows) * BLOCKS // max(BLOCKS, a.requests.num_rows)
    # Every column uses the same draws, and so do any two results with as many requests.
    num_blocks = int(blocks.max(initial=0)) + 1
    draws = np.random.default_rng(0).multinomial(num_blocks, np.full(num_blocks, 1 / num_blocks), RESAMPLES)
    weights = draws.astype(float)

    def differences(name: str, quantiles: bool) -> dict[str, Any]:
        """Return the differences of a column, over the requests for which both results have a value."""
        values_a, values_b = a.column(name), b.column(name)
        both = np.isfinite(values_a) & np.isfinite(values_b)
        return _differences(values_a[both], values_b[both], blocks[both], weights, quantiles)

    flat_a, flat_b = flatten({name: a.summary.get(name) for name in SECTIONS}), flatten(b.summary)
    paired = {f"latency.{name}.{key}" for name in COLUMNS for key in ("mean", *QUANTILES)}
    return {
        "requests": a.requests.num_rows,
        "compared": int((np.isfinite(a.column("e2e")) & np.isfinite(b.column("e2e"))).sum()),
        "notes": _notes(a, b),
        "latency": {name: differences(name, quantiles=True) for name in COLUMNS},
        "breakdown": {name: differences(name, quantiles=False)["mean"] for name in _parts(a, b)},
        "figures": {
            name: {"a": value, "b": flat_b[name], "difference": _difference(value, flat_b[name])}
            for name, value in flat_a.items()
            if name in flat_b and name not in paired
        },
        "worse": _worse(a, b, top),
    }


def _by_id(result: Result) -> Result:
    """Return the result with its requests by request_id: those that follow others are in order of their arrival."""
    ids = result.column("request_id")
    return result if (np.diff(ids) > 0).all() else replace(result, requests=result.requests.take(np.argsort(ids)))


def _check_same_requests(a: Result, b: Result) -> None:
    """Raise InputError unless both results have requests of the same lengths in the same order."""
    if a.requests.num_rows != b.requests.num_rows:
        numbers = f"A has {a.requests.num_rows:,} requests and B {b.requests.num_rows:,}"
        raise InputError(f"{numbers}; compare results of the same workload")
    for name in ("num_prompt_tokens", "num_output_tokens"):
        if len(differ := np.flatnonzero(a.column(name) != b.column(name))):
            i = differ[0]
            raise InputError(
                f"request {i}: {name} is {a.column(name)[i]} in A and {b.column(name)[i]} in B; "
                "compare results of the same workload"
            )


def _parts(a: Result, b: Result) -> list[str]:
    """Return the parts of e2e that both results have: the columns after those of every result."""
    both = set(a.requests.column_names) & set(b.requests.column_names)
    return [column.name for column in PARTS if column.name in both]


def _notes(a: Result, b: Result) -> list[str]:
    """Return sentences about what differs between the results besides their figures."""
    notes = []
    if (a.column("arrived_at") != b.column("arrived_at")).any():
        notes.append("arrival times differ between A and B; requests are paired by request_id")
    if "excluded" in a.summary or "excluded" in b.summary:
        notes.append("latencies here include all requests, even those that a result excludes as warm-up or cool-down")
    versions = [result.config.get("versions", {}).get("fastsim") for result in (a, b)]
    if versions[0] != versions[1]:
        notes.append(f"A was simulated by fastsim {versions[0]}, B by fastsim {versions[1]}")
    return notes


def _differences(a: Floats, b: Floats, blocks: NDArray[np.int64], weights: Floats, quantiles: bool) -> dict[str, Any]:
    """Return mean (and quantiles) of both results, the difference and its interval, by figure.

    ``a`` and ``b`` hold float64[n] paired values and ``blocks`` int[n] the block of each pair. ``weights``,
    float64[draws, blocks], says how often each block was drawn.
    """
    if not len(a):
        missing = {"a": None, "b": None, "difference": None, "interval": None}
        return {key: dict(missing) for key in ("mean", *QUANTILES)}
    num_blocks = weights.shape[1]
    num_drawn = weights @ np.bincount(blocks, minlength=num_blocks)
    weights, num_drawn = weights[num_drawn > 0], num_drawn[num_drawn > 0]  # a draw may hold none of these requests
    differences = {"mean": weights @ np.bincount(blocks, b - a, num_blocks) / num_drawn}
    if quantiles:
        edges = _edges(a, b)
        drawn_a, drawn_b = (_drawn_quantiles(values, blocks, weights, edges) for values in (a, b))
        differences |= {name: drawn_b[:, i] - drawn_a[:, i] for i, name in enumerate(QUANTILES)}
    figures = {}
    for name, drawn in differences.items():
        value_a, value_b = _figure(a, name), _figure(b, name)
        interval = [float(end) for end in np.quantile(drawn, (LOW, HIGH))]
        figures[name] = {"a": value_a, "b": value_b, "difference": value_b - value_a, "interval": interval}
    return figures


def _figure(values: Floats, name: str) -> float:
    """Return the mean or a quantile of ``values``."""
    return float(values.mean() if name == "mean" else np.quantile(values, QUANTILES[name]))


def _edges(a: Floats, b: Floats) -> Floats:
    """Return the values, ascending, that a quantile of a draw may take.

    These are all values of both results, or EDGES of them chosen by rank, more densely at the top.
    """
    pooled = np.sort(np.concatenate([a, b]))
    if len(pooled) <= EDGES:
        return np.unique(pooled)
    tail = np.geomspace(1e-3, 1e-6, EDGES // 4)
    ranks = np.concatenate([np.linspace(0, 1, 3 * EDGES // 4), 1 - tail])
    return np.unique(pooled[(np.sort(ranks) * (len(pooled) - 1)).astype(int)])


def _drawn_quantiles(values: Floats, blocks: NDArray[np.int64], weights: Floats, edges: Floats) -> Floats:
    """Return the quantiles of each draw, float64[draws, quantiles]: the least edge that has the share at or below it.

    ``values`` and ``blocks`` have an entry per request; ``weights``, float64[draws, blocks], says how often each block
    was drawn.
    """
    num_blocks, num_edges = weights.shape[1], len(edges)
    bins = np.minimum(np.searchsorted(edges, values), num_edges - 1)
    counts = np.bincount(blocks * num_edges + bins, minlength=num_blocks * num_edges).reshape(num_blocks, num_edges)
    quantiles = np.empty((len(weights), len(QUANTILES)))
    cumulated = np.cumsum(counts, axis=1, dtype=np.float64)
    for begin in range(0, len(weights), 200):  # 200 draws at a time take about 7 MB
        sums = weights[begin : begin + 200] @ cumulated
        for i, share in enumerate(QUANTILES.values()):
            reached = (sums >= share * sums[:, -1:]).argmax(axis=1)
            quantiles[begin : begin + 200, i] = edges[reached]
    return quantiles


def _worse(a: Result, b: Result, top: int) -> list[dict[str, Any]]:
    """Return the requests whose e2e grew most, each with the part of e2e that grew most where both results have it."""
    growth = b.column("e2e") - a.column("e2e")
    order = np.argsort(-np.where(np.isfinite(growth), growth, -np.inf), kind="stable")[:top]
    parts = _parts(a, b)
    part_growth = {part: b.column(part) - a.column(part) for part in parts}
    rows = []
    for i in map(int, order):
        if not growth[i] > 0:
            break
        row = {name: a.column(name)[i].item() for name in ("request_id", "num_prompt_tokens", "num_output_tokens")}
        row |= {"arrived_at": b.column("arrived_at")[i].item()}
        row |= {"a": float(a.column("e2e")[i]), "b": float(b.column("e2e")[i]), "difference": float(growth[i])}
        if parts:
            most = max(parts, key=lambda part: part_growth[part][i])
            row |= {"part": most, "part_difference": float(part_growth[most][i])}
        rows.append(row)
    return rows


def _difference(a: float | None, b: float | None) -> float | None:
    """Return B - A, or 0 where they differ by rounding only, or None where either was not measured."""
    if a is None or b is None:
        return None
    return b - a if abs(b - a) > 1e-12 * abs(a) else 0.0

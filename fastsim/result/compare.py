"""Two results of the same requests: differences with intervals, and which requests got worse.

Requests are paired, so what they share cancels. Neighbours wait for each other, so blocks of neighbouring requests are
drawn, not single ones: BLOCKS of them, by request_id, RESAMPLES times (a paired block bootstrap). Quantiles of a draw
are looked up on a grid of EDGES values: exact for up to EDGES values in both results, within 0.05 % of rank beyond.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastsim.errors import InputError
from fastsim.result.columns import REQUESTS
from fastsim.result.metrics.definitions import flatten
from fastsim.result.result import Result

Floats = NDArray[np.float64]

BLOCKS, RESAMPLES, EDGES = 200, 1000, 4096
LOW, HIGH = 0.025, 0.975
COLUMNS = ("ttft", "tpot", "e2e", "scheduling_delay")
QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
SECTIONS = ("latency", "throughput", "goodput", "utilisation", "cost", "energy", "totals")


def compare(a: Result, b: Result, top: int = 10) -> dict[str, Any]:
    """What `fastsim compare` prints, as JSON has it; differences are B - A.

    ``latency``: by column and figure, both values, the difference and its 95 % interval. ``breakdown``: the same of the
    mean of each part of e2e. ``figures``: the other figures that both have. ``worse``: the ``top`` requests whose e2e
    grew most. Raises InputError for different requests.
    """
    _check(a, b)
    blocks = np.arange(a.requests.num_rows) * BLOCKS // max(BLOCKS, a.requests.num_rows)
    # The same draw for every column, and for any two results of as many requests.
    number = int(blocks.max(initial=0)) + 1
    drawn = np.random.default_rng(0).multinomial(number, np.full(number, 1 / number), RESAMPLES).astype(float)

    def differences(name: str, quantiles: bool) -> dict[str, Any]:
        one, two = a.column(name), b.column(name)
        both = np.isfinite(one) & np.isfinite(two)
        return _differences(one[both], two[both], blocks[both], drawn, quantiles)

    flat_a, flat_b = flatten({name: a.summary.get(name) for name in SECTIONS}), flatten(b.summary)
    paired = {f"latency.{name}.{key}" for name in COLUMNS for key in ("mean", *QUANTILES)}
    return {
        "requests": a.requests.num_rows,
        "compared": int((np.isfinite(a.column("e2e")) & np.isfinite(b.column("e2e"))).sum()),
        "notes": _notes(a, b),
        "latency": {name: differences(name, quantiles=True) for name in COLUMNS},
        "breakdown": {name: differences(name, quantiles=False)["mean"] for name in _parts(a, b)},
        "figures": {
            name: {"a": value, "b": flat_b[name], "difference": _minus(flat_b[name], value)}
            for name, value in flat_a.items()
            if name in flat_b and name not in paired
        },
        "worse": _worse(a, b, top),
    }


def _check(a: Result, b: Result) -> None:
    if a.requests.num_rows != b.requests.num_rows:
        numbers = f"A has {a.requests.num_rows:,} requests and B {b.requests.num_rows:,}"
        raise InputError(f"{numbers}; compare results of the same workload")
    for name in ("num_prompt_tokens", "num_output_tokens"):
        if len(differ := np.flatnonzero(a.column(name) != b.column(name))):
            one, two = a.column(name)[differ[0]], b.column(name)[differ[0]]
            raise InputError(
                f"request {differ[0]}: {name} is {one} in A and {two} in B; compare results of the same workload"
            )


def _parts(a: Result, b: Result) -> list[str]:
    """Parts of e2e that both results have: what follows the columns that every result has."""
    return [name for name in a.requests.column_names[len(REQUESTS) :] if name in b.requests.column_names]


def _notes(a: Result, b: Result) -> list[str]:
    notes = []
    if (a.column("arrived_at") != b.column("arrived_at")).any():
        notes.append("the same lengths arrive at other times: requests are paired by their number")
    if "excluded" in a.summary or "excluded" in b.summary:
        notes.append("latencies are of all requests, also of those that a result leaves out as warm-up or cool-down")
    versions = [result.config.get("versions", {}).get("fastsim") for result in (a, b)]
    if versions[0] != versions[1]:
        notes.append(f"A is of fastsim {versions[0]}, B of {versions[1]}")
    return notes


def _differences(a: Floats, b: Floats, blocks: NDArray[np.int64], drawn: Floats, quantiles: bool) -> dict[str, Any]:
    if not len(a):
        nothing = {"a": None, "b": None, "difference": None, "interval": None}
        return {key: dict(nothing) for key in ("mean", *QUANTILES)}
    number = drawn.shape[1]
    total = drawn @ np.bincount(blocks, minlength=number)
    drawn, total = drawn[total > 0], total[total > 0]  # some blocks may hold none of these requests
    spread = {"mean": drawn @ np.bincount(blocks, b - a, number) / total}
    if quantiles:
        edges = _edges(a, b)
        one, two = (_drawn_quantiles(values, blocks, drawn, edges) for values in (a, b))
        spread |= {name: two[:, i] - one[:, i] for i, name in enumerate(QUANTILES)}
    found = {}
    for name, draws in spread.items():
        first, second = (_figure(values, name) for values in (a, b))
        interval = [float(end) for end in np.quantile(draws, (LOW, HIGH))]
        found[name] = {"a": first, "b": second, "difference": second - first, "interval": interval}
    return found


def _figure(values: Floats, name: str) -> float:
    return float(values.mean() if name == "mean" else np.quantile(values, QUANTILES[name]))


def _edges(a: Floats, b: Floats) -> Floats:
    """Values, ascending, that a quantile of a draw may take: all there are, or EDGES by rank, the top more densely."""
    pooled = np.sort(np.concatenate([a, b]))
    if len(pooled) <= EDGES:
        return np.unique(pooled)
    tail = np.geomspace(1e-3, 1e-6, EDGES // 4)
    ranks = np.concatenate([np.linspace(0, 1, 3 * EDGES // 4), 1 - tail])
    return np.unique(pooled[(np.sort(ranks) * (len(pooled) - 1)).astype(int)])


def _drawn_quantiles(values: Floats, blocks: NDArray[np.int64], drawn: Floats, edges: Floats) -> Floats:
    """float64[draws, quantiles]: the least edge that the share of a draw's values does not exceed."""
    number, width = drawn.shape[1], len(edges)
    places = np.minimum(np.searchsorted(edges, values), width - 1)
    counts = np.bincount(blocks * width + places, minlength=number * width).reshape(number, width)
    found = np.empty((len(drawn), len(QUANTILES)))
    cumulated = np.cumsum(counts, axis=1, dtype=np.float64)
    for begin in range(0, len(drawn), 200):  # 200 draws at a time: some 7 MB
        sums = drawn[begin : begin + 200] @ cumulated
        for i, share in enumerate(QUANTILES.values()):
            reached = (sums >= share * sums[:, -1:]).argmax(axis=1)
            found[begin : begin + 200, i] = edges[reached]
    return found


def _worse(a: Result, b: Result, top: int) -> list[dict[str, Any]]:
    """The requests whose e2e grew most, and the part of it that grew most where both results say."""
    grown = b.column("e2e") - a.column("e2e")
    order = np.argsort(-np.where(np.isfinite(grown), grown, -np.inf), kind="stable")[:top]
    parts = _parts(a, b)
    gains = {part: b.column(part) - a.column(part) for part in parts}
    rows = []
    for place in map(int, order):
        if not grown[place] > 0:
            break
        row = {name: a.column(name)[place].item() for name in ("request_id", "num_prompt_tokens", "num_output_tokens")}
        row |= {"arrived_at": b.column("arrived_at")[place].item()}
        row |= {
            "a": float(a.column("e2e")[place]),
            "b": float(b.column("e2e")[place]),
            "difference": float(grown[place]),
        }
        if parts:
            most = max(parts, key=lambda part: gains[part][place])
            row |= {"part": most, "part_difference": float(gains[most][place])}
        rows.append(row)
    return rows


def _minus(b: float | None, a: float | None) -> float | None:
    """B - A; what is only rounding is 0."""
    if a is None or b is None:
        return None
    return b - a if abs(b - a) > 1e-12 * abs(a) else 0.0

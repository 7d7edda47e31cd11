"""What a replay of a measured run shows: measured and predicted figures, over time and by request."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from fastsim.measured.counts import Counts
from fastsim.measured.measured import Measured
from fastsim.measured.statistics import Likeness, Pair
from fastsim.result.result import Result

# The figures that are judged: means, and rates.
JUDGED = {"ttft": "TTFT mean", "tpot": "TPOT mean", "e2e": "E2E mean"}
RATES = {"output_tokens_per_s": "output throughput", "requests_per_s": "request throughput"}
UNITS = {"output_tokens_per_s": "tokens/s", "requests_per_s": "requests/s"}


@dataclass(frozen=True, eq=False)
class Validation:
    """A measured run beside its replay.

    Attributes
    ----------
    measured : the run.
    result : of its replay; request k is that of the run.
    latency : by latency (ttft, tpot, itl, e2e) and statistic (mean, p50, p90, p99) the figures, s; those that were not
        measured are missing.
    throughput : output tokens and requests per second.
    over_time : requests that are running, waiting and in flight.
    by_request : how far each latency is from the measured one, request by request.
    said : what a user must know of the deployment, one sentence each.
    """

    measured: Measured
    result: Result
    latency: Mapping[str, Mapping[str, Pair]]
    throughput: Mapping[str, Pair]
    over_time: Mapping[str, Counts]
    by_request: Mapping[str, Likeness]
    said: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """What the run lacks, what was left out, and what its replay warns of, one sentence each."""
        failed = self.measured.failed
        left_out = f"{failed:,} requests that failed are" if failed > 1 else "1 request that failed is"
        lacking = [JUDGED[name].partition(" ")[0] for name in JUDGED if name not in self.latency]
        return (
            *self.said,
            *((f"{left_out} left out",) if failed else ()),
            *self.measured.notes,
            *((f"{' and '.join(lacking)} {'are' if len(lacking) > 1 else 'is'} not measured",) if lacking else ()),
            *self.result.summary["warnings"],
        )

    def means(self) -> dict[str, Pair]:
        """The figures by which a prediction is judged, by their names in words."""
        found = {word: self.latency[name]["mean"] for name, word in JUDGED.items() if name in self.latency}
        return found | {word: self.throughput[name] for name, word in RATES.items() if name in self.throughput}

    def as_dict(self) -> dict[str, Any]:
        """All figures, as JSON holds them."""
        measured = self.measured
        return {
            "measured": measured.place,
            "layout": measured.layout,
            "requests": measured.workload.num_requests,
            "failed": measured.failed,
            "notes": list(self.notes),
            "latency": {
                name: {statistic: pair.as_dict() for statistic, pair in pairs.items()}
                for name, pairs in self.latency.items()
            },
            "throughput": {name: pair.as_dict() for name, pair in self.throughput.items()},
            "over_time": {
                name: {
                    "measured_mean": float(counts.measured.mean()),
                    "predicted_mean": float(counts.predicted.mean()),
                    "mean_absolute_difference": counts.mean_absolute_difference,
                }
                for name, counts in self.over_time.items()
            },
            "by_request": {name: one._asdict() for name, one in self.by_request.items()},
            "config": self.result.config,
        }

    def table(self) -> pa.Table:
        """A row per request: its lengths, and its latencies as measured and as predicted, s."""
        measured, result = self.measured, self.result
        columns = {name: result.column(name) for name in ("num_prompt_tokens", "num_output_tokens")}
        if measured.arrived_at is not None:
            columns["measured_arrived_at"] = measured.arrived_at
        columns["predicted_arrived_at"] = result.column("arrived_at")
        for name, values in (("ttft", measured.ttft), ("tpot", measured.tpot), ("e2e", measured.e2e)):
            columns |= {f"measured_{name}": values, f"predicted_{name}": result.column(name)}
        return pa.table(columns)

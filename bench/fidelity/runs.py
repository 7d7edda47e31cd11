"""Runs of real engines, as the leaderboard replays them: what was deployed, what was sent, and what was measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastsim.measured.measured import Measured
from fastsim.measured.statistics import distribution, rates
from fastsim.workload import Workload

Floats = NDArray[np.float64]

# Figures of a row, s: those that a source does not publish are missing.
METRICS = ("ttft_mean", "ttft_p99", "tpot_mean", "e2e_mean", "e2e_p99")
THROUGHPUT = "output_tokens_per_s"


@dataclass(frozen=True, slots=True)
class Row:
    """One row of measured figures: of a whole run, or of the requests of one of its stages.

    Attributes
    ----------
    name : what tells it apart within its set.
    measured : figures by name, of METRICS and THROUGHPUT.
    fitted : whether coefficients that fastsim has today were fitted on this row.
    stage : the stage whose requests it is about; None: all requests.
    """

    name: str
    measured: Mapping[str, float]
    fitted: bool = False
    stage: int | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """A run to replay, once for each of its workloads; predicted figures are means over these.

    Attributes
    ----------
    fields : of the deployment, as in a deployment file.
    workloads : the same requests with other draws of what was drawn at random and is not published.
    rows : what was measured of it.
    stages : int64[num_requests], the stage of each request; None where there is one.
    """

    fields: Mapping[str, Any]
    workloads: Sequence[Workload]
    rows: Sequence[Row]
    stages: NDArray[np.int64] | None = None


@dataclass(frozen=True, slots=True)
class RunSet:
    """Runs that are scored together.

    Attributes
    ----------
    title : of its line in the table.
    protocol : what is known or assumed of how the runs were made, in one sentence.
    files : that the runs were read from.
    runs : to replay.
    left_out : why rows are not replayed, a reason per row.
    """

    title: str
    protocol: str
    files: tuple[Path, ...]
    runs: list[Run] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


class RunSets:
    """Sets by title, in the order in which they are first named."""

    def __init__(self) -> None:
        self._by_title: dict[str, RunSet] = {}

    def of(self, title: str, protocol: str, *files: Path) -> RunSet:
        """The set with this title, which is made if there is none yet."""
        return self._by_title.setdefault(title, RunSet(title, protocol, files))

    def all(self) -> list[RunSet]:
        return list(self._by_title.values())


def figures_of(
    ttft: Floats, tpot: Floats, e2e: Floats, arrived_at: Floats, outputs: NDArray[np.int64]
) -> dict[str, float]:
    """The figures of some requests, float64[num_requests] each, s; ``outputs``: int64[num_requests], tokens."""
    seconds = float((arrived_at + e2e).max() - arrived_at.min())
    found = {"ttft": distribution(ttft), "tpot": distribution(tpot), "e2e": distribution(e2e)}
    wanted = (name.split("_") for name in METRICS)
    figures = {f"{name}_{key}": found[name][key] for name, key in wanted if key in found[name]}
    return figures | {THROUGHPUT: rates(seconds, int(outputs.sum()), len(outputs))[THROUGHPUT]}


def measured_figures(run: Measured) -> dict[str, float]:
    """The figures of a run whose every request was recorded."""
    assert run.arrived_at is not None
    return figures_of(run.ttft, run.tpot, run.e2e, run.arrived_at, run.workload.num_output_tokens)

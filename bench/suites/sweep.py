"""Many configurations in one call."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

import fastsim
from fastsim.deployment.description import Deployment
from fastsim.sweeps.batches import cut
from fastsim.sweeps.space import Space
from fastsim.workload.loading import load


class Sweep:
    """Configurations of one model on one workload, that share eight tables."""

    params = ([1, 10, 100, 1_000], [1, 2], [100, 5_000])
    param_names = ("configurations", "threads", "requests")
    timeout = 120

    def setup(self, configurations: int, threads: int, requests: int) -> None:
        workload = load("chat", rate=3.0, num_requests=requests)
        varied = [("scheduler.policy=sarathi", f"scheduler.max_num_seqs={32 * (1 + n % 8)}",
                   f"scheduler.watermark={0.01 + n * 1e-6:.6f}")
                  for n in range(configurations)]  # fmt: skip
        self.jobs = [(Deployment.load(None, settings), workload) for settings in varied]
        fastsim.simulate_many(self.jobs[:8])

    def time_simulate_many(self, configurations: int, threads: int, requests: int) -> None:
        fastsim.simulate_many(self.jobs, threads=threads)

    def track_overhead_percent(self, configurations: int, threads: int, requests: int) -> float:
        """Of the threads' time, what is not spent in the kernel."""
        timings = [run.summary["timing"] for run in fastsim.simulate_many(self.jobs, threads=1) if run.summary]
        kernel, total = (sum(timing[key] for timing in timings) for key in ("kernel_s", "total_s"))
        return float(100 * (1 - kernel / total))

    track_overhead_percent.unit = "%"  # type: ignore[attr-defined]


def space(configurations: int) -> dict[str, Any]:
    """Configurations of 5,000 requests of chat."""
    return {
        "workload": {"source": "chat", "rate": 3.0, "num_requests": 5000},
        "axes": {
            "scheduler.max_num_seqs": [32, 64],
            "scheduler.watermark": {"from": 0.01, "to": 0.02, "num": configurations // 2},
        },
    }


class Making:
    """Configurations made of a space, and cut into batches."""

    params = (10, 1_000)
    param_names = ("configurations",)

    def setup(self, configurations: int) -> None:
        self.space = Space.load(space(configurations))

    def time_configurations(self, configurations: int) -> None:
        list(self.space.configurations())

    def time_cut(self, configurations: int) -> None:
        cut(self.space.configurations(), threads=2)


class Table:
    """Whole sweeps, on threads (0) and on the processes of a local Dask cluster."""

    params = ([10, 1_000], [0, 1, 2])
    param_names = ("configurations", "workers")
    timeout = 120

    def setup(self, configurations: int, workers: int) -> None:
        self.folder = Path(tempfile.mkdtemp())
        fastsim.sweep(space(10), self.folder / "warm")

    def teardown(self, configurations: int, workers: int) -> None:
        shutil.rmtree(self.folder)

    def time_sweep(self, configurations: int, workers: int) -> None:
        out = Path(tempfile.mkdtemp(dir=self.folder))
        fastsim.sweep(space(configurations), out, workers=workers or None)

"""Many configurations in one call."""

import fastsim
from fastsim.deployment import Deployment
from fastsim.workload import load


class Sweep:
    """Configurations of one model on one workload, that share eight tables."""

    params = ([1, 10, 100, 1_000], [1, 2], [100, 5_000])
    param_names = ("configurations", "threads", "requests")
    timeout = 120

    def setup(self, configurations: int, threads: int, requests: int) -> None:
        workload = load("chat", rate=3.0, num_requests=requests)
        varied = [(f"scheduler.max_num_seqs={32 * (1 + n % 8)}", f"scheduler.watermark={0.01 + n * 1e-6:.6f}")
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

"""How the kernel's time grows: a line in requests and iterations, and what one iteration of a steady decode costs."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

import fastsim
from fastsim.deployment.description import Deployment
from fastsim.workload.loading import load


class Fit(NamedTuple):
    """seconds = us_per_run + ns_per_request * requests + ns_per_iteration * iterations."""

    us_per_run: float
    ns_per_request: float
    ns_per_iteration: float
    r_squared: float  # of the logarithm of the time
    slope: float  # of log(time) over log(size) at equal shape: 1 is linear
    points: NDArray[np.float64]  # [n, 3] requests, iterations, seconds


def fit(policy: str = "sarathi", sizes: tuple[int, ...] = (10, 100, 1_000, 10_000), runs: int = 5) -> Fit:
    """Fixed lengths on one replica with 16 places at 80 % load: requests and iterations vary apart from each other.

    ``sizes``: requests of 1,000 output tokens; of shorter ones there are more.
    """
    deployment = Deployment.load(None, [f"scheduler.policy={policy}", "scheduler.max_num_seqs=16"])
    points = []
    for outputs in (4, 30, 200, 1000):
        for size in sizes:
            lengths = {"kind": "fixed", "num_prompt_tokens": 64, "num_output_tokens": outputs}
            gaps = {"kind": "poisson", "rate": 0.8 * 16 / (0.009 * outputs + 0.02)}
            number = size * 1030 // (outputs + 30)
            workload = load({"lengths": lengths, "gaps": gaps, "num_requests": number})
            summaries = [fastsim.simulate(deployment, workload, detail=False).summary for _ in range(runs)]
            seconds = min(one["timing"]["kernel_s"] for one in summaries)
            points.append((number, summaries[0]["totals"]["iterations"], seconds))
    table = np.array(points, np.float64)
    terms = np.column_stack([np.ones(len(table)), table[:, :2]])
    # Small runs count as much as large ones.
    shares, *_ = np.linalg.lstsq(terms / table[:, 2:], np.ones(len(table)), rcond=None)
    logs = np.log(table[:, 2])
    missed = logs - np.log(np.maximum(terms @ shares, 1e-9))
    r_squared = 1 - float((missed**2).sum() / ((logs - logs.mean()) ** 2).sum())
    grown = [np.polyfit(np.log(part[:, 1]), np.log(part[:, 2]), 1)[0] for part in np.split(table, 4)]
    return Fit(shares[0] * 1e6, shares[1] * 1e9, shares[2] * 1e9, r_squared, float(np.mean(grown)), table)


def micro_batch_ns(stages: int, batch: int, policy: str = "sarathi") -> float:
    """ns per micro-batch of ``batch`` decodes, from its formation to its end."""
    return steady_decode_ns(batch, outputs=2_000, waves=2, runs=3, policy=policy, stages=stages)


def steady_decode_ns(
    batch: int, outputs: int = 8_000, waves: int = 100, runs: int = 5, policy: str = "vllm", stages: int = 1
) -> float:
    """ns per batch while the same ``batch`` requests decode on each of the ``stages``, wave after wave."""
    places = batch * stages
    settings = [
        f"scheduler.policy={policy}",
        f"scheduler.max_num_seqs={places}",
        f"scheduler.num_blocks={places * outputs}",
        f"pipeline_parallel_size={stages}",
        "scheduler.chunk_size=1024" if policy == "sarathi" else "max_model_len=8192",
    ]
    deployment = Deployment.load(None, settings)
    lengths = {"kind": "fixed", "num_prompt_tokens": 1, "num_output_tokens": outputs}
    workload = load({"lengths": lengths, "gaps": {"kind": "static"}, "num_requests": places * waves})
    summaries = [fastsim.simulate(deployment, workload, detail=False).summary for _ in range(runs)]
    fastest = min(float(one["timing"]["kernel_s"]) for one in summaries)
    return fastest / int(summaries[0]["totals"]["iterations"]) * 1e9

"""Request streams of the benchmarks: the Azure conversation trace of 2023, or one synthesised to its statistics."""

from pathlib import Path
from typing import Any

from fastsim.workload import Workload
from fastsim.workload.loading import load

TRACE = Path(__file__).resolve().parents[2] / "shared" / "traces" / "azure_conv_2023.csv"
NUM_REQUESTS, RATE = 19_366, 5.53  # of the trace; requests/s
# Quantiles of the trace; prompts and outputs are nearly independent, gaps nearly exponential.
LIKE_AZURE: dict[str, Any] = {
    "lengths": {
        "kind": "quantiles",
        "num_prompt_tokens": {
            "probability": [0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999],
            "tokens": [8, 29, 181, 207, 396, 1020, 1189, 2734, 4083, 4142, 6179],
        },
        "num_output_tokens": {
            "probability": [0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999],
            "tokens": [12, 16, 41, 54, 85, 129, 395, 424, 451, 601, 954],
        },
        "correlation": 0.076,
    },
    "gaps": {"kind": "gamma", "rate": RATE, "cv": 1.094},
}


def azure(trace: Path | None = TRACE, num_requests: int = NUM_REQUESTS) -> tuple[Workload, str]:
    """The first requests of the trace, and what they are."""
    if trace is not None and trace.exists():
        return load(trace).head(num_requests), f"Azure conversation trace 2023 ({num_requests:,} requests)"
    drawn = load({**LIKE_AZURE, "num_requests": num_requests})
    return drawn, f"{num_requests:,} requests synthesised to the statistics of the Azure conversation trace 2023"


def azure_lengths(rate: float, num_requests: int, max_tokens: int, trace: Path | None = TRACE) -> Workload:
    """Lengths drawn from the trace, shrunk to ``max_tokens`` in all, arriving as a Poisson process."""
    found = trace is not None and trace.exists()
    lengths = {"kind": "trace", "file": str(trace)} if found else LIKE_AZURE["lengths"]
    gaps = {"kind": "poisson", "rate": rate}
    return load({"lengths": lengths, "gaps": gaps, "num_requests": num_requests, "max_tokens": max_tokens})

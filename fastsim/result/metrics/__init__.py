"""Figures of a run: latencies, rates, use of the GPUs, cost, and what limits it."""

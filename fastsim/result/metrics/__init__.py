"""The figures of a run: latencies, rates, utilisation, cost and energy, and a verdict on what limits it."""

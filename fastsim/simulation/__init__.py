"""Simulating a deployment on a workload: one run, many runs, and schedulers of a user's own."""

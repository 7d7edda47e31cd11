"""Simulating a deployment on a workload: one run, many runs, and the policies that a user writes."""

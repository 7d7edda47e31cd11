"""Runs of real engines: read as benchmarks and recordings write them, replayed, and compared with what was measured."""

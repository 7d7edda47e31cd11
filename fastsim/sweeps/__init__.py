"""Sweeps: every configuration of a space, on threads, processes or a Dask cluster."""

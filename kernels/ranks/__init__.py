"""Replicas whose data-parallel ranks step together: each rank schedules for itself, and all wait for the slowest."""

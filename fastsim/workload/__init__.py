"""Workloads: requests that are read from a file, or drawn from a preset or a description."""

from fastsim.workload.blocks import BlockHashes
from fastsim.workload.loading import is_description, load, synthesise
from fastsim.workload.presets import presets
from fastsim.workload.workload import Workload

__all__ = ["BlockHashes", "Workload", "is_description", "load", "presets", "synthesise"]

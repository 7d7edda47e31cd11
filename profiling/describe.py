"""Writes device.yaml, the description of a GPU that the catalog does not have, as far as measurements can tell."""

import os
from collections.abc import Sequence
from pathlib import Path

from fastsim.files.writing import write_text

from .case import Measured
from .plan import work
from .store import Row

HEADER = (
    "# Written anew after each run of fastsim profile while this line stays. Rates: the highest that were measured."
)


def describe(folder: Path, system: str, rows: Sequence[Row], machine: dict[str, str | float]) -> Path | None:
    """Write device.yaml, unless the user has changed its first line.

    Returns its path, or None before a GEMM is measured. Raises OutputError when the file cannot be written.
    """
    path = folder / "device.yaml"
    if path.exists() and not path.read_text(encoding="utf-8").startswith(HEADER):
        return path
    tflops, gb_s = rates(rows)
    if not tflops:
        return None
    watts = machine.get("power_limit_w")
    figures = {
        "name": system,
        "memory_gib": round(_memory_gib(machine), 1),
        "bandwidth_gb_s": float(f"{gb_s:.4g}"),
        "tflops": f"{{bf16: {tflops:.4g}}}",
        "num_sms": int(machine.get("num_sms", machine["cpus"])),
        "power_w": watts if isinstance(watts, float) else 0,
        "price_per_hour": "null",
        "source": f'"measured on {machine["name"]}"',
    }
    write_text(path, "\n".join([HEADER, *(f"{key}: {value}" for key, value in figures.items())]) + "\n")
    return path


def rates(rows: Sequence[Row]) -> tuple[float, float]:
    """Return the highest TFLOP/s of bf16 GEMMs, and the highest GB/s of GEMMs and decode attention; 0 without rows."""
    tflops = gb_s = 0.0
    for case, outcome in rows:
        if isinstance(outcome, Measured) and case.family in ("gemm", "decode_attention") and case.precision == "bf16":
            flops, moved = work(case.family, case.shape)
            gb_s = max(gb_s, moved / outcome.ms / 1e6)
            if case.family == "gemm":
                tflops = max(tflops, flops / outcome.ms / 1e9)
    return tflops, gb_s


def _memory_gib(machine: dict[str, str | float]) -> float:
    if "memory_gb" in machine:
        return float(machine["memory_gb"]) * 1e9 / 2**30
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30

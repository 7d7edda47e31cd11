"""Small kernels of a profile: one launch time and one speed for all of them, like the card of measurements.curves."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fastsim.errors import TableError
from fastsim.predictors.chip import Floats

# Bytes moved per element of the shape's two columns: bf16 in and out, and to fp8 for quantise.
MOVED = {"rms_norm": 4, "add_rms_norm": 8, "add": 6, "activation": 6, "quantise": 3}
WIDTH = {"activation": "width"}  # the second column, where it is not hidden
ENOUGH = 8  # rows


def elementwise(folder: Path, system: str, bandwidth_gb_s: float) -> dict[str, Any] | None:
    """The card of small kernels from ``folder``/other; None where too few were measured or no speed can be fitted."""
    moved, ms, frameworks = [], [], set()
    for path in sorted((folder / "other").glob("*.parquet")):
        try:
            rows = pq.read_table(path).to_pylist()
        except (OSError, pa.ArrowInvalid) as problem:
            reason = str(problem).splitlines()[0]
            raise TableError(f"{path}: not a readable Parquet file ({reason})") from None
        for row in rows:
            family = row.get("family")
            if row.get("device") != system or family not in MOVED or not row.get("ms") or "throttled" in row["flags"]:
                continue
            moved.append(MOVED[family] * row["tokens"] * row[WIDTH.get(family, "hidden")])
            ms.append(row["ms"])
            frameworks.add(f"{row['framework']} {row['version']}")
    source = {"rows": f"profile:{folder}", "frameworks": sorted(frameworks)}
    return fitted(np.array(moved), np.array(ms), system, bandwidth_gb_s, source)


def fitted(
    moved: Floats, ms: Floats, system: str, bandwidth_gb_s: float, source: dict[str, Any]
) -> dict[str, Any] | None:
    """The card of kernels that move ``moved`` bytes in ``ms``; float64[rows] each.

    ms = launch_ms + bytes / (efficiency * ``bandwidth_gb_s``), with the least relative error.
    """
    from scipy.optimize import nnls  # type: ignore[import-untyped]

    if len(ms) < ENOUGH:
        return None
    parts = np.column_stack([np.ones(len(ms)), moved]) / ms[:, None]
    (launch, per_byte), _ = nnls(parts, np.ones(len(ms)))
    if not launch or not per_byte:
        return None
    return {
        "family": "elementwise",
        "system": system,
        "units": "efficiency: of DRAM bandwidth; launch_ms: per kernel inside a CUDA graph",
        "efficiency": round(1e-6 / (per_byte * bandwidth_gb_s), 3),
        "launch_ms": round(float(launch), 5),
        "source": source,
    }

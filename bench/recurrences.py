"""How far the times of linear mixers are from measured ones: `python bench/recurrences.py FOLDER`.

FOLDER is aiconfigurator_core/systems/data of the wheel of aiconfigurator-core, whose tables gdn_perf.parquet and
kda_perf.parquet hold times of gated delta nets and of Kimi delta attention in SGLang, TensorRT-LLM and vLLM. A line for
each GPU, table and phase gives the median of predicted over measured time, and the factors that 5 and 95 % lie below.
Prefills are of one sequence of 64 to 32,768 tokens; decodes of 1 to 4,096 sequences.
"""

import argparse
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from fastsim.catalog.load import load_device, names
from fastsim.deployment.operators.kinds import Recurrence
from fastsim.predictors.times.recurrence import decode_formula, prefill_formula

FEWEST, MOST = 64, 32_768  # tokens of a prefill


def ratios(table: Path, bandwidth_gb_s: float) -> dict[str, list[float]]:
    """Predicted over measured time of each row of a table, by phase."""
    found: dict[str, list[float]] = {"decode": [], "prefill": []}
    for row in pq.read_table(table).to_pylist():
        if "conv" in row["kernel_source"]:
            continue
        heads, tokens = row["num_v_heads"], row["num_tokens"]
        state = heads * row["head_k_dim"] * row["head_v_dim"]
        width = 2 * heads * (row["head_k_dim"] + row["head_v_dim"])
        one = Recurrence(state, 4, 0, width)
        at = np.array([float(tokens)])
        if row["phase"] == "generation":
            found["decode"].append(float(decode_formula(one, at, bandwidth_gb_s)[0]) / row["latency"])
        elif row["phase"] == "context" and row["batch_size"] == 1 and FEWEST <= tokens <= MOST:
            found["prefill"].append(float(prefill_formula(one, at, bandwidth_gb_s)[0]) / row["latency"])
    return found


def main() -> None:
    """Print a line for each table and phase."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    devices = {device.predictor: device for device in map(load_device, names("devices")) if device.predictor}
    for system, device in devices.items():
        for table in sorted(
            [*folder.glob(f"{system}/**/gdn_perf.parquet"), *folder.glob(f"{system}/**/kda_perf.parquet")]
        ):
            for phase, found in ratios(table, device.bandwidth_gb_s).items():
                if found:
                    low, middle, high = np.quantile(found, (0.05, 0.5, 0.95))
                    place = "/".join(table.relative_to(folder / system).parts[1:])
                    print(
                        f"{device.name:14} {phase:8} {place:36} {len(found):5} {middle:5.2f} ({low:.2f} to {high:.2f})"
                    )


if __name__ == "__main__":
    main()

"""Our measured times beside a shipped forest's on the same shapes, by operator: python bench/profiled.py DIR [DEVICE].

DIR is what fastsim profile wrote; DEVICE a system with forests (h200_sxm).
"""

import argparse
from pathlib import Path

import numpy as np

from fastsim.errors import FastsimError
from fastsim.predictors.forests import forest as shipped
from fastsim.predictors.measurements import aiconfigurator, profile
from fastsim.predictors.measurements.records import Records


def line(records: Records, system: str) -> str:
    """Forest over measured: median ratio, mean absolute difference, share inside the 90 % interval."""
    name = f"{records.family:18}{records.precision:7}{len(records.ms):6}"
    if records.precision not in shipped.precisions(system, records.family):
        return f"{name}   no forest"
    forest = shipped.load(system, records.family, records.precision, aiconfigurator.SYSTEMS[system].chip)
    ratio = forest.ms(records.shape) / records.ms
    low, high = forest.interval(records.shape)
    held = 100 * np.mean((low <= records.ms) & (records.ms <= high))
    outside = 100 * np.mean(forest.outside(records.shape))
    return f"{name}{np.median(ratio):9.3f}{100 * np.mean(abs(ratio - 1)):9.1f}{held:10.1f}{outside:10.1f}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("device", nargs="?", default="h200_sxm", choices=shipped.systems())
    given = parser.parse_args()
    try:
        found = profile.read(given.folder, given.device)
    except FastsimError as error:
        parser.error(str(error))
    print(f"{'operator':18}{'type':7}{'rows':>6}{'ratio':>9}{'off %':>9}{'in 90 %':>10}{'outside %':>10}")
    for records in found:
        print(line(records, given.device))
    print("ratio: forest over measured, the median; off: mean absolute difference; outside: of what the forest met")


if __name__ == "__main__":
    main()

"""How well operator times are predicted on shapes kept from training: python bench/operators.py [--compare h100_sxm].

One table: all machines that are shipped, every family, precision and split. Machines under --compare are trained
again, unshrunk and in Vidur's way (raw axes, --method raw), on the same rows: needs pip install "fastsim[aic]".
Then our operators against those that Vidur measured, where ../shared/vidur_profiles is there.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from fastsim.catalog.load import load_device, load_model
from fastsim.catalog.model import Model
from fastsim.predictors.chip import Chip
from fastsim.predictors.families import FAMILIES, Size
from fastsim.predictors.forests import forest as shipped
from fastsim.predictors.forests import vidur_baseline
from fastsim.predictors.forests.splits import FOLDS
from fastsim.predictors.forests.train import hold_out, percent
from fastsim.predictors.measurements import aiconfigurator, vidur, vidur_device
from fastsim.predictors.measurements.records import Records, checked

ROOT = Path(__file__).resolve().parents[1]
VIDUR = ROOT.parent / "shared" / "vidur_profiles"
PROFILED = "meta-llama/Llama-2-70b-hf"
# Vidur's devices, and the systems whose forests are asked: the A40 its own, and the A100's scaled to its figures.
GEMMS = (("a100", "a100_sxm"), ("h100", "h100_sxm"), ("a40", "a40"), ("a40", "a100_sxm"))
UNSHRUNK = Size(60, None)
SEEN = "rows it was trained on"


def cards() -> list[dict]:  # type: ignore[type-arg]
    """Cards of all shipped forests."""
    paths = sorted(shipped.FOLDER.glob("*/*.onnx"))
    return [json.loads(path.with_suffix(".json").read_bytes()) for path in paths]


def compared(system: str, family: str, precision: str, count: int, full: bool) -> dict[str, list[float]]:
    """Split -> error of the size that is shipped, unshrunk, and of Vidur's way, %, on the same rows."""
    records, chip = aiconfigurator.read(system, family, precision), aiconfigurator.SYSTEMS[system].chip
    ways = [hold_out(records, chip, size, count=count) for size in (FAMILIES[family].size, UNSHRUNK)]
    ways.append(vidur_baseline.hold_out(records, vidur_baseline.GRID if full else vidur_baseline.FEW, count))
    return {name: [percent(held[name]) for held in ways] for name in ways[0]}


def splits_table(compare: list[str], families: list[str], precisions: list[str], count: int, full: bool) -> None:
    """Print errors and coverage by split."""
    print(f"{'machine':20}{'operator':18}{'type':10}{'split':36}{'shipped':>9}{'unshrunk':>9}{'raw':>9}{'in 90 %':>8}")
    for card in cards():
        system, family, precision = card["system"], card["family"], card["precision"]
        if family not in (families or [family]) or precision not in (precisions or [precision]):
            continue
        other = compared(system, family, precision, count, full) if system in compare else {}
        for split, error in card["error_percent"].items():
            if split == SEEN:
                continue
            beside = "".join(f"{value:9.1f}" for value in other.get(split, [error]))
            line = f"{system:20}{family:18}{precision:10}{split:36}{beside:27}"
            print(f"{line}{card['coverage_percent'][split]:8.1f}", flush=True)
        print(
            f"{system:20}{family:18}{precision:10}{'every fold by the others':63}{card['coverage_percent']['all']:8.1f}"
        )


def decode_records(path: Path, device: str, model: Model, tp: int) -> Records:
    """Decode attention of attention.csv in the declared table."""
    batch, kv, ms = vidur.read_attention(path, model, tp, decode=True)
    heads, kv_heads = model.num_attention_heads // tp, max(1, model.num_key_value_heads // tp)
    fixed = np.tile([heads, kv_heads, model.head_dim], (batch.size, 1))
    shape = np.column_stack([batch, np.maximum(kv, 1), fixed])
    return checked(Records("decode_attention", device, "bf16", ("vidur 7d47513",), shape, ms, str(path)))


def against(records: Records, system: str, groups: dict[str, np.ndarray]) -> str:
    """Our times against measured ones: mean absolute (and signed) difference, %, by group of rows."""
    device = load_device(records.device)
    chip = Chip(device.tflops["bf16"], device.bandwidth_gb_s, device.num_sms)
    forest = shipped.load(system, records.family, "bf16", chip)
    off = 100 * (forest.ms(records.shape) / records.ms - 1)
    low, high = forest.interval(records.shape)
    inside = 100 * np.mean((low <= records.ms) & (records.ms <= high))
    parts = [f"{name}: {abs(off[rows]).mean():5.1f} ({off[rows].mean():+6.1f})" for name, rows in groups.items()]
    return (
        f"{len(off):6} rows  {abs(off).mean():5.1f} ({off.mean():+6.1f})   {'   '.join(parts)}   in 90 %: {inside:5.1f}"
    )


def vidur_table() -> None:
    """Print our operators against Vidur's profiles."""
    print("\nOurs over Vidur's measurements, mean absolute (and signed) difference, %, by tokens or sequences")
    for device, system in GEMMS:
        records = vidur_device.gemms(VIDUR, device)
        tokens = records.shape[:, 0]
        groups = {"to 64 tokens": tokens <= 64, "to 512": (tokens > 64) & (tokens <= 512), "beyond": tokens > 512}
        print(f"{device:5} by {system:9}  GEMM    {against(records, system, groups)}")
    path = vidur.profiling(VIDUR) / "compute" / "a100" / PROFILED / "attention.csv"
    records = decode_records(path, "a100", load_model(PROFILED), 2)
    moved = 4 * records.shape[:, [0, 1, 3, 4]].prod(axis=1)
    groups = {"KV to 64 MB": moved <= 64e6, "beyond": moved > 64e6}
    print(f"a100  by a100_sxm   decode  {against(records, 'a100_sxm', groups)}")
    print(NOTES)


NOTES = """A word on the large ones:
- H100 GEMM beyond 64 tokens: the tables (vLLM 0.24 and SGLang 0.5.14) are 10 to 20 % faster than Vidur's profile of
  2024 in every operator and at every TP, the forest is not: newer libraries, another power state, or both.
- A100 GEMM: Vidur's 7B rows were 3 to 7 % slower or faster by TP, its 70B rows 7 % slower; small batches ours slower.
- Decode: FlashAttention runs in waves of the 108 SMs: with 4 KV heads a step comes after 27, 54 and 108 sequences. The
  tables know powers of two only, each just after a step; between them Vidur's rows are up to a quarter faster. At
  powers of two both agree within 10 % where DRAM decides, and our table starts 5 to 10 us higher at few sequences."""


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--compare", nargs="*", default=[], metavar="SYSTEM", help="also unshrunk and raw, e.g. h100_sxm"
    )
    parser.add_argument("--family", nargs="*", default=[], help="only these families")
    parser.add_argument("--precision", nargs="*", default=[], help="only these precisions")
    parser.add_argument("--folds", type=int, default=FOLDS, help="of what is trained again")
    parser.add_argument("--full-grid", action="store_true", help="Vidur's whole grid search: hours")
    given = parser.parse_args()
    splits_table(given.compare, given.family, given.precision, given.folds, given.full_grid)
    if VIDUR.is_dir():
        vidur_table()


if __name__ == "__main__":
    main()

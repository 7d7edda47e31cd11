"""Print a calibration: coefficients with intervals and bounds, what was left out, and errors."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fastsim.calibration.calibrate import Calibrated
from fastsim.cli.terminal.console import MISSING, note, number, print_json, stdout, table
from fastsim.deployment.calibration import Fitted
from fastsim.report.words import signed

if TYPE_CHECKING:
    from rich.table import Table


def calibration(found: Calibrated, notes: Sequence[str], out: Path, json: bool) -> None:
    """Print a calibration as text or as JSON; notes go to standard error. ``out``: the file that holds it."""
    made = found.calibration
    if json:
        print_json({**made.model_dump(mode="json"), "digest": made.digest, "errors": found.errors})
        return
    for text in (*notes, *made.notes):
        note(text)
    console = stdout()
    console.print(_coefficients(made.coefficients))
    for one in made.coefficients:
        if one.left:
            console.print(f"{one.name} is left at {number(one.prior)}: {one.left}")
    console.print()
    if made.held_out or found.errors:
        console.print(_errors(found))
        console.print()
    if made.num_blocks is not None:
        console.print(f"KV blocks: {made.num_blocks:,} usable, as the engine says")
    source = " and predictor: {source: affine}" if made.affine is not None else ""
    console.print(f"Written to {out}; a deployment takes it with calibration: {out}{source}")


def _coefficients(coefficients: Sequence[Fitted]) -> "Table":
    shown = table(("Coefficient", "value", "90 % interval", "bounds"), left=("Coefficient",))
    for one in coefficients:
        interval = MISSING if one.low is None or one.high is None else f"{number(one.low, 3)} to {number(one.high, 3)}"
        shown.add_row(one.name, number(one.value), interval, f"{number(one.least)} to {number(one.most)}")
    return shown


def _errors(found: Calibrated) -> "Table":
    shown = table(("Error", "this run", "held out"), left=("Error",))
    held = {one.name: one.error for one in found.calibration.held_out}
    for name in dict.fromkeys((*found.errors, *held)):
        ours, theirs = found.errors.get(name), held.get(name)
        shown.add_row(name, *(MISSING if error is None else signed(error) for error in (ours, theirs)))
    return shown

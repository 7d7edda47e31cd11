"""Print what `fastsim profile` measured."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from fastsim.cli.terminal.console import print_json, stdout, table
from fastsim.profiling.case import Skipped

if TYPE_CHECKING:
    from fastsim.profiling.session import Done


def show(done: "Done", folder: Path, as_json: bool) -> None:
    """Print the rows measured by family, what was skipped and the command to run next; or the counts as JSON."""
    console = stdout()
    kinds = ("rows", "skipped", "throttled")
    families = table(("", *kinds))
    counts: dict[str, Counter[str]] = {}
    for row in done.rows:
        kind = "skipped" if isinstance(row.outcome, Skipped) else "throttled" if row.throttled else "rows"
        counts.setdefault(f"{row.case.family} {row.case.precision}", Counter())[kind] += 1
    if as_json:
        print_json(
            {
                "device": done.device,
                "new": done.new,
                "rows": len(done.rows),
                "left": done.left,
                "families": {name: {kind: count[kind] for kind in kinds} for name, count in sorted(counts.items())},
                "unavailable": dict(done.plan.unavailable),
            }
        )
        return
    for name, count in sorted(counts.items()):
        families.add_row(name, *(f"{count[kind]:,}" for kind in kinds))
    console.print(families)
    for name, reason in done.plan.unavailable.items():
        console.print(f"Not available: {name}: {reason}")
    reasons = Counter(row.outcome.reason for row in done.rows if isinstance(row.outcome, Skipped))
    for reason, times in reasons.most_common(3):
        console.print(f"Skipped {times:,}: {reason}")
    left = f"{done.left:,} shapes are left" if done.left else "no shape is left"
    more = "; run the same command again to measure them" if done.left else ""
    console.print(f"\nMeasured {done.new:,} now, {len(done.rows):,} in all; {left}{more}.")
    if done.device is not None:
        console.print(
            f"Next: fastsim train --source profile:{folder} --device {done.device} --out {folder / 'forests'}"
        )

"""A profile as text."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from fastsim.cli.terminal.console import stdout, table
from fastsim.profiling.case import Skipped

if TYPE_CHECKING:
    from fastsim.profiling.session import Done


def show(done: "Done", folder: Path) -> None:
    """Print what is measured, by family, what is not and why, and what to type next."""
    console = stdout()
    kinds = ("rows", "skipped", "throttled")
    families = table(("", *kinds))
    counts: dict[str, Counter[str]] = {}
    for row in done.rows:
        kind = "skipped" if isinstance(row.outcome, Skipped) else "throttled" if row.throttled else "rows"
        counts.setdefault(f"{row.case.family} {row.case.precision}", Counter())[kind] += 1
    for name, count in sorted(counts.items()):
        families.add_row(name, *(f"{count[kind]:,}" for kind in kinds))
    console.print(families)
    for name, reason in done.plan.unavailable.items():
        console.print(f"not here: {name}: {reason}")
    reasons = Counter(row.outcome.reason for row in done.rows if isinstance(row.outcome, Skipped))
    for reason, times in reasons.most_common(3):
        console.print(f"skipped {times:,}: {reason}")
    after = f"{done.left:,} more shapes could be: the same command goes on" if done.left else "nothing is left"
    console.print(f"\n{done.new:,} measured now, {len(done.rows):,} in all; {after}.")
    if done.device is not None:
        console.print(
            f"Next: fastsim train --source profile:{folder} --device {done.device} --out {folder / 'forests'}"
        )

"""What --check does: a missed objective ends the command with 1."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from fastsim.errors import MissedError

if TYPE_CHECKING:
    from fastsim.result.metrics.objectives import Objective


def needs(check: bool, slos: Sequence[str]) -> None:
    """Raise UsageError for --check without --slo."""
    if check and not slos:
        raise click.UsageError("--check needs an objective (e.g. --slo 'ttft:p90<2s')")


def refuse_missed(check: bool, objectives: "Sequence[Objective]", summary: dict[str, Any]) -> None:
    """Raise MissedError where --check is given and a result misses an objective."""
    from fastsim.result.metrics.objectives import missed

    if check and (lost := missed(objectives, summary)):
        raise MissedError(f"missed {', '.join(map(str, lost))}")

"""Fleets as text and as JSON."""

import json
from collections.abc import Sequence

from fastsim.deployment.description import Deployment
from fastsim.planning.fleet import Fleet
from fastsim.planning.ranking import Row
from fastsim.planning.search import Found


def show(made: Sequence[Fleet], found: Found, deployment: Deployment, asked: str, as_json: bool) -> None:
    """Print a line per kind of GPU, the cheapest first, and why others cannot."""
    missing = _missing(made, found.rows)
    if as_json:
        print(json.dumps({"fleets": [one.as_dict() for one in made], "cannot": missing}, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = 240  # nothing is cut off in a file or a pipe
    console.print(f"{deployment.model}, {deployment.scheduler.policy}: {asked}, {', '.join(found.objectives)}\n")
    if made:
        table = Table(box=None, pad_edge=False, header_style="bold")
        names = ("GPUs", "kind", "TP", "replicas", "$/hour", "$/1M requests", "margin", *made[0].figures)
        for name in names:
            table.add_column(name, justify="left" if name == "kind" else "right")
        for one in made:
            table.add_row(
                str(one.gpus),
                one.device,
                str(one.tensor_parallel_size),
                str(one.num_replicas),
                f"{one.dollars_per_hour:.2f}",
                f"{one.dollars_per_million_requests:.2f}",
                f"{one.margin:.0%}",
                *(_seconds(figure) for figure in one.figures.values()),
            )
        console.print(table)
    for device, reason in missing.items():
        console.print(f"{device}: {reason}")
    for note in found.notes[: 0 if made else 1]:
        Console(stderr=True, highlight=False, soft_wrap=True).print(f"note: {note}", style="yellow")


def _missing(made: Sequence[Fleet], rows: Sequence[Row]) -> dict[str, str]:
    """Kinds of GPU without a fleet, and why."""
    served = {one.device for one in made}
    reasons: dict[str, str] = {}
    for row in rows:
        if row["device"] not in served:
            reasons.setdefault(row["device"], row["error"] or f"no number of replicas meets {row['limited_by']}")
    return reasons


def _seconds(figure: float | None) -> str:
    if figure is None:
        return "-"
    return f"{figure:.3g} s" if figure >= 1 else f"{figure * 1e3:.3g} ms"

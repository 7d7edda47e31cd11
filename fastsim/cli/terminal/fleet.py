"""Fleets as text and as JSON."""

from collections.abc import Sequence

from fastsim.cli.terminal.console import note, print_json, seconds, share, stdout, table
from fastsim.deployment.description import Deployment
from fastsim.planning.fleet import Fleet
from fastsim.planning.ranking import Row
from fastsim.planning.search import Found


def show(made: Sequence[Fleet], found: Found, deployment: Deployment, asked: str, as_json: bool) -> None:
    """Print a line per kind of GPU, the cheapest first, and why others cannot."""
    missing = _missing(made, found.rows)
    if as_json:
        print_json({"fleets": [one.as_dict() for one in made], "cannot": missing})
        return
    console = stdout()
    console.print(f"{deployment.model}, {deployment.scheduler.policy}: {asked}, {', '.join(found.objectives)}\n")
    if made:
        heads = ("GPUs", "kind", "TP", "replicas", "$/hour", "$/1M requests", "margin", *made[0].figures)
        fleets = table(heads, left=("kind",))
        for one in made:
            fleets.add_row(
                str(one.gpus),
                one.device,
                str(one.tensor_parallel_size),
                str(one.num_replicas),
                f"{one.dollars_per_hour:.2f}",
                f"{one.dollars_per_million_requests:.2f}",
                share(one.margin),
                *(seconds(figure) for figure in one.figures.values()),
            )
        console.print(fleets)
    for device, reason in missing.items():
        console.print(f"{device}: {reason}")
    for text in found.notes[: 0 if made else 1]:
        note(text)


def _missing(made: Sequence[Fleet], rows: Sequence[Row]) -> dict[str, str]:
    """Kinds of GPU without a fleet, and why."""
    served = {one.device for one in made}
    reasons: dict[str, str] = {}
    for row in rows:
        if row["device"] not in served:
            reasons.setdefault(row["device"], row["error"] or f"no number of replicas meets {row['limited_by']}")
    return reasons

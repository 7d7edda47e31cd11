"""Print fleets as text or as JSON."""

from collections.abc import Sequence

from fastsim.cli.terminal.console import MISSING, counted, note, print_json, seconds, share, stdout, table
from fastsim.deployment.description import Deployment
from fastsim.deployment.settings import runs
from fastsim.planning.fleet import Fleet
from fastsim.planning.mixes import Mix
from fastsim.planning.search import SearchResult
from fastsim.predictors.build import times_notes
from fastsim.sweeps.configuration import Row


def show(fleets: Sequence[Fleet], found: SearchResult, deployment: Deployment, load: str, as_json: bool) -> None:
    """Print a line for each kind of GPU, the cheapest first, and why the other kinds cannot serve the load."""
    missing, said = _missing(fleets, found.rows), _said(fleets, found)
    if as_json:
        print_json({"fleets": [fleet.as_dict() for fleet in fleets], "cannot": missing, "notes": said})
        return
    _print(fleets, missing, f"{deployment.model}, {runs(deployment)}: {load}, {', '.join(found.objectives)}")
    for text in said:
        note(text)


def show_for_users(
    fleets: Sequence[Fleet], missing: dict[str, str], deployment: Deployment, load: str, as_json: bool
) -> None:
    """Print a line for each kind of GPU, the cheapest first, and why the other kinds cannot serve the users."""
    if as_json:
        print_json({"fleets": [fleet.as_dict() for fleet in fleets], "cannot": missing, "notes": []})
        return
    _print(fleets, missing, f"{deployment.model}, {runs(deployment)}: {load}")


def _print(fleets: Sequence[Fleet], missing: dict[str, str], title: str) -> None:
    """Print a title, a line for each fleet, and why other kinds of GPU have none."""
    console = stdout()
    console.print(f"{title}\n")
    if fleets:
        has_ranks, has_experts = (any(each) for each in zip(*map(_layout, fleets), strict=True))
        heads = (
            "GPUs",
            "kind",
            "TP",
            *(("DP",) if has_ranks else ()),
            *(("EP",) if has_experts else ()),
            "replicas",
            "$/hour",
            "$/1M requests",
            "margin",
            "chance",
            "goodput",
            *fleets[0].figures,
        )
        lines = table(heads, left=("kind",))
        for fleet in fleets:
            lines.add_row(
                str(fleet.gpus),
                _kind(fleet),
                MISSING if fleet.tensor_parallel_size is None else str(fleet.tensor_parallel_size),
                *((str(fleet.data_parallel_size),) if has_ranks else ()),
                *(("yes" if fleet.enable_expert_parallel else "no",) if has_experts else ()),
                str(fleet.num_replicas),
                f"{fleet.dollars_per_hour:.2f}",
                f"{fleet.dollars_per_million_requests:.2f}",
                share(fleet.margin) + ("+" if fleet.margin_is_least else ""),
                share(fleet.chance),
                share(fleet.goodput, 1),
                *(seconds(figure) for figure in fleet.figures.values()),
            )
        console.print(lines)
        for fleet in fleets:
            console.print(
                f"{_kind(fleet)}: {counted(fleet.num_replicas, 'replica')} held in {fleet.num_requests:,} requests, "
                f"{seconds(fleet.span)}, and in three times as many others at 1 % more; {fleet.tight}"
            )
    for device, reason in missing.items():
        console.print(f"{device}: {reason}")


def _layout(fleet: Fleet) -> tuple[bool, bool]:
    """Whether replicas have ranks, and whether their GPUs share the experts."""
    return fleet.data_parallel_size > 1, fleet.enable_expert_parallel


def _kind(fleet: Fleet) -> str:
    """The GPU of a fleet, or how many replicas of which pools it has."""
    return " + ".join(f"{number:,} {name}" for name, number in fleet.pools.items()) or fleet.device


def show_mix(mix: Mix, load: str, objectives: Sequence[str], as_json: bool) -> None:
    """Print the cheapest mix of pools, or what they miss."""
    fleets = [mix.fleet] if mix.fleet else []
    missing = {"pools": mix.missed} if mix.missed else {}
    said = list(dict.fromkeys((*times_notes(mix.resolved), *mix.notes)))
    if as_json:
        print_json({"fleets": [fleet.as_dict() for fleet in fleets], "cannot": missing, "notes": said})
        return
    deployment = mix.resolved.deployment
    _print(fleets, missing, f"{deployment.model}, {runs(deployment)}: {load}, {', '.join(objectives)}")
    for text in said:
        note(text)


def _said(fleets: Sequence[Fleet], found: SearchResult) -> list[str]:
    """Why there is no fleet, what was not measured of the GPUs of a fleet, and what became of the requests."""
    served = {fleet.device for fleet in fleets}
    texts = dict.fromkeys(found.notes[: 0 if fleets else 1])
    for candidate in found.candidates:
        if candidate.resolved.device.name in served:
            texts |= dict.fromkeys(times_notes(candidate.resolved))
    return [*(texts | dict.fromkeys(text for candidate in found.candidates for text in candidate.unit.notes))]


def _missing(fleets: Sequence[Fleet], rows: Sequence[Row]) -> dict[str, str]:
    """The reason why a kind of GPU has no fleet, by its name."""
    served = {fleet.device for fleet in fleets}
    reasons: dict[str, str] = {}
    for row in rows:
        if row["device"] not in served:
            reasons.setdefault(row["device"], row["error"] or f"no number of replicas meets {row['limited_by']}")
    return reasons

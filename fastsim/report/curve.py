"""The page of a curve: latency and cost against load, of one deployment or several."""

from collections.abc import Sequence

from fastsim.planning.load_curve import Curve
from fastsim.report.charts.curve import against_load, points_table
from fastsim.report.page.page import Card, Cards, Section, Text, page
from fastsim.report.words import number

LEAD = "The knee, and the highest load within the objectives, which is what `fastsim capacity` finds."


def curve_page(curves: Sequence[Curve], workload: str) -> str:
    """Return the page about the curves of one deployment or several as HTML."""
    title = curves[0].name if len(curves) == 1 else f"{len(curves)} deployments"
    lead = f"Latency and cost of {title} against load, by requests of {workload}; {', '.join(curves[0].objectives)}."
    notes = dict.fromkeys(note for curve in curves for note in curve.notes)
    sections = [
        section(curves),
        Section("Points", [points_table(curves), *(Text(note, "note") for note in notes)]),
    ]
    return page(f"Latency against load: {title}", sections, lead)


def section(curves: Sequence[Curve], now: Sequence[tuple[str, float, int]] = ()) -> Section:
    """Return a section with the figure of these curves; ``now``: loads to mark, see ``charts.curve.against_load``."""
    return Section("Latency against load", [Cards(cards(curves), wide=True), against_load(curves, now)], LEAD)


def cards(curves: Sequence[Curve]) -> list[Card]:
    """Return the capacity and the knee of each curve."""
    made = []
    for curve in curves:
        unit = "users" if curve.users else "requests/s"
        whose = f", {curve.name}" if len(curves) > 1 else ""
        first = f"{', '.join(curve.limited_by)} breaks first" if curve.limited_by else "nothing breaks above it"
        capacity = f"{number(curve.capacity)} {unit}" if curve.capacity else "none"
        made.append(Card(f"Capacity{whose}", capacity, first if curve.capacity else "no load meets the objectives"))
        at = next(point for point in curve.points if point.load == curve.knee)
        price = at.dollars_per_million_requests
        dear = "" if price is None else f"${price:,.2f} per million requests"
        made.append(Card(f"Knee{whose}", f"{number(curve.knee)} {unit}", dear))
    return made

"""Print latency against load as a table or as JSON."""

from collections.abc import Sequence
from pathlib import Path

from fastsim.cli.terminal.console import (
    MISSING,
    counted,
    note,
    number,
    print_json,
    seconds,
    share,
    stdout,
    table,
    written,
)
from fastsim.planning.curves import as_dict
from fastsim.planning.load_curve import Curve, Point

COLUMNS = (
    ("TTFT P50", "latency.ttft.p50"),
    ("P90", "latency.ttft.p90"),
    ("P99", "latency.ttft.p99"),
    ("TBT P99", "latency.tbt.p99"),
    ("TPOT", "latency.tpot.mean"),
    ("E2E", "latency.e2e.mean"),
)


def show(curves: Sequence[Curve], workload: str, out: Path | None, as_json: bool) -> None:
    """Print a table with a row for each load of each deployment, and what is marked in it."""
    if as_json:
        print_json(as_dict(curves, workload))
        return
    console = stdout()
    for curve in curves:
        limits = ", ".join(curve.objectives)
        console.print(f"{curve.name}, {counted(curve.gpus, 'GPU')}; {workload}; {limits}\n")
        load = "users" if curve.users else "requests/s"
        lines = table((load, *(name for name, _ in COLUMNS), "tokens/s", "goodput", "$/1M requests", ""), left=("",))
        for point in curve.points:
            shown = f"{point.load:,.0f}" if curve.users else number(point.load)
            lines.add_row(
                shown,
                *(seconds(point.figures[key]) for _, key in COLUMNS),
                number(point.figures["throughput.output_tokens_per_s"]),
                share(point.goodput),
                MISSING if point.dollars_per_million_requests is None else f"{point.dollars_per_million_requests:.2f}",
                _marks(point, curve),
            )
        console.print(lines)
        unit = "users" if curve.users else "requests/s"
        console.print(f"\nKnee      {number(curve.knee)} {unit}: requests/s over mean E2E is highest")
        if curve.capacity:
            first = f": {', '.join(curve.limited_by)} breaks first" if curve.limited_by else ""
            console.print(f"Capacity  {number(curve.capacity)} {unit}{first}")
        else:
            console.print(f"Capacity  none: no load meets {limits}")
        console.print(f"{sum(point.num_requests for point in curve.points):,} requests, in {curve.seconds:.1f} s\n")
    if out is not None:
        written(out)
    for text in dict.fromkeys(text for curve in curves for text in curve.notes):
        note(text)


def _marks(point: Point, curve: Curve) -> str:
    """What a point is: the knee, the capacity, or how it fails."""
    marks = ["knee"] if point.load == curve.knee else []
    if point.load == curve.capacity:
        marks.append("capacity")
    if point.drift:
        marks.append(f"falls behind by {share(point.drift, 1)}")
    elif point.missed:
        marks.append(f"misses {', '.join(point.missed)}")
    return ", ".join(marks)

"""What the terminal shows of a workload."""

import json

from fastsim.workload.workload import Workload

ROWS = (
    ("prompt tokens", "num_prompt_tokens"),
    ("output tokens", "num_output_tokens"),
    ("both", "num_tokens"),
    ("prompt : output", "prompt_output_ratio"),
)
COLUMNS = ("mean", "median", "p90", "p99", "max", "total")


def show(workload: Workload, as_json: bool) -> None:
    """Print the headline figures, for a reader or as JSON."""
    figures = workload.describe()
    if as_json:
        print(json.dumps(figures, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    rate = "all at once" if figures["rate_per_s"] is None else f"{figures['rate_per_s']:,.4g} a second"
    spread = "" if figures["gap_cv"] is None else f", gaps with a coefficient of variation of {figures['gap_cv']:.3g}"
    print(f"{workload.name}: {workload.num_requests:,} requests in {figures['span_s']:,.4g} s, {rate}{spread}")
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    for column in COLUMNS:
        table.add_column(column.replace("p9", "P9"), justify="right")
    for title, key in ROWS:
        cells = (figures[key].get(column) for column in COLUMNS)
        table.add_row(title, *("" if cell is None else _text(cell) for cell in cells))
    Console(highlight=False).print(table)


def _text(value: float) -> str:
    return f"{value:,.2f}" if value < 100 and value != int(value) else f"{value:,.0f}"

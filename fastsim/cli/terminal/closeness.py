"""Print how close a workload is to the trace that it was drawn like."""

from fastsim.cli.terminal.console import is_quiet, number, print_json, stderr, stdout, table
from fastsim.workload.closeness import closeness
from fastsim.workload.workload import Workload

NAMES = {"num_prompt_tokens": "prompt tokens", "num_output_tokens": "output tokens", "gap": "gaps"}


def show(trace: Workload, drawn: Workload, aside: bool, as_json: bool) -> None:
    """Print a table of the statistics of both, ``aside`` on standard error, where standard output has the requests.

    Aside, --quiet prints nothing. ``as_json``: print both, and how close they are, as JSON instead.
    """
    if aside and is_quiet():
        return
    close = closeness(trace, drawn)
    if as_json:
        print_json({**close.as_dict(), "trace": trace.describe(), "drawn": drawn.describe()})
        return
    lines = table(("", "trace", "drawn"))
    lines.add_row("rank correlation of prompt and output tokens", *(number(each, 3) for each in close.rank_correlation))
    lines.add_row("coefficient of variation of gaps", *(number(each, 3) for each in close.gap_cv))
    for window, pair in close.dispersion.items():
        title = f"variance / mean of arrivals per {window:,} mean gaps"
        lines.add_row(title, *(number(each, 3) for each in pair))
    for size, shares in close.hit_share.items():
        cache = "an unbounded prefix cache" if size == "unbounded" else f"a prefix cache of {int(size):,} tokens"
        lines.add_row(f"prompt tokens that {cache} hits", *(f"{100 * share:.1f} %" for share in shares))
    console = stderr() if aside else stdout()
    distances = ", ".join(f"{NAMES[name]} {number(of, 2)}" for name, of in close.kolmogorov_smirnov.items())
    console.print(f"{drawn.name}: {drawn.num_requests:,} requests", soft_wrap=True)
    console.print(f"Kolmogorov-Smirnov distances: {distances}; rate over time {number(close.rate, 2)}", soft_wrap=True)
    console.print(lines)

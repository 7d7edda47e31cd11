"""A comparison of two results, on a terminal."""

from typing import Any

from fastsim.cli.terminal.console import MISSING, note, number, print_json, seconds, stdout, table
from fastsim.report.words import statistic, title
from fastsim.result.metrics.definitions import headline

FIGURES = (
    "throughput.requests_per_s",
    "throughput.output_tokens_per_s",
    "goodput.share",
    "utilisation.busy",
    "utilisation.peak_kv",
    "cost.dollars_per_million_output_tokens",
    "energy.joules_per_output_token",
    "totals.restarts",
)


def show(found: dict[str, Any], as_json: bool) -> None:
    """Print a comparison, for a reader or as JSON."""
    if as_json:
        print_json(found)
        return
    console = stdout()
    console.print(f"{found['compared']:,} of {found['requests']:,} requests finished in both; differences are B - A\n")
    for text in found["notes"]:
        note(text)
    figures = table(("", "A", "B", "difference", "95 % interval", ""))
    for name, latencies in found["latency"].items():
        for key, figure in latencies.items():
            figures.add_row(f"{title(name)} {statistic(key)}", *_cells(figure))
    for name, figure in found["breakdown"].items():
        if figure["a"] or figure["b"]:
            figures.add_row(f"{title(name)} mean", *_cells(figure))
    for name in FIGURES:
        if figure := found["figures"].get(name):
            figures.add_row(headline(name).heading, *(number(figure[key]) for key in ("a", "b", "difference")))
    console.print(figures)
    if not found["worse"]:
        console.print("\nNo request takes longer in B.")
        return
    heads = ("request", "prompt", "output", "E2E A", "E2E B", "difference", "most of it")
    requests = table(heads, title="\nTaking longer in B")
    for row in found["worse"]:
        sizes = (str(row[name]) for name in ("request_id", "num_prompt_tokens", "num_output_tokens"))
        part = f"{title(row['part'])} {seconds(row['part_difference'])}" if "part" in row else ""
        requests.add_row(*sizes, *(seconds(row[name]) for name in ("a", "b", "difference")), part)
    console.print(requests)


def _cells(figure: dict[str, Any]) -> list[str]:
    if figure["difference"] is None:
        return [MISSING] * 4
    low, high = figure["interval"]
    share = f" ({figure['difference'] / figure['a']:+.1%})" if figure["a"] else ""
    sure = "better" if high < 0 else "worse" if low > 0 else ""
    ends = f"{seconds(low)} to {seconds(high)}"
    return [seconds(figure["a"]), seconds(figure["b"]), seconds(figure["difference"]) + share, ends, sure]

"""Print a comparison of two results."""

from typing import Any

from fastsim.cli.terminal.console import MISSING, note, number, print_json, seconds, stdout, table
from fastsim.report.words import statistic, title
from fastsim.result.metrics.definitions import headline
from fastsim.result.wording import OF_SGLANG, Wording, section

FIGURES = (
    "throughput.requests_per_s",
    "throughput.output_tokens_per_s",
    "goodput.share",
    "utilisation.busy",
    "utilisation.peak_kv",
    "cache.token_hit_rate",
    "cost.dollars_per_million_output_tokens",
    "energy.joules_per_output_token",
    "totals.restarts",
)


def show(comparison: dict[str, Any], words: Wording, as_json: bool) -> None:
    """Print a comparison as tables, in the words of the engines, or as JSON."""
    if as_json:
        print_json(comparison)
        return
    console = stdout()
    console.print(
        f"{comparison['compared']:,} of {comparison['requests']:,} requests finished in both; differences are B - A\n"
    )
    for text in comparison["notes"]:
        note(text)
    figures = table(("", "A", "B", "difference", "95 % interval", ""))
    for name, latencies in comparison["latency"].items():
        for key, figure in latencies.items():
            figures.add_row(f"{title(name)} {statistic(key)}", *_cells(figure))
    for name, figure in comparison["breakdown"].items():
        if figure["a"] or figure["b"]:
            figures.add_row(f"{title(section(name, words))} mean", *_cells(figure))
    for name in FIGURES:
        if figure := comparison["figures"].get(name):
            of_sglang = name == "totals.restarts" and words == OF_SGLANG
            heading = words.losses.capitalize() if of_sglang else headline(name).heading
            figures.add_row(heading, *(number(figure[key]) for key in ("a", "b", "difference")))
    console.print(figures)
    if not comparison["worse"]:
        console.print("\nNo request is slower in B.")
        return
    heads = ("request", "prompt", "output", "E2E A", "E2E B", "difference", "largest part")
    requests = table(heads, title="\nRequests that are slower in B")
    for row in comparison["worse"]:
        sizes = (str(row[name]) for name in ("request_id", "num_prompt_tokens", "num_output_tokens"))
        largest = f"{title(section(row['part'], words))} {seconds(row['part_difference'])}" if "part" in row else ""
        requests.add_row(*sizes, *(seconds(row[name]) for name in ("a", "b", "difference")), largest)
    console.print(requests)


def _cells(figure: dict[str, Any]) -> list[str]:
    """Both values, the difference B - A with its share of A, its interval, and whether the interval excludes 0."""
    if figure["difference"] is None:
        return [MISSING] * 4
    low, high = figure["interval"]
    share = f" ({figure['difference'] / figure['a']:+.1%})" if figure["a"] else ""
    verdict = "better" if high < 0 else "worse" if low > 0 else ""
    ends = f"{seconds(low)} to {seconds(high)}"
    return [seconds(figure["a"]), seconds(figure["b"]), seconds(figure["difference"]) + share, ends, verdict]

"""Print time series as CSV or as JSON."""

from typing import TYPE_CHECKING

from fastsim.cli.terminal.console import print_json
from fastsim.errors import ConfigError

if TYPE_CHECKING:
    from fastsim.result.result import Result
from fastsim.result.kinds import num_replicas
from fastsim.result.metrics.time_series import interval_edges, iteration_series, request_series

MOST = 1_000_000  # intervals


def show(result: "Result", width: float, as_json: bool) -> None:
    """Print a row per interval of ``width`` s, or a list per series. Raises ConfigError beyond MOST intervals."""
    columns, totals = result.columns(), result.summary["totals"]
    arrived, span = columns["arrived_at"], totals["span_s"]
    if span / width > MOST:
        raise ConfigError(
            f"--every: intervals of {width:g} s divide {span:.4g} s into more than {MOST:,} (e.g. {span / 100:.2g}s)"
        )
    edges = interval_edges(float(arrived[0]) if len(arrived) else 0.0, span, width)
    series = request_series(columns, edges)
    if result.iterations is not None:
        rows = {name: result.iterations[name].to_numpy() for name in result.iterations.column_names}
        deployment = result.config["deployment"]
        series |= iteration_series(rows, edges, deployment["pipeline_parallel_size"], num_replicas(deployment))
    if as_json:
        print_json({"time": edges[:-1].tolist(), **{name: values.tolist() for name, values in series.items()}})
        return
    print(",".join(["time", *series]))
    for row in zip(edges[:-1], *series.values(), strict=True):
        print(",".join(f"{value:.9g}" for value in row))

"""The command `fastsim trace`."""

import click

from fastsim.cli import options


@click.group()
def trace() -> None:
    """Describe, convert and synthesise workloads.

    A workload is a CSV, Parquet, JSONL or JSON file of requests (`-` reads CSV from standard input), a YAML, TOML or
    JSON file that describes a synthetic workload, or a preset: agent, chat, code, reasoning, retrieval, summarisation
    or translation. The layouts of published traces and of benchmarks are recognised by their columns.
    """


@trace.command()
@click.argument("workload")
@options.unit
@options.as_json
def describe(workload: str, unit: str | None, as_json: bool) -> None:
    """Print the number of requests, the arrival rate and the lengths of WORKLOAD."""
    from fastsim.cli.terminal.workload import show
    from fastsim.workload.loading import load

    show(load(workload, unit=unit), as_json)


@trace.command()
@click.argument("source")
@click.argument("target", default="-")
@options.unit
def convert(source: str, target: str, unit: str | None) -> None:
    """Write SOURCE to TARGET as CSV, Parquet or JSONL in fastsim's own columns; `-` writes CSV to standard output."""
    from fastsim.cli import interrupt
    from fastsim.cli.terminal.workload import notes
    from fastsim.workload.loading import load
    from fastsim.workload.write import save

    interrupt.writes(target)
    workload = load(source, unit=unit)
    notes(workload, target)
    save(workload, target)


@trace.command()
@click.argument("description", required=False)
@click.option("--like", metavar="TRACE", help="Draw requests with the statistics of this file of requests instead.")
@click.option("--requests", type=int, help="Number of requests.  [default: that of DESCRIPTION or TRACE, else 1000]")
@click.option("--rate", type=float, help="Mean requests per second.  [default: that of DESCRIPTION or TRACE]")
@click.option("--seed", type=int, help="Seed of the random streams.  [default: the description's, else 0]")
@click.option("--out", default="-", help="CSV, Parquet or JSONL file to write.  [default: CSV on standard output]")
@options.unit
def synthesise(
    description: str | None,
    like: str | None,
    requests: int | None,
    rate: float | None,
    seed: int | None,
    out: str,
    unit: str | None,
) -> None:
    """Draw a synthetic workload from DESCRIPTION, a file or a preset, and write it.

    With --like TRACE the requests have the rate over time, the bursts, the lengths, the sessions and the recurring
    prefixes of TRACE, but none of its requests. A table says how close they are.
    """
    from fastsim.cli import interrupt
    from fastsim.cli.terminal import closeness
    from fastsim.cli.terminal.workload import notes
    from fastsim.errors import ConfigError
    from fastsim.workload import loading
    from fastsim.workload.like import synthesise_like
    from fastsim.workload.write import save

    interrupt.writes(out)
    if (description is None) == (like is None):
        raise ConfigError("give either DESCRIPTION or --like TRACE, and not both (e.g. --like requests.csv)")
    if like is not None:
        trace = loading.load(like, unit=unit)
        drawn = synthesise_like(trace, num_requests=requests, seed=seed or 0)
        save(drawn if rate is None else drawn.at_rate(rate), out)
        closeness.show(trace, drawn, out == "-")
        return
    if unit is not None:
        raise ConfigError(f"--unit {unit} is for the file of --like TRACE; in a description it is a key of gaps")
    assert description is not None
    workload = loading.synthesise(description, rate=rate, num_requests=requests, seed=seed)
    notes(workload, out)
    save(workload, out)

"""The command `fastsim trace`."""

import click

from fastsim.cli import options


@click.group()
def trace() -> None:
    """Describe, convert and synthesise workloads.

    A workload is a CSV, Parquet, JSONL or JSON file of requests (`-` reads CSV from standard input), a YAML, TOML or
    JSON file that describes a synthetic workload, or a preset: chat, code, summarisation or translation. The layouts of
    published traces and of benchmarks are recognised by their columns.
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
@click.argument("description")
@click.option("--requests", type=int, help="Number of requests.  [default: the description's, else 1000]")
@click.option("--rate", type=float, help="Mean requests per second.  [default: the description's]")
@click.option("--seed", type=int, help="Seed of the random streams.  [default: the description's, else 0]")
@click.option("--out", default="-", help="CSV, Parquet or JSONL file to write.  [default: CSV on standard output]")
def synthesise(description: str, requests: int | None, rate: float | None, seed: int | None, out: str) -> None:
    """Draw a synthetic workload from DESCRIPTION, a file or a preset, and write it."""
    from fastsim.cli import interrupt
    from fastsim.cli.terminal.workload import notes
    from fastsim.workload import loading
    from fastsim.workload.write import save

    interrupt.writes(out)
    workload = loading.synthesise(description, rate=rate, num_requests=requests, seed=seed)
    notes(workload, out)
    save(workload, out)

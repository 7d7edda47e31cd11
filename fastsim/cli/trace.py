"""`fastsim trace`."""

import click


@click.group()
def trace() -> None:
    """Describe, convert and synthesise workloads.

    A workload is a CSV, Parquet or JSONL file of requests (`-` is CSV on standard input), a description of a
    synthetic one (YAML, TOML or JSON), or a preset: chat, code, summarisation, translation.
    """


@trace.command()
@click.argument("workload")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def describe(workload: str, as_json: bool) -> None:
    """Print the requests, rate and lengths of WORKLOAD."""
    from fastsim.cli.terminal.workload import show
    from fastsim.workload.loading import load

    show(load(workload), as_json)


@trace.command()
@click.argument("source")
@click.argument("target", default="-")
def convert(source: str, target: str) -> None:
    """Write SOURCE to TARGET in fastsim's own columns, as CSV, Parquet or JSONL (`-`: CSV, standard output)."""
    from fastsim.workload.loading import load
    from fastsim.workload.write import save

    save(load(source), target)


@trace.command()
@click.argument("description")
@click.option("--requests", type=int, help="How many requests.  [default: the description's, else 1000]")
@click.option("--rate", type=float, help="Mean requests per second.  [default: the description's]")
@click.option("--seed", type=int, help="Seed of the random streams.  [default: the description's, else 0]")
@click.option("--out", default="-", help="CSV, Parquet or JSONL file.  [default: CSV on standard output]")
def synthesise(description: str, requests: int | None, rate: float | None, seed: int | None, out: str) -> None:
    """Draw the workload of a DESCRIPTION or preset, and write it."""
    from fastsim.workload import loading
    from fastsim.workload.write import save

    save(loading.synthesise(description, rate=rate, num_requests=requests, seed=seed), out)

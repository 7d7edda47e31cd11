"""The command `fastsim trace`."""

from typing import Any

import click

from fastsim.cli import completion, options


@click.group()
def trace() -> None:
    """Describe, convert and synthesise workloads.

    A workload is a CSV, Parquet, JSONL or JSON file of requests (`-` reads CSV from standard input), a YAML, TOML or
    JSON file that describes a synthetic workload, or a preset: agent, chat, code, reasoning, retrieval, summarisation
    or translation. The layouts of published traces and of benchmarks are recognised by their columns.
    """


@trace.command()
@click.argument("workload", required=False, shell_complete=completion.workloads)
@options.requests
@options.as_json
@options.quiet
def describe(workload: str | None, seed: int | None, as_json: bool, **requests: Any) -> None:
    """Print the number of requests, the arrival rate and the lengths of WORKLOAD, as `fastsim simulate` sends it."""
    from fastsim.cli.requests import asked
    from fastsim.cli.terminal.workload import show

    show(asked(workload, seed=seed or 0, **requests), as_json)


@trace.command()
@click.argument("source", shell_complete=completion.workloads)
@click.argument("target", default="-", shell_complete=completion.files)
@options.unit
@options.quiet
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
@click.argument("description", required=False, shell_complete=completion.workloads)
@click.option("--like", metavar="TRACE", help="Draw requests with the statistics of this file of requests instead.")
@click.option("--requests", type=int, help="Number of requests.  [default: that of DESCRIPTION or TRACE, else 1000]")
@click.option("--rate", type=float, help="Mean requests per second.  [default: that of DESCRIPTION or TRACE]")
@click.option("--seed", type=int, help="Seed of the random streams.  [default: the description's, else 0]")
@options.input_len
@options.output_len
@click.option("--out", default="-", help="CSV, Parquet or JSONL file to write.  [default: CSV on standard output]")
@options.unit
@options.as_json
@options.quiet
def synthesise(
    description: str | None,
    input_len: int | None,
    output_len: int | None,
    as_json: bool,
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
    from fastsim.cli.requests import described
    from fastsim.cli.terminal import closeness
    from fastsim.cli.terminal.workload import notes, show
    from fastsim.errors import ConfigError
    from fastsim.workload import loading
    from fastsim.workload.like import synthesise_like
    from fastsim.workload.write import save

    interrupt.writes(out)
    if as_json and out == "-":
        raise ConfigError("--json: standard output has the requests; name a file for them (e.g. --out requests.csv)")
    fixed = input_len is not None or output_len is not None
    if (description is None and not fixed) == (like is None):
        raise ConfigError("give either DESCRIPTION or --like TRACE, and not both (e.g. --like requests.csv)")
    if like is not None:
        trace = loading.load(like, unit=unit)
        drawn = synthesise_like(trace, num_requests=requests, seed=seed or 0)
        save(drawn if rate is None else drawn.at_rate(rate), out)
        closeness.show(trace, drawn, out == "-", as_json)
        return
    if unit is not None:
        raise ConfigError(f"--unit {unit} is for the file of --like TRACE; in a description it is a key of gaps")
    spec, _ = described(description, input_len, output_len)
    workload = loading.synthesise(spec, rate=rate, num_requests=requests, seed=seed)
    if as_json:
        show(workload, True)
    else:
        notes(workload, out)
    save(workload, out)

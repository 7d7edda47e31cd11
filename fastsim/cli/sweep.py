"""The command `fastsim sweep`."""

from pathlib import Path
from typing import Any

import click

from fastsim.cli import options
from fastsim.errors import printable


@click.command()
@options.space
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder for the table of results.")
@click.option(
    "--workers", type=click.IntRange(1, 1024), help="Processes of this machine (default: threads of one process)."
)
@options.dask
@click.option("--yes", is_flag=True, help="Accept a space of more than 100,000 combinations.")
@options.sent
@options.space_unit
@options.space_too_long
@options.space_overrides
@options.priced
@options.policies
@options.as_json
@options.quiet
def sweep(
    space: str,
    workload: str | None,
    named: str | None,
    out: Path,
    workers: int | None,
    dask: str | None,
    yes: bool,
    unit: str | None,
    too_long: str | None,
    overrides: tuple[str, ...],
    prices: str | None,
    price: str | None,
    policies: bool,
    as_json: bool,
    requests: int | None,
    **sent: Any,
) -> None:
    """Simulate every configuration of SPACE, a YAML, TOML or JSON file, and write a Parquet table of the results.

    WORKLOAD, and the options that say which requests are sent, take the place of the workload in SPACE.

    The table grows as results arrive. Run the same command again to resume after an interruption.

    The processes of a Dask cluster can run any code on each other's machines, and on this one. Connect only to a
    cluster of your own, with TLS (tls://) where others can reach its ports.
    """
    from contextlib import nullcontext

    from fastsim.cli import interrupt, spaces
    from fastsim.cli.policies import check_space
    from fastsim.cli.terminal import progress as progress_module
    from fastsim.cli.terminal import sweep as sweep_module
    from fastsim.cli.terminal.console import note
    from fastsim.sweeps.sweep import sweep as run

    if workers is not None and dask is not None:
        raise click.UsageError(
            "--workers starts a cluster on this machine and --dask connects to one; give only one of them"
        )
    keys = {"num_requests": requests, "unit": unit, "too_long": too_long, **sent}
    configurations = spaces.read(space, yes, workload, named, overrides=overrides, prices=prices, price=price, **keys)
    check_space(configurations, policies)
    if dask is not None:
        from fastsim.sweeps.cluster import connect
    with (
        connect(dask) if dask is not None else nullcontext() as client,
        progress_module.counting("Sweeping") as progress,
    ):
        if dask is not None and client is not None and not client.nthreads():
            note(f"{printable(dask)} has no workers yet; waiting for the first")
        interrupt.resumes(out, "done")
        done = run(configurations, out, client, workers=workers, yes=yes, progress=progress)
    sweep_module.sweep(done, as_json)

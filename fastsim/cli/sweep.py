"""The command `fastsim sweep`."""

from pathlib import Path

import click

from fastsim.cli import options
from fastsim.errors import printable


@click.command()
@click.argument("space")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder for the table of results.")
@click.option(
    "--workers", type=click.IntRange(1, 1024), help="Processes of this machine (default: threads of one process)."
)
@options.dask
@click.option("--yes", is_flag=True, help="Accept a space of more than 100,000 combinations.")
@options.space_unit
@options.space_too_long
@options.policies
def sweep(
    space: str,
    out: Path,
    workers: int | None,
    dask: str | None,
    yes: bool,
    unit: str | None,
    too_long: str | None,
    policies: bool,
) -> None:
    """Simulate every configuration of SPACE, a YAML, TOML or JSON file, and write a Parquet table of the results.

    The table grows as results arrive. Run the same command again to resume after an interruption.

    The processes of a Dask cluster can run any code on each other's machines, and on this one. Connect only to a
    cluster of your own, with TLS (tls://) where others can reach its ports.
    """
    from contextlib import nullcontext

    from fastsim.cli import interrupt
    from fastsim.cli.policies import check_space
    from fastsim.cli.terminal import progress as progress_module
    from fastsim.cli.terminal import sweep as sweep_module
    from fastsim.sweeps.space import Space
    from fastsim.sweeps.sweep import sweep as run

    if workers is not None and dask is not None:
        raise click.UsageError(
            "--workers starts a cluster on this machine and --dask connects to one; give only one of them"
        )
    configurations = Space.load(space, yes=yes).with_workload(unit=unit, too_long=too_long)
    check_space(configurations, policies)
    if dask is not None:
        from fastsim.sweeps.cluster import connect
    with (
        connect(dask) if dask is not None else nullcontext() as client,
        progress_module.counting("Sweeping") as progress,
    ):
        if dask is not None and client is not None and not client.nthreads():
            click.echo(f"fastsim: {printable(dask)} has no workers yet; waiting for the first", err=True)
        interrupt.resumes(out, "done")
        done = run(configurations, out, client, workers=workers, yes=yes, progress=progress)
    sweep_module.sweep(done)

"""`fastsim sweep`."""

from pathlib import Path

import click


@click.command()
@click.argument("space")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder for the table of results.")
@click.option("--workers", type=click.IntRange(1, 1024), help="Processes of this machine (default: threads of one).")
@click.option("--dask", metavar="ADDRESS|FILE", help="A Dask cluster: tcp://host:8786, or its scheduler file.")
@click.option("--yes", is_flag=True, help="Also more than 100,000 combinations.")
def sweep(space: str, out: Path, workers: int | None, dask: str | None, yes: bool) -> None:
    """Simulate every configuration of SPACE, a YAML, TOML or JSON file, into a table in Parquet.

    The table grows as results come. Run the same command again to go on after an interruption.
    """
    import warnings
    from contextlib import nullcontext

    from fastsim.cli.terminal import progress as progress_module
    from fastsim.cli.terminal import sweep as sweep_module
    from fastsim.sweeps.sweep import sweep as run

    if workers is not None and dask is not None:
        raise click.UsageError("--workers makes a cluster on this machine, and --dask names one: give one of them")
    if dask is not None:
        from fastsim.sweeps.cluster import connect
    warnings.showwarning = lambda message, *_: click.echo(f"fastsim: {message}", err=True)
    with (
        connect(dask) if dask is not None else nullcontext() as client,
        progress_module.counting("Sweeping") as progress,
    ):
        if client is not None and not client.nthreads():
            click.echo(f"fastsim: {dask} has no worker yet; waiting for one", err=True)
        with progress_module.resumable(out, "done"):
            done = run(space, out, client, workers=workers, yes=yes, progress=progress)
    sweep_module.sweep(done)

"""The command `fastsim warm`."""

import click


@click.command()
def warm() -> None:
    """Compile the kernels of all policies and build the default tables, so that later runs start at once."""
    from fastsim.cli import interrupt
    from fastsim.deployment.schedulers import POLICIES
    from fastsim.simulation.warm import warm as run

    interrupt.keeps("what is ready is kept, and the same command goes on")
    click.echo(f"compiling {', '.join(POLICIES)}; this takes about a minute the first time", err=True)
    for ready in run():
        click.echo(f"{ready.name:27} {ready.seconds:6.2f} s  {'made' if ready.made else 'found in the cache'}")

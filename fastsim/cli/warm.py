"""The command `fastsim warm`."""

import click

from fastsim.cli import options


@click.command()
@options.as_json
@options.quiet
def warm(as_json: bool) -> None:
    """Compile the kernels of all policies and build the default tables, so that later runs start at once."""
    from dataclasses import asdict

    from fastsim.cli import interrupt
    from fastsim.cli.terminal.console import note, print_json
    from fastsim.deployment.schedulers import POLICIES
    from fastsim.kernels._folder import ROOT
    from fastsim.kernels._limit import SHARES, VARIABLE, size_of
    from fastsim.predictors.tables.cache import finish_writing, most
    from fastsim.simulation.warm import warm as run

    allowed = most()
    interrupt.keeps("what is ready is kept, and the same command goes on")
    note(f"compiling {', '.join(POLICIES)}; this takes two or three minutes the first time")
    if as_json:
        print_json([asdict(ready) for ready in run()])
    else:
        for ready in run():
            click.echo(f"{ready.name:27} {ready.seconds:6.2f} s  {'made' if ready.made else 'found in the cache'}")
    finish_writing()
    held = sum(size_of(ROOT / name) for name in SHARES)
    note(f"{ROOT} holds {held / 1e9:.2g} GB (FASTSIM_CACHE_DIR), of at most {allowed / 1e9:g} ({VARIABLE})")

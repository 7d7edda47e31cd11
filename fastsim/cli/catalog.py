"""The command `fastsim catalog`."""

import click

from fastsim.cli import options

KINDS = ("models", "devices", "nodes", "policies", "routers", "predictors", "metrics")


@click.command()
@click.argument("kind", type=click.Choice(KINDS))
@options.as_json
def catalog(kind: str, as_json: bool) -> None:
    """List the models, devices, nodes, policies, routers or predictors that a deployment can name, or all metrics."""
    from fastsim.cli.terminal.catalog import show

    show(kind, as_json)

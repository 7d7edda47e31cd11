"""`fastsim catalog`."""

import click

KINDS = ("models", "devices", "nodes", "policies", "routers", "predictors", "metrics")


@click.command()
@click.argument("kind", type=click.Choice(KINDS))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def catalog(kind: str, as_json: bool) -> None:
    """List what a deployment can name (models, devices, nodes, policies, routers, predictors), or metrics."""
    from fastsim.cli.terminal.catalog import show

    show(kind, as_json)

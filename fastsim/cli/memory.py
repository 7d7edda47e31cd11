"""The command `fastsim memory`."""

import click

from fastsim.cli import options


@click.command()
@options.deployment
@options.overrides
@options.as_json
@options.quiet
def memory(deployment: str | None, overrides: tuple[str, ...], as_json: bool) -> None:
    """Show what the memory of a GPU of DEPLOYMENT holds: weights, what the engine works in, and the KV cache.

    Of a deployment with pools, a GPU of each is shown. No operator times are needed, so that every GPU of the catalog
    and every model has an answer.
    """
    from fastsim.cli.terminal.memory import show
    from fastsim.deployment.account import accounts
    from fastsim.deployment.description import Deployment
    from fastsim.deployment.resolve import resolve

    show(accounts(resolve(Deployment.load(deployment, overrides))), as_json)

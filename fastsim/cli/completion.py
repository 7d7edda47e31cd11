"""The command `fastsim completion`, and what shells complete beside commands and options."""

from collections.abc import Iterable

import click


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what SHELL reads to complete commands, options, models and devices.

    For bash, add this line to ~/.bashrc: eval "$(fastsim completion bash)"
    """
    from click.shell_completion import get_completion_class

    from fastsim.cli import cli

    known = get_completion_class(shell)
    assert known is not None
    click.echo(known(cli, {}, "fastsim", "_FASTSIM_COMPLETE").source())


def values_of(field: str) -> Iterable[str]:
    """The names that a field of a deployment may have; empty where it names nothing."""
    from fastsim.catalog.load import names
    from fastsim.deployment.engines import RELEASES
    from fastsim.deployment.sglang.releases import RELEASES as SGLANG

    match field:
        case "model":
            return names("models")
        case "device":
            return names("devices")
        case "node":
            return names("nodes")
        case "engine":
            return (*RELEASES, *SGLANG)
    return ()

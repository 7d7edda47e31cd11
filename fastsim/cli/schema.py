"""The command `fastsim schema`."""

from pathlib import Path

import click

FOLDER = Path(__file__).with_name("schemas")


@click.command()
@click.argument("command", nargs=-1)
def schema(command: tuple[str, ...]) -> None:
    """Print the JSON Schema of what COMMAND prints with --json, or the list of commands that have one.

    COMMAND is a name such as simulate, or several words such as trace describe.
    """
    from fastsim.errors import ConfigError, did_you_mean

    known = {path.stem.replace("-", " "): path for path in sorted(FOLDER.glob("*.json"))}
    if not command:
        click.echo("\n".join(known))
        return
    name = " ".join(command)
    if name not in known:
        raise ConfigError(f"COMMAND: {name!r} has no schema; {did_you_mean(name, known)}")
    click.echo(known[name].read_text(encoding="utf-8"), nl=False)

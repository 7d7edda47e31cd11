"""`fastsim launch`."""

from pathlib import Path

import click


@click.command()
@click.argument("deployment")
@click.option("--engine", default="vllm", show_default=True, help="vllm or sglang.")
@click.option("--kubernetes", is_flag=True, help="Print a Deployment and a Service in place of a command.")
@click.option("--image", help="Container image, for --kubernetes.")
@click.option("--set", "overrides", multiple=True, metavar="PATH=VALUE", help="Change a field of DEPLOYMENT.")
@click.option("--out", type=click.Path(path_type=Path), help="File to write instead of standard output.")
def launch(
    deployment: str, engine: str, kubernetes: bool, image: str | None, overrides: tuple[str, ...], out: Path | None
) -> None:
    """Print the command that starts what was simulated.

    DEPLOYMENT is a file, or the folder of `fastsim search` (its winner) or `fastsim simulate`.
    """
    from fastsim.cli.terminal.console import note
    from fastsim.deployment.launch.kubernetes import manifest
    from fastsim.deployment.launch.launch import launch as start
    from fastsim.deployment.resolved import Deployment
    from fastsim.errors import ConfigError
    from fastsim.files.writing import write_text

    place = Path(deployment)
    if place.is_dir():
        files = [place / "winner.json", place / "config.json"]
        place = next((file for file in files if file.is_file()), place)
        if place.is_dir():
            raise ConfigError(f"{place}: holds no winner.json and no config.json; give a folder of search or simulate")
    found = start(Deployment.load(str(place) if deployment != "-" else "-", overrides), engine)
    text = manifest(found, image) if kubernetes else found.text + "\n"
    if out is None:
        click.echo(text, nl=False)
    else:
        write_text(out, text)
    if not kubernetes:
        for text in found.notes:
            note(text)

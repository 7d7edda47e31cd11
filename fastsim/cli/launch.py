"""The command `fastsim launch`."""

from pathlib import Path

import click

from fastsim.cli import completion, options


@click.command()
@click.argument("deployment", shell_complete=completion.files)
@click.option("--engine", default="vllm", show_default=True, help="Engine to start: vllm or sglang.")
@click.option("--kubernetes", is_flag=True, help="Print a Kubernetes Deployment and Service instead of a command.")
@click.option("--dynamo", is_flag=True, help="Print a DynamoGraphDeployment of NVIDIA Dynamo instead of a command.")
@click.option("--image", help="Container image, for --kubernetes and --dynamo.")
@options.overrides
@click.option("--out", type=click.Path(path_type=Path), help="Write to this file instead of standard output.")
@options.as_json
@options.quiet
def launch(
    deployment: str,
    engine: str,
    kubernetes: bool,
    dynamo: bool,
    image: str | None,
    overrides: tuple[str, ...],
    out: Path | None,
    as_json: bool,
) -> None:
    """Print the command that starts the simulated deployment; with pools one for each, and the proxy between roles.

    DEPLOYMENT is a deployment file, the output folder of `fastsim search`, whose winner is taken, or the output folder
    of `fastsim simulate`.
    """
    from fastsim.cli.terminal.console import note, print_json
    from fastsim.deployment.description import Deployment
    from fastsim.deployment.launch.dynamo import manifest as manifest_of_dynamo
    from fastsim.deployment.launch.kubernetes import manifest
    from fastsim.deployment.launch.pools import commands
    from fastsim.errors import ConfigError
    from fastsim.files.writing import write_text

    if kubernetes and dynamo:
        raise click.UsageError("--kubernetes and --dynamo print different objects; give one of them")
    path = Path(deployment)
    if path.is_dir():
        files = [path / "winner.json", path / "config.json"]
        path = next((file for file in files if file.is_file()), path)
        if path.is_dir():
            raise ConfigError(
                f"{path}: holds neither winner.json nor config.json; name an output folder of `fastsim search` or "
                "`fastsim simulate`"
            )
    made = commands(Deployment.load(str(path) if deployment != "-" else "-", overrides), engine)
    text = made.text + "\n"
    if kubernetes or dynamo:
        text = manifest_of_dynamo(made, image) if dynamo else manifest(made, image)
    if out is not None:
        write_text(out, text)
    if as_json:
        print_json(made.as_dict())
        return
    if out is None:
        click.echo(text, nl=False)
    if not kubernetes and not dynamo:
        for text in made.all_notes:
            note(text)

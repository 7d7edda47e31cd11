"""The command `fastsim import`."""

from pathlib import Path

import click

from fastsim.cli import completion, options


@click.command("import")
@click.argument("source")
@click.option(
    "--gpu",
    metavar="NAME",
    help="GPU of the catalog.  [default: that of a label in a manifest, else h100]",
    shell_complete=completion.devices,
)
@options.overrides
@click.option("--out", type=click.Path(path_type=Path), help="Write to this file instead of standard output.")
@options.quiet
def import_(source: str, gpu: str | None, overrides: tuple[str, ...], out: Path | None) -> None:
    """Turn a command of vLLM or SGLang into a deployment file.

    SOURCE is a command in quotes ('vllm serve MODEL ...', 'python -m sglang.launch_server --model-path MODEL ...',
    'docker run ... vllm/vllm-openai ...'), a file with a command, a Kubernetes manifest, a Compose file or a chart's
    values, or - for standard input. Nothing is executed.
    """
    import sys

    from fastsim.cli.terminal.console import note
    from fastsim.deployment.commands.imported import load
    from fastsim.files.documents import MAX_SIZE
    from fastsim.files.writing import write_text

    imported = load(sys.stdin.read(MAX_SIZE) if source == "-" else source, gpu, overrides)
    if out is None:
        click.echo(imported.text, nl=False)
    else:
        write_text(out, imported.text)
    for text in imported.notes:
        note(text)

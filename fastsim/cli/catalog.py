"""The command `fastsim catalog`."""

import click

from fastsim.cli import completion, options

KINDS = (
    "models",
    "checkpoints",
    "devices",
    "prices",
    "nodes",
    "engines",
    "policies",
    "routers",
    "predictors",
    "metrics",
)


@click.command()
@click.argument("kind", type=click.Choice((*KINDS, "model")))
@click.argument("name", required=False, shell_complete=completion.models)
@options.as_json
@options.quiet
def catalog(kind: str, name: str | None, as_json: bool) -> None:
    """List what a deployment can name, or all metrics: models, quantised checkpoints of them, devices, prices, nodes,
    engines (releases of vLLM and SGLang), policies, routers or predictors.

    `catalog engines` says what a certified release does otherwise than the certified one before it (the oldest one:
    than the one after it), and any other release than the one whose rules it takes; and, of each, the host time of a
    step as it schedules by default, and the front end between a client and the scheduler.

    `catalog model NAME` prints the modules of one model, of the catalog or of a config.json: in which precision each
    is, in which layers, and the bytes of its weights.
    """
    if kind == "model":
        if name is None:
            raise click.UsageError("model: no name; write a name of `fastsim catalog models` or a config.json")
        from fastsim.cli.terminal.model import show as show_model

        show_model(name, as_json)
        return
    if name is not None:
        raise click.UsageError(f"{kind}: lists all, and takes no name (only `catalog model NAME` does)")
    from fastsim.cli.terminal.catalog import show

    show(kind, as_json)

"""The command `fastsim explain`."""

import click

from fastsim.cli import options


@click.command()
@options.deployment
@click.option(
    "--prefill",
    multiple=True,
    metavar="TOKENS@PROCESSED,...",
    help="Prompt chunks: tokens in this iteration @ tokens processed before, e.g. 512@0,512@4096.",
)
@click.option(
    "--decode",
    multiple=True,
    metavar="REQUESTS@PROCESSED,...",
    help="Decodes: requests @ tokens each has processed, e.g. 64@1500.",
)
@options.overrides
@options.as_json
@options.quiet
def explain(
    deployment: str | None,
    prefill: tuple[str, ...],
    decode: tuple[str, ...],
    overrides: tuple[str, ...],
    as_json: bool,
) -> None:
    """Break one iteration of DEPLOYMENT down by operator: its shape, its time with an interval, and its source.

    Without --prefill and --decode, a typical iteration of the deployment is shown. Of a deployment with pools, each has
    its own; one of role prefill runs the prompts alone, and one of role decode the decodes.
    """
    from fastsim.cli.terminal.explain import show
    from fastsim.deployment.description import Deployment
    from fastsim.deployment.resolve import resolve
    from fastsim.predictors.explain import explain_each
    from fastsim.predictors.times.iteration import read

    resolved = resolve(Deployment.load(deployment, overrides))
    show(explain_each(resolved, read(prefill, decode) if prefill or decode else None), as_json)

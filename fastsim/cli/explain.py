"""`fastsim explain`."""

import click


@click.command()
@click.argument("deployment", required=False)
@click.option("--prefill", multiple=True, metavar="TOKENS@PROCESSED,...", help="Prompt chunks, e.g. 512@0,512@4096.")
@click.option("--decode", multiple=True, metavar="REQUESTS@PROCESSED,...", help="Decodes, e.g. 64@1500.")
@click.option("--set", "overrides", multiple=True, metavar="PATH=VALUE", help="Change a field of DEPLOYMENT.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def explain(
    deployment: str | None,
    prefill: tuple[str, ...],
    decode: tuple[str, ...],
    overrides: tuple[str, ...],
    as_json: bool,
) -> None:
    """Break one iteration of DEPLOYMENT down by operator: shape, time, how sure it is, measured or modelled.

    Without --prefill and --decode: what the deployment might typically run.
    """
    from fastsim.cli.terminal.explain import show
    from fastsim.deployment.resolved import Deployment, resolve
    from fastsim.predictors.explain import explain as explained
    from fastsim.predictors.times.iteration import read, typical

    resolved = resolve(Deployment.load(deployment, overrides))
    iteration = read(prefill, decode) if prefill or decode else typical(resolved)
    show(explained(resolved, iteration), as_json)

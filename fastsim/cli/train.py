"""The command `fastsim train`."""

from pathlib import Path

import click

from fastsim.cli import completion, options


@click.command()
@click.option(
    "--source",
    default="aic",
    show_default=True,
    help="Measured times: aic (needs fastsim[aic]), profile:DIR, the output of `fastsim profile`, or vidur:DIR, a "
    "checkout of Vidur.",
)
@click.option(
    "--device",
    "system",
    required=True,
    help="System of the source, e.g. h100_sxm, or a device file.",
    shell_complete=completion.devices,
)
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="Folder for the forests and their model cards."
)
@click.option(
    "--method",
    type=click.Choice(["forest", "extra", "raw"]),
    default="forest",
    show_default=True,
    help="Random forest, extra trees, or Vidur's method (raw axes, grid search), which only reports its errors.",
)
@click.option("--family", "families", multiple=True, help="Train only this family of operators, e.g. gemm; repeatable.")
@click.option("--quick", is_flag=True, help="Use one fold per split: faster, with rougher errors and intervals.")
@options.as_json
@options.quiet
def train(
    source: str, system: str, out: Path, method: str, families: tuple[str, ...], quick: bool, as_json: bool
) -> None:
    """Train the forests that predict operator times, and print their errors on held-out rows."""
    from fastsim.cli import interrupt
    from fastsim.cli.terminal.console import print_json
    from fastsim.predictors.forests.train import train_source

    interrupt.writes(out)
    cards = train_source(source, system, out, method, families, quick)
    if as_json:
        print_json(list(cards))
        return
    for card in cards:
        name = f"{card['family']} {card['precision']}"
        for split, percent in card["error_percent"].items():
            click.echo(f"{name:24} {card['rows']:7} rows   {split:34} {percent:6.2f} %")
        for split, percent in card["coverage_percent"].items():
            click.echo(f"{name:24} {'':7}        {'in the 90 % interval: ' + split:34} {percent:6.1f} %")

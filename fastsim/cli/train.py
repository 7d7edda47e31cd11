"""`fastsim train`."""

from pathlib import Path

import click


@click.command()
@click.option("--source", type=click.Choice(["aic"]), default="aic", show_default=True, help="Measured times.")
@click.option("--device", "system", required=True, help="System of the source, e.g. h100_sxm.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder for forests and cards.")
def train(source: str, system: str, out: Path) -> None:
    """Train the forests that predict operator times, and print their errors on rows kept from training."""
    from fastsim.predictors.forest import train_all

    for card in train_all(system, out):
        for split, percent in card["error_percent"].items():
            click.echo(f"{card['operator']:18} {card['rows']:7} rows   {split:36} {percent:6.2f} %")

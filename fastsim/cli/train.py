"""`fastsim train`."""

from pathlib import Path

import click


@click.command()
@click.option(
    "--source",
    default="aic",
    show_default=True,
    help="Measured times: aic (pip install fastsim[aic]), or profile:DIR, our profiler's Parquet.",
)
@click.option(
    "--device", "system", required=True, help="System of the source, e.g. h100_sxm, or a file that describes a device."
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder for forests and cards.")
@click.option(
    "--method",
    type=click.Choice(["forest", "extra", "raw"]),
    default="forest",
    show_default=True,
    help="Random forest, extra trees, or Vidur's way (raw axes, grid search; errors only, for comparison).",
)
@click.option("--family", "families", multiple=True, help="Only this family of operators, e.g. gemm; repeatable.")
@click.option("--quick", is_flag=True, help="One fold per split: rough errors and intervals, sooner.")
def train(source: str, system: str, out: Path, method: str, families: tuple[str, ...], quick: bool) -> None:
    """Train the forests that predict operator times, and print their errors on rows kept from training."""
    from fastsim.predictors.forests.train import train_source

    for card in train_source(source, system, out, method, families, quick):
        name = f"{card['family']} {card['precision']}"
        for split, percent in card["error_percent"].items():
            click.echo(f"{name:24} {card['rows']:7} rows   {split:34} {percent:6.2f} %")
        for split, percent in card["coverage_percent"].items():
            click.echo(f"{name:24} {'':7}        {'in the 90 % interval: ' + split:34} {percent:6.1f} %")

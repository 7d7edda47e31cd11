"""`fastsim profile`."""

from pathlib import Path

import click


@click.command()
@click.option("--device", required=True, help="What to measure on: cuda:0, or cpu.")
@click.option("--minutes", type=click.FloatRange(0.05, 10000), required=True, help="How long; again adds to it.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder of the rows.")
@click.option("--model", help="Shapes of this model, from the catalog or a config.json (default: of any model).")
@click.option("--tp", multiple=True, type=click.IntRange(1, 1024), help="Split so; repeatable (default: 1, 2, 4, 8).")
@click.option(
    "--precision",
    "precisions",
    multiple=True,
    type=click.Choice(["bf16", "fp8"]),
    default=["bf16"],
    show_default=True,
    help="Repeatable.",
)
@click.option("--system", help="What rows call the device (default: by its name in the catalog, or the driver's).")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the order and the inputs.")
def profile(
    device: str,
    minutes: float,
    out: Path,
    model: str | None,
    tp: tuple[int, ...],
    precisions: tuple[str, ...],
    system: str | None,
    seed: int,
) -> None:
    """Measure operators on a GPU, or on the CPU, for forests of its own.

    Run the same command again to go on, after an interruption or for more minutes.
    """
    from fastsim.cli.terminal import profile as show_profile
    from fastsim.cli.terminal import progress as progress_module
    from fastsim.profiling.session import Asked
    from fastsim.profiling.session import profile as run

    asked = Asked(device, minutes, out, model, tuple(dict.fromkeys(precisions)), tuple(sorted(set(tp))), system, seed)
    with progress_module.progress(f"Measuring on {device}") as progress, progress_module.resumable(out, "measured"):
        done = run(asked, progress)
    show_profile.show(done, out)

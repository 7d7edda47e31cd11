"""The command `fastsim profile`."""

from pathlib import Path

import click

from fastsim.cli import completion, options


@click.command()
@click.option("--device", required=True, help="Device to measure on, e.g. cuda:0 or cpu.")
@click.option(
    "--minutes", type=click.FloatRange(0.05, 10000), required=True, help="How long to measure; a later call adds to it."
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder for the measured rows.")
@click.option(
    "--model",
    help="Model whose shapes to measure: a name of the catalog or a config.json (default: shapes of any model).",
    shell_complete=completion.models,
)
@click.option(
    "--tp", multiple=True, type=click.IntRange(1, 1024), help="Tensor parallel size; repeatable (default: 1, 2, 4, 8)."
)
@click.option(
    "--precision",
    "precisions",
    multiple=True,
    type=click.Choice(["bf16", "fp8"]),
    default=["bf16"],
    show_default=True,
    help="Precision to measure in; repeatable.",
)
@click.option("--system", help="Name of the device in the rows (default: its name in the catalog, else the driver's).")
@click.option(
    "--seed",
    type=click.IntRange(0, 2**63 - 1),
    default=0,
    show_default=True,
    help="Seed of the order and of the inputs.",
)
@options.as_json
@options.quiet
def profile(
    device: str,
    minutes: float,
    out: Path,
    model: str | None,
    tp: tuple[int, ...],
    precisions: tuple[str, ...],
    system: str | None,
    seed: int,
    as_json: bool,
) -> None:
    """Measure operators on a GPU, or on the CPU, to train forests for it.

    Run the same command again to resume after an interruption, or to measure for more minutes.
    """
    from fastsim.cli import interrupt
    from fastsim.cli.terminal import profile as show_profile
    from fastsim.cli.terminal import progress as progress_module
    from fastsim.profiling.session import Asked
    from fastsim.profiling.session import profile as run

    asked = Asked(device, minutes, out, model, tuple(dict.fromkeys(precisions)), tuple(sorted(set(tp))), system, seed)
    interrupt.resumes(out, "measured")
    with progress_module.progress(f"Measuring on {device}") as progress:
        done = run(asked, progress)
    show_profile.show(done, out, as_json)

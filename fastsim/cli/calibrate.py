"""The command `fastsim calibrate`."""

from pathlib import Path

import click

from fastsim.cli import options

FILE = click.Path(path_type=Path)


@click.command()
@click.argument("measured", metavar="MEASURED", type=FILE, required=False)
@options.served
@options.overrides
@options.policies
@click.option(
    "--steps", type=FILE, help="Recorded steps.  [default: steps.parquet or steps.csv in the folder MEASURED]"
)
@click.option("--log", type=FILE, help="The engine's own log: how many KV blocks there are, and what runs and waits.")
@click.option(
    "--from",
    "base",
    type=FILE,
    help="Keep the coefficients of this calibration but the time of every step, which a restart of an engine changes.",
)
@options.measured_rate
@options.measured_users
@click.option("--out", type=FILE, default=Path("calibration.yaml"), show_default=True, help="File to write.")
@click.option("--recorder", is_flag=True, help="Print the Python file that makes vLLM record its steps, and stop.")
@options.seed
@options.as_json
@options.quiet
def calibrate(
    measured: Path | None,
    deployment: str | None,
    overrides: tuple[str, ...],
    policies: bool,
    steps: Path | None,
    log: Path | None,
    base: Path | None,
    rate: float | None,
    users: int | None,
    out: Path,
    recorder: bool,
    seed: int | None,
    as_json: bool,
) -> None:
    """Fit coefficients of a deployment on a measured run, and write them as a calibration.

    MEASURED is what `fastsim validate` reads, recorded steps, or a folder with both. Steps are CSV or Parquet, as the
    recorder writes them: `fastsim calibrate --recorder > fastsim_recorder.py`. A deployment takes the coefficients
    with `calibration: calibration.yaml`.
    """
    if recorder:
        from fastsim.calibration.recorder import text

        click.echo(text(), nl=False)
        return
    from fastsim.calibration.calibrate import calibrate as fit
    from fastsim.calibration.gather import gathered
    from fastsim.calibration.written import save
    from fastsim.cli import interrupt
    from fastsim.cli.policies import check_deployment
    from fastsim.cli.requests import changes
    from fastsim.cli.terminal import calibrate as show
    from fastsim.cli.terminal import progress as progress_module
    from fastsim.deployment.calibration import load
    from fastsim.files.writing import refuse_folder
    from fastsim.measured.described import described

    if measured is None:
        raise click.UsageError("MEASURED is missing; name a run, or --recorder to print what records one")
    interrupt.writes(out)
    refuse_folder(out, "calibration.yaml")
    served, place, notes = described(measured, deployment, changes(overrides, seed=seed))
    check_deployment(served, place, overrides, policies)
    observed = gathered(measured, steps, log, rate, users)
    start = None if base is None else load(base)
    with progress_module.progress("Fitting") as progress:
        found = fit(observed, served, start, progress)
    save(found.calibration, out)
    show.calibration(found, notes, out, as_json)

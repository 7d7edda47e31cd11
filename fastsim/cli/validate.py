"""The command `fastsim validate`."""

from pathlib import Path

import click

from fastsim.cli import options


@click.command()
@click.argument("measured", metavar="MEASURED", type=click.Path(path_type=Path))
@options.served
@options.overrides
@options.policies
@options.measured_rate
@options.measured_users
@click.option(
    "--within", metavar="PERCENT", help="Exit with 1 if a mean latency or a throughput is further off, e.g. 5%."
)
@click.option(
    "--out", type=click.Path(path_type=Path), help="Folder for the figures, a row per request, and report.html."
)
@options.seed
@options.as_json
@options.quiet
def validate(
    measured: Path,
    deployment: str | None,
    overrides: tuple[str, ...],
    policies: bool,
    rate: float | None,
    users: int | None,
    within: str | None,
    out: Path | None,
    seed: int | None,
    as_json: bool,
) -> None:
    """Replay a measured run, and print how far the prediction is from what was measured.

    MEASURED is a file, or the folder that holds it: JSON of `vllm bench serve --save-result --save-detailed` (also
    .json.gz) or of GuideLLM; CSV or Parquet with arrived_at, num_prompt_tokens, num_output_tokens and ttft, e2e (or
    first_token_at, finished_at, tpot), in seconds. The same requests are sent again: at the same times, or by as many
    users who wait. Those that failed are left out.
    """
    from fastsim.cli import interrupt
    from fastsim.cli.policies import check_deployment
    from fastsim.cli.requests import changes
    from fastsim.cli.terminal import progress as progress_module
    from fastsim.cli.terminal import validate as show
    from fastsim.files.writing import refuse_file
    from fastsim.measured.described import described
    from fastsim.measured.read import read
    from fastsim.measured.replay import validate as replay
    from fastsim.measured.tolerance import judged, parse

    interrupt.writes(out)
    if out is not None:
        refuse_file(out)
    limit = None if within is None else parse(within)
    run = read(measured, rate, users)
    served, place, notes = described(measured, deployment, changes(overrides, seed=seed))
    check_deployment(served, place, overrides, policies)
    with progress_module.progress(f"Replaying {run.workload.num_requests:,} requests") as progress:
        found = replay(run, served, notes, progress)
    missed = [] if limit is None else judged(found, limit)
    if out is not None:
        from fastsim.report.validation import save

        save(found, out, limit)
    show.validation(found, limit, missed, out, as_json)

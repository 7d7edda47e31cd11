"""The command `fastsim capacity`."""

from pathlib import Path

import click

from fastsim.cli import options


@click.command()
@click.argument("deployment", required=False)
@options.workload
@options.unit
@options.too_long
@options.slos
@click.option(
    "--users", is_flag=True, help="Find how many users can wait for their answers at once, instead of a rate."
)
@click.option("--requests", type=int, help="Requests per run, at least.  [default: 16,000, or all of a file]")
@click.option(
    "--tolerance", type=float, default=0.01, show_default=True, help="Relative error of the rate, e.g. 0.01 for 1 %."
)
@click.option(
    "--replicates",
    type=int,
    default=8,
    show_default=True,
    help="Further searches: their spread gives the interval, from five on.",
)
@options.overrides
@options.policies
@options.as_json
@click.option("--out", type=click.Path(path_type=Path), help="Also write the answer to this JSON file.")
def capacity(
    deployment: str | None,
    workload: str,
    unit: str | None,
    too_long: str,
    slos: tuple[str, ...],
    users: bool,
    requests: int | None,
    tolerance: float,
    replicates: int,
    overrides: tuple[str, ...],
    policies: bool,
    as_json: bool,
    out: Path | None,
) -> None:
    """Find the highest request rate, or number of users, at which DEPLOYMENT meets its objectives.

    The default objectives are scheduling_delay:p99<5s, ttft:p90<2s and tbt:p99<200ms. Runs are as long as steady state
    needs; the answer holds in one three times as long, of other requests, and a queue that grows refuses a rate.
    """
    from fastsim.cli import interrupt
    from fastsim.cli.policies import check_deployment
    from fastsim.cli.terminal import progress as progress_module
    from fastsim.cli.terminal.capacity import show as print_capacity
    from fastsim.deployment.description import Deployment
    from fastsim.planning.capacity import capacity as find

    interrupt.writes(out)
    described = Deployment.load(deployment, overrides)
    check_deployment(described, deployment, overrides, policies)
    with progress_module.progress("Searching for the highest rate") as progress:
        found = find(
            described,
            workload,
            slos,
            num_requests=requests,
            tolerance=tolerance,
            replicates=replicates,
            users=users or None,
            too_long=too_long,
            unit=unit,
            progress=progress,
        )
    print_capacity(found, described, workload, out, as_json)

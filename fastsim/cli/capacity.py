"""The command `fastsim capacity`."""

from pathlib import Path

import click

from fastsim.cli import options


@click.command()
@options.subject
@options.slos
@click.option("--rate", type=float, help="Mean arrivals per second to serve: says how many times they fit.")
@options.find_users
@options.planned
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
@options.priced
@options.policies
@click.option("--out", type=click.Path(path_type=Path), help="Also write the answer to this JSON file.")
@click.option("--check", is_flag=True, help="Exit with 1 if no load meets the objectives, or less than --rate does.")
@options.as_json
@options.quiet
def capacity(
    deployment: str | None,
    workload: str | None,
    named: str | None,
    slos: tuple[str, ...],
    rate: float | None,
    users: bool,
    input_len: int | None,
    output_len: int | None,
    requests: int | None,
    seed: int | None,
    unit: str | None,
    too_long: str,
    tolerance: float,
    replicates: int,
    overrides: tuple[str, ...],
    prices: str | None,
    price: str | None,
    policies: bool,
    out: Path | None,
    check: bool,
    as_json: bool,
) -> None:
    """Find the highest request rate, or number of users, at which DEPLOYMENT serves WORKLOAD within its objectives.

    The default objectives are scheduling_delay:p99<5s, ttft:p90<2s and tbt:p99<200ms. Runs are as long as steady state
    needs; the answer holds in one three times as long, of other requests, and a queue that grows refuses a rate.
    """
    from fastsim.cli import interrupt
    from fastsim.cli.policies import check_deployment
    from fastsim.cli.requests import changes, described, subject
    from fastsim.cli.terminal import progress as progress_module
    from fastsim.cli.terminal.capacity import show as print_capacity
    from fastsim.deployment.description import Deployment
    from fastsim.errors import MissedError
    from fastsim.planning.capacity import capacity as find
    from fastsim.workload.checks import check_rate

    interrupt.writes(out)
    if rate is not None and users:
        raise click.UsageError("--users finds a number of users, which has no rate; leave it or --rate out")
    if rate is not None:
        check_rate(rate, "--rate")
    about = subject((deployment, workload), named)
    deployed = Deployment.load(about.deployment, changes(overrides, seed=seed, prices=prices, price=price))
    check_deployment(deployed, about.deployment, overrides, policies)
    spec, called = described(about.workload, input_len, output_len)
    with progress_module.progress("Searching for the highest rate") as progress:
        found = find(
            deployed,
            spec,
            slos,
            num_requests=requests,
            tolerance=tolerance,
            replicates=replicates,
            users=users or None,
            too_long=too_long,
            unit=unit,
            progress=progress,
        )
    print_capacity(found, deployed, called, out, as_json, rate)
    if check and not found.rate:
        raise MissedError(f"no {'number of users' if found.users is not None else 'rate'} meets the objectives")
    if check and rate is not None and found.users is None and found.rate < rate:
        raise MissedError(f"{found.rate:.4g} requests/s are served within the objectives, fewer than --rate {rate:g}")

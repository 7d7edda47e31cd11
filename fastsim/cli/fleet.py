"""The command `fastsim fleet`."""

import click

from fastsim.cli import options


@click.command()
@click.argument("deployment", required=False)
@click.option("--rate", type=float, help="Requests per second to serve.")
@click.option("--users", type=float, help="Number of users to serve, instead of --rate.")
@click.option("--per-user", type=float, default=1.0, show_default=True, help="Requests per user and minute.")
@options.workload
@options.unit
@options.too_long
@options.slos
@click.option(
    "--gpu",
    "devices",
    multiple=True,
    help="Try only this GPU; repeatable.  [default: all that ship with operator times]",
)
@click.option("--requests", type=int, help="Requests per run.  [default: 16,000]")
@options.overrides
@options.policies
@options.as_json
def fleet(
    deployment: str | None,
    rate: float | None,
    users: float | None,
    per_user: float,
    workload: str,
    unit: str | None,
    too_long: str,
    slos: tuple[str, ...],
    devices: tuple[str, ...],
    requests: int | None,
    overrides: tuple[str, ...],
    policies: bool,
    as_json: bool,
) -> None:
    """Find how many GPUs of each kind serve a request rate, or a number of users, within the objectives.

    DEPLOYMENT gives the model, the scheduler and the precision. Tensor parallel sizes 1, 2, 4 and 8 are tried.
    """
    from fastsim.cli.policies import check_deployment
    from fastsim.cli.terminal import progress as progress_module
    from fastsim.cli.terminal.fleet import show as print_fleet
    from fastsim.deployment.resolved import Deployment
    from fastsim.planning.fleet import fleets, rate_of

    asked = rate_of(rate, users, per_user)
    described = Deployment.load(deployment, overrides)
    check_deployment(described, deployment, overrides, policies)
    with progress_module.progress("Trying GPUs") as progress:
        made, found = fleets(
            asked,
            described,
            workload,
            slos,
            devices=devices,
            num_requests=requests,
            too_long=too_long,
            unit=unit,
            progress=progress,
        )
    load = f"{asked:.4g} requests/s" + (f" ({users:,.0f} users at {per_user:g} per minute each)" if users else "")
    print_fleet(made, found, described, load, as_json)

"""The command `fastsim fleet`."""

from typing import TYPE_CHECKING

import click

from fastsim.cli import options

if TYPE_CHECKING:
    from fastsim.deployment.resolved import Deployment


@click.command()
@click.argument("deployment", required=False)
@click.option("--rate", type=float, help="Requests per second to serve.")
@click.option(
    "--users", type=float, help="Number of users to serve, instead of --rate; in a closed loop they wait for answers."
)
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
    from fastsim.workload.loading import is_loop

    described = Deployment.load(deployment, overrides)
    check_deployment(described, deployment, overrides, policies)
    if is_loop(workload):
        _for_users(described, workload, rate, users, slos, devices, requests, too_long, as_json)
        return
    asked = rate_of(rate, users, per_user)
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


def _for_users(
    described: "Deployment",
    workload: str,
    rate: float | None,
    users: float | None,
    slos: tuple[str, ...],
    devices: tuple[str, ...],
    requests: int | None,
    too_long: str,
    as_json: bool,
) -> None:
    """Find and print the fleets for users who wait for their answers."""
    from fastsim.cli.terminal import progress as progress_module
    from fastsim.cli.terminal.fleet import show_for_users
    from fastsim.errors import ConfigError
    from fastsim.planning.user_fleet import fleets_for_users

    if rate is not None or users is None or users != int(users):
        raise ConfigError("fleet: a closed loop has no rate; give the whole number of its users (e.g. --users 3000)")
    with progress_module.progress("Trying GPUs") as progress:
        made, missing = fleets_for_users(
            int(users),
            described,
            workload,
            slos,
            devices=devices,
            num_requests=requests,
            too_long=too_long,
            progress=progress,
        )
    show_for_users(made, missing, described, f"{int(users):,} users who wait for their answers", as_json)

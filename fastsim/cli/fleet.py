"""The command `fastsim fleet`."""

from math import isfinite
from typing import TYPE_CHECKING, Any

import click

from fastsim.cli import completion, options

if TYPE_CHECKING:
    from fastsim.deployment.description import Deployment
    from fastsim.planning.fleet import Fleet


@click.command()
@options.subject
@click.option("--rate", type=float, help="Mean arrivals per second to serve.")
@click.option(
    "--users",
    type=float,
    help="Users to serve, who each wait for their answer before they send the next, instead of --rate.",
)
@click.option(
    "--per-user", type=float, help="Requests per user and minute, which do not wait for answers; needs --users."
)
@options.slos
@click.option(
    "--gpu",
    "devices",
    multiple=True,
    help="Try only this GPU; repeatable.  [default: all that ship with operator times]",
    shell_complete=completion.devices,
)
@options.planned
@click.option(
    "--replicates", type=int, default=8, show_default=True, help="Further runs of each fleet, which give its chance."
)
@options.overrides
@options.priced
@options.policies
@click.option("--check", is_flag=True, help="Exit with 1 if no fleet meets the objectives.")
@options.as_json
@options.quiet
def fleet(
    deployment: str | None,
    workload: str | None,
    named: str | None,
    rate: float | None,
    users: float | None,
    per_user: float | None,
    slos: tuple[str, ...],
    devices: tuple[str, ...],
    input_len: int | None,
    output_len: int | None,
    requests: int | None,
    seed: int | None,
    unit: str | None,
    too_long: str,
    replicates: int,
    overrides: tuple[str, ...],
    prices: str | None,
    price: str | None,
    policies: bool,
    check: bool,
    as_json: bool,
) -> None:
    """Find how many GPUs of each kind serve a request rate, or a number of users, within the objectives.

    DEPLOYMENT gives the model, the scheduler and the precision. Tensor parallel sizes 1, 2, 4 and 8 are tried, and of
    models with experts also expert parallel replicas of as many GPUs, with and without data-parallel ranks. Of a
    DEPLOYMENT with pools, the cheapest mix of their replicas is found.

    Users send the requests of the workload, whatever their times, each once the answer to the one before has come and a
    think time has passed, if the workload has them.

    A fleet holds in a run that is as long as steady state needs, and in one three times as long, of other requests and
    with 1 % more of them a second. Margin: how much more it bears, by simulating it. Chance: the share of replicates,
    with other requests and operator times from their intervals, in which it meets the objectives.
    """
    from fastsim.cli.policies import check_deployment
    from fastsim.cli.requests import changes, described, subject
    from fastsim.cli.terminal import progress as progress_module
    from fastsim.cli.terminal.fleet import show as print_fleet
    from fastsim.cli.terminal.fleet import show_mix
    from fastsim.deployment.description import Deployment
    from fastsim.errors import ConfigError
    from fastsim.planning.fleet import fleets, rate_of
    from fastsim.planning.mixes import cheapest_mix
    from fastsim.result.metrics.objectives import DEFAULTS, parse_all
    from fastsim.workload.loading import is_loop

    about = subject((deployment, workload), named)
    deployed = Deployment.load(about.deployment, changes(overrides, seed=seed, prices=prices, price=price))
    check_deployment(deployed, about.deployment, overrides, policies)
    spec, _ = described(about.workload, input_len, output_len)
    loop = is_loop(spec)
    if loop or (users is not None and rate is None and per_user is None):
        if loop and (rate is not None or per_user is not None or users is None):
            raise ConfigError(
                "fleet: a closed loop has no rate; give the whole number of its users (e.g. --users 3000)"
            )
        if deployed.pools:
            raise ConfigError("pools: mixes of them are tried at a rate, not with users who wait (e.g. --rate 50)")
        made = _for_users(deployed, spec, users or 0.0, unit, slos, devices, requests, replicates, too_long, as_json)
        _refuse_none(made, check)
        return
    asked = rate_of(rate, users, per_user)
    load = f"{asked:.4g} requests/s" + (
        f" ({users:,.0f} users at {per_user:g} per minute each)" if users and per_user else ""
    )
    if deployed.pools:
        if devices:
            raise ConfigError(f"--gpu {devices[0]}: the pools of the deployment have GPUs of their own; leave it out")
        with progress_module.progress("Trying mixes of the pools") as progress:
            mix = cheapest_mix(
                asked,
                deployed,
                spec,
                slos,
                num_requests=requests,
                replicates=replicates,
                too_long=too_long,
                unit=unit,
                progress=progress,
            )
        show_mix(mix, load, [str(each) for each in parse_all(slos, "--slo") or DEFAULTS], as_json)
        _refuse_none([mix.fleet] if mix.fleet else [], check)
        return
    with progress_module.progress("Trying GPUs") as progress:
        made, found = fleets(
            asked,
            deployed,
            spec,
            slos,
            devices=devices,
            num_requests=requests,
            replicates=replicates,
            too_long=too_long,
            unit=unit,
            progress=progress,
        )
    print_fleet(made, found, deployed, load, as_json)
    _refuse_none(made, check)


def _refuse_none(made: "list[Fleet]", check: bool) -> None:
    """Raise MissedError where --check is given and there is no fleet."""
    from fastsim.errors import MissedError

    if check and not made:
        raise MissedError("no fleet meets the objectives")


def _for_users(
    deployed: "Deployment",
    workload: Any,
    users: float,
    unit: str | None,
    slos: tuple[str, ...],
    devices: tuple[str, ...],
    requests: int | None,
    replicates: int,
    too_long: str,
    as_json: bool,
) -> "list[Fleet]":
    """Find, print and return the fleets for users who wait for their answers."""
    from fastsim.cli.terminal import progress as progress_module
    from fastsim.cli.terminal.fleet import show_for_users
    from fastsim.errors import ConfigError
    from fastsim.planning.user_fleet import fleets_for_users

    if not isfinite(users) or users != int(users):
        raise ConfigError(f"users: {users:g} is not a whole number of users from 1 (e.g. 3000)")
    with progress_module.progress("Trying GPUs") as progress:
        made, missing = fleets_for_users(
            int(users),
            deployed,
            workload,
            slos,
            devices=devices,
            num_requests=requests,
            replicates=replicates,
            too_long=too_long,
            unit=unit,
            progress=progress,
        )
    show_for_users(made, missing, deployed, f"{int(users):,} users who wait for their answers", as_json)
    return made

"""`fastsim fleet`."""

import click


@click.command()
@click.argument("deployment", required=False)
@click.option("--rate", type=float, help="Requests per second to serve.")
@click.option("--users", type=float, help="Users to serve, in place of --rate.")
@click.option("--per-user", type=float, default=1.0, show_default=True, help="Requests of a user per minute.")
@click.option("--workload", default="chat", show_default=True, help="Preset, description or file.")
@click.option("--slo", "slos", multiple=True, metavar="OBJECTIVE", help="E.g. ttft:p90<2s; repeatable.")
@click.option("--gpu", "devices", multiple=True, help="Only this kind; repeatable.  [default: all with shipped times]")
@click.option("--requests", type=int, help="Requests of a run.  [default: 16,000]")
@click.option("--set", "overrides", multiple=True, metavar="PATH=VALUE", help="Change a field of DEPLOYMENT.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def fleet(
    deployment: str | None,
    rate: float | None,
    users: float | None,
    per_user: float,
    workload: str,
    slos: tuple[str, ...],
    devices: tuple[str, ...],
    requests: int | None,
    overrides: tuple[str, ...],
    as_json: bool,
) -> None:
    """Say how many GPUs of which kind serve so many requests or users within the objectives.

    DEPLOYMENT says what else is so: model, scheduler, precision. Tensor parallel sizes of 1, 2, 4 and 8 are tried.
    """
    from fastsim.cli.terminal import progress as progress_module
    from fastsim.cli.terminal.fleet import show as print_fleet
    from fastsim.deployment.resolved import Deployment
    from fastsim.planning.fleet import fleets, rate_of

    asked = rate_of(rate, users, per_user)
    described = Deployment.load(deployment, overrides)
    with progress_module.progress("Trying GPUs") as progress:
        made, found = fleets(
            asked, described, workload, slos, devices=devices, num_requests=requests, progress=progress
        )
    said = f"{asked:.4g} requests/s" + (f" ({users:,.0f} users, {per_user:g} requests a minute each)" if users else "")
    print_fleet(made, found, described, said, as_json)

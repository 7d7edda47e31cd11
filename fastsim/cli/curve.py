"""The command `fastsim curve`."""

from pathlib import Path

import click

from fastsim.cli import completion, options


@click.command()
@click.argument("deployments", nargs=-1, metavar="[DEPLOYMENT]... [WORKLOAD]", shell_complete=completion.subjects)
@options.named
@options.slos
@options.find_users
@click.option(
    "--points", type=int, default=12, show_default=True, help="Loads to simulate, up to what can be finished."
)
@click.option("--at", "loads", type=float, multiple=True, help="A rate, or a number of users, to simulate; repeatable.")
@options.planned
@options.overrides
@options.priced
@options.policies
@click.option(
    "--out", type=click.Path(path_type=Path), help="Folder for the figure (report.html), the table and the JSON."
)
@click.option("--check", is_flag=True, help="Exit with 1 if a deployment meets the objectives under no load.")
@options.as_json
@options.quiet
def curve(
    deployments: tuple[str, ...],
    named: str | None,
    slos: tuple[str, ...],
    users: bool,
    points: int,
    loads: tuple[float, ...],
    input_len: int | None,
    output_len: int | None,
    requests: int | None,
    seed: int | None,
    unit: str | None,
    too_long: str,
    overrides: tuple[str, ...],
    prices: str | None,
    price: str | None,
    policies: bool,
    out: Path | None,
    check: bool,
    as_json: bool,
) -> None:
    """Show latency and cost against the request rate, or the number of users, of one DEPLOYMENT or several.

    WORKLOAD is a preset, a description or a file of requests.

    Marked are the knee, where throughput over latency is highest, and where the objectives break: the rate that
    `fastsim capacity` finds. The default objectives are scheduling_delay:p99<5s, ttft:p90<2s and tbt:p99<200ms.
    """
    from fastsim.cli import interrupt
    from fastsim.cli.policies import check_deployment
    from fastsim.cli.requests import changes, described, subject
    from fastsim.cli.terminal import progress as progress_module
    from fastsim.cli.terminal.curve import show
    from fastsim.deployment.description import Deployment
    from fastsim.errors import MissedError
    from fastsim.files.writing import refuse_file
    from fastsim.planning.curve import curve as find
    from fastsim.planning.curves import names_of, save

    interrupt.writes(out)
    if out is not None:
        refuse_file(out)
    about = subject(deployments, named, last=False)
    given = about.deployments or (None,)
    deployed = [Deployment.load(each, changes(overrides, seed=seed, prices=prices, price=price)) for each in given]
    for file, one in zip(given, deployed, strict=True):
        check_deployment(one, file, overrides, policies)
    spec, called = described(about.workload, input_len, output_len)
    found = []
    with progress_module.progress("Simulating one load after the other") as progress:
        for number, (name, one) in enumerate(zip(names_of(about.deployments, deployed), deployed, strict=True)):

            def share(done: float, number: int = number) -> None:
                progress((number + done) / len(deployed))

            found.append(
                find(
                    one,
                    spec,
                    slos,
                    name=name,
                    users=users or None,
                    loads=loads,
                    points=points,
                    num_requests=requests,
                    too_long=too_long,
                    unit=unit,
                    progress=share,
                )
            )
    if out is not None:
        from fastsim.report.curve import curve_page

        save(found, called, curve_page(found, called), out)
    show(found, called, out, as_json)
    if check and (lost := [curve.name for curve in found if not curve.capacity]):
        raise MissedError(f"no load meets the objectives on {', '.join(lost)}")

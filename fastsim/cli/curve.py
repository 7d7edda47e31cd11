"""The command `fastsim curve`."""

from pathlib import Path

import click

from fastsim.cli import options


@click.command()
@click.argument("deployments", nargs=-1, metavar="[DEPLOYMENT]...")
@options.workload
@options.unit
@options.too_long
@options.slos
@click.option(
    "--users", is_flag=True, help="Against the number of users who wait for their answers, instead of a rate."
)
@click.option(
    "--points", type=int, default=12, show_default=True, help="Loads to simulate, up to what can be finished."
)
@click.option("--at", "loads", type=float, multiple=True, help="A rate, or a number of users, to simulate; repeatable.")
@click.option("--requests", type=int, help="Requests per run, at least.  [default: 16,000, or all of a file]")
@options.overrides
@options.policies
@options.as_json
@click.option(
    "--out", type=click.Path(path_type=Path), help="Folder for the figure (report.html), the table and the JSON."
)
def curve(
    deployments: tuple[str, ...],
    workload: str,
    unit: str | None,
    too_long: str,
    slos: tuple[str, ...],
    users: bool,
    points: int,
    loads: tuple[float, ...],
    requests: int | None,
    overrides: tuple[str, ...],
    policies: bool,
    as_json: bool,
    out: Path | None,
) -> None:
    """Show latency and cost against the request rate, or the number of users, of one DEPLOYMENT or several.

    Marked are the knee, where throughput over latency is highest, and where the objectives break: the rate that
    `fastsim capacity` finds. The default objectives are scheduling_delay:p99<5s, ttft:p90<2s and tbt:p99<200ms.
    """
    from fastsim.cli import interrupt
    from fastsim.cli.policies import check_deployment
    from fastsim.cli.terminal import progress as progress_module
    from fastsim.cli.terminal.curve import show
    from fastsim.deployment.description import Deployment
    from fastsim.files.writing import refuse_file
    from fastsim.planning.curve import curve as find
    from fastsim.planning.curves import names_of, save

    interrupt.writes(out)
    if out is not None:
        refuse_file(out)
    given = deployments or (None,)
    described = [Deployment.load(each, overrides) for each in given]
    for file, one in zip(given, described, strict=True):
        check_deployment(one, file, overrides, policies)
    found = []
    with progress_module.progress("Simulating one load after the other") as progress:
        for number, (name, one) in enumerate(zip(names_of(deployments, described), described, strict=True)):

            def share(done: float, number: int = number) -> None:
                progress((number + done) / len(described))

            found.append(
                find(
                    one,
                    workload,
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

        save(found, workload, curve_page(found, workload), out)
    show(found, workload, out, as_json)

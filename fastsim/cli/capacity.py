"""`fastsim capacity`."""

from pathlib import Path

import click


@click.command()
@click.argument("deployment", required=False)
@click.option("--workload", default="chat", show_default=True, help="Preset, description or file.")
@click.option("--slo", "slos", multiple=True, metavar="OBJECTIVE", help="E.g. ttft:p90<2s; repeatable.")
@click.option("--requests", type=int, help="Requests of a run.  [default: 16,000, or all of a file]")
@click.option("--tolerance", type=float, default=0.01, show_default=True, help="Of the rate.")
@click.option("--replicates", type=int, default=8, show_default=True, help="Searches more that give the interval.")
@click.option("--set", "overrides", multiple=True, metavar="PATH=VALUE", help="Change a field of DEPLOYMENT.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--out", type=click.Path(path_type=Path), help="JSON file to write as well.")
def capacity(
    deployment: str | None,
    workload: str,
    slos: tuple[str, ...],
    requests: int | None,
    tolerance: float,
    replicates: int,
    overrides: tuple[str, ...],
    as_json: bool,
    out: Path | None,
) -> None:
    """Find the highest rate that DEPLOYMENT serves within its objectives.

    Without --slo: scheduling_delay:p99<5s, ttft:p90<2s and tbt:p99<200ms.
    """
    from fastsim.cli.terminal import progress as progress_module
    from fastsim.cli.terminal.capacity import show as print_capacity
    from fastsim.deployment.resolved import Deployment
    from fastsim.planning.capacity import capacity as find

    described = Deployment.load(deployment, overrides)
    with progress_module.progress("Searching for the highest rate") as progress:
        found = find(
            described,
            workload,
            slos,
            num_requests=requests,
            tolerance=tolerance,
            replicates=replicates,
            progress=progress,
        )
    print_capacity(found, described, workload, out, as_json)

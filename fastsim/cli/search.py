"""The command `fastsim search`."""

from pathlib import Path

import click

from fastsim.cli import options


@click.command()
@options.space
@click.option("--budget", metavar="AMOUNT", help="GPUs or dollars per hour for one deployment, e.g. 16 or '$40/h'.")
@options.slos
@click.option(
    "--rank",
    default="qps_per_dollar",
    show_default=True,
    help="What to rank by: qps_per_dollar, qps_per_watt, cost or latency.",
)
@click.option("--rate", type=float, help="Mean arrivals per second at which cost and latency are compared.")
@options.find_users
@options.input_len
@options.output_len
@click.option("--requests", type=int, help="Requests per full run, at least.  [default: the space's, else 16,000]")
@options.seed
@click.option(
    "--tolerance",
    type=float,
    default=0.01,
    show_default=True,
    help="Relative error of the best capacities, e.g. 0.01 for 1 %.",
)
@click.option(
    "--pareto",
    default="qps_per_dollar,latency.tbt.p99",
    show_default=True,
    help="Two or three figures of the Pareto front.",
)
@click.option("--sensitivity", is_flag=True, help="Also show what looser and tighter objectives would change.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Folder for the table, JSON and HTML; a search found there is resumed.",
)
@click.option("--threads", type=click.IntRange(1, 1024), help="Threads of this process.  [default: one per core]")
@options.dask
@click.option("--yes", is_flag=True, help="Accept a space of more than 100,000 combinations.")
@options.space_unit
@options.space_too_long
@options.space_overrides
@options.priced
@options.policies
@click.option("--check", is_flag=True, help="Exit with 1 if no configuration meets the objectives.")
@options.as_json
@options.quiet
def search(
    space: str,
    workload: str | None,
    named: str | None,
    budget: str | None,
    slos: tuple[str, ...],
    rank: str,
    rate: float | None,
    users: bool,
    input_len: int | None,
    output_len: int | None,
    requests: int | None,
    seed: int | None,
    tolerance: float,
    pareto: str,
    sensitivity: bool,
    out: Path | None,
    threads: int | None,
    dask: str | None,
    yes: bool,
    unit: str | None,
    too_long: str | None,
    overrides: tuple[str, ...],
    prices: str | None,
    price: str | None,
    policies: bool,
    check: bool,
    as_json: bool,
) -> None:
    """Find the configurations of SPACE that serve the most requests per dollar within the objectives.

    SPACE is a YAML file as for `fastsim sweep`, and WORKLOAD takes the place of the workload in it. The default
    objectives are scheduling_delay:p99<5s, ttft:p90<2s and tbt:p99<200ms.
    """
    from contextlib import nullcontext
    from typing import Any

    from fastsim.cli import interrupt, spaces
    from fastsim.cli.policies import check_space
    from fastsim.cli.terminal import progress as progress_module
    from fastsim.cli.terminal.search import show as print_search
    from fastsim.errors import MissedError
    from fastsim.planning.search import search as find
    from fastsim.planning.sensitivity import sensitivity as vary
    from fastsim.planning.store import metrics_of, save

    if users and sensitivity:
        raise click.UsageError("--sensitivity varies the objectives of rates; leave it or --users out")
    metrics = metrics_of(pareto, rate)
    candidates = spaces.read(
        space,
        yes,
        workload,
        named,
        input_len=input_len,
        output_len=output_len,
        seed=seed,
        overrides=overrides,
        prices=prices,
        price=price,
        unit=unit,
        too_long=too_long,
    )
    check_space(candidates, policies)
    cluster: Any = nullcontext()
    if dask is not None:
        from fastsim.sweeps.cluster import connect

        cluster = connect(dask)
    asked: dict[str, Any] = {"rank": rank, "rate": rate, "num_requests": requests, "tolerance": tolerance, "yes": yes}
    asked["users"] = users
    interrupt.resumes(out, "found")
    with cluster as client, progress_module.progress("Searching") as progress:
        found = find(candidates, budget, slos, **asked, out=out, threads=threads, client=client, progress=progress)
    varied = []
    if sensitivity:
        with progress_module.progress("Varying the objectives") as progress:
            varied = vary(found, threads=threads, progress=progress)
    if out is not None:
        from fastsim.planning.curves import of_search
        from fastsim.report.search import search_page

        with progress_module.progress("Simulating the best under other loads"):
            curves = of_search(found, threads)
        save(found, varied, metrics, search_page(found, varied, metrics, curves), out)
    print_search(found, varied, metrics, out, as_json)
    if check and not any(row["score"] for row in found.rows):
        raise MissedError("no configuration meets the objectives")

"""`fastsim search`."""

from pathlib import Path

import click


@click.command()
@click.argument("space")
@click.option("--budget", metavar="AMOUNT", help="GPUs or dollars per hour of a deployment, e.g. 16 or '$40/h'.")
@click.option("--slo", "slos", multiple=True, metavar="OBJECTIVE", help="E.g. ttft:p90<2s; repeatable.")
@click.option("--rank", default="qps_per_dollar", show_default=True, help="Also cost, latency or qps_per_watt.")
@click.option("--rate", type=float, help="Requests/s at which cost and latency are compared.")
@click.option("--requests", type=int, help="Requests of a full run.  [default: the space's, else 16,000]")
@click.option("--tolerance", type=float, default=0.01, show_default=True, help="Of the rates of the best.")
@click.option("--pareto", default="qps_per_dollar,latency.tbt.p99", show_default=True, help="Two or three figures.")
@click.option("--sensitivity", is_flag=True, help="Also say what relaxing or tightening an objective would change.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for table, JSON and page; resumes what is there.")
@click.option("--threads", type=click.IntRange(1, 1024), help="Of this process.  [default: one per core]")
@click.option("--dask", metavar="ADDRESS", help="Scheduler of a Dask cluster, or scheduler file.")
@click.option("--yes", is_flag=True, help="Go on with more than 100,000 combinations.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def search(
    space: str,
    budget: str | None,
    slos: tuple[str, ...],
    rank: str,
    rate: float | None,
    requests: int | None,
    tolerance: float,
    pareto: str,
    sensitivity: bool,
    out: Path | None,
    threads: int | None,
    dask: str | None,
    yes: bool,
    as_json: bool,
) -> None:
    """Find the configurations of SPACE that serve most per dollar within their objectives.

    SPACE is a YAML file as for `fastsim sweep`. Without --slo: scheduling_delay:p99<5s, ttft:p90<2s and
    tbt:p99<200ms.
    """
    from contextlib import nullcontext
    from typing import Any

    from fastsim.cli.terminal import progress as progress_module
    from fastsim.cli.terminal.search import show as print_search
    from fastsim.planning.search import search as find
    from fastsim.planning.sensitivity import sensitivity as vary
    from fastsim.planning.store import metrics_of, save

    metrics = metrics_of(pareto, rate)
    cluster: Any = nullcontext()
    if dask is not None:
        from fastsim.sweeps.cluster import connect

        cluster = connect(dask)
    asked: dict[str, Any] = {"rank": rank, "rate": rate, "num_requests": requests, "tolerance": tolerance, "yes": yes}
    with (
        cluster as client,
        progress_module.progress("Searching") as progress,
        progress_module.resumable(out, "found"),
    ):
        found = find(space, budget, slos, **asked, out=out, threads=threads, client=client, progress=progress)
    varied = []
    if sensitivity:
        with progress_module.progress("Varying the objectives") as progress:
            varied = vary(found, threads=threads, progress=progress)
    if out is not None:
        from fastsim.report.search import search_page

        save(found, varied, metrics, search_page(found, varied, metrics), out)
    print_search(found, varied, metrics, out, as_json)

"""The command `fastsim simulate`."""

from pathlib import Path

import click

from fastsim.cli import options


@click.command()
@click.argument("deployment", required=False)
@click.argument("workload", required=False)
@click.option("--workload", "named", help="Preset, description file, or file of requests; the same as WORKLOAD.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for the result files.")
@options.overrides
@options.policies
@options.unit
@options.too_long
@click.option("--rate", type=float, help="Mean arrivals per second; scales the arrival times of a file.")
@click.option("--users", type=int, help="Users who each wait for their answer before they send the next request.")
@click.option("--max-concurrency", type=int, help="Requests that the clients have in flight at most.")
@click.option("--requests", type=int, help="Number of requests.")
@click.option("--iterations", is_flag=True, help="Also keep every batch, in iterations.parquet.")
@click.option(
    "--replicates",
    type=click.IntRange(0, 1000),
    default=0,
    help="Further runs with resampled operator times, which give 90 % intervals.",
)
@options.slos
@click.option(
    "--exclude", metavar="TIME[,TIME]", help="Warm-up and cool-down to exclude from the latencies, e.g. 60s,30s."
)
@click.option("--csv", is_flag=True, help="Also write the tables as CSV.")
@options.as_json
def simulate(
    deployment: str | None,
    workload: str | None,
    named: str | None,
    out: Path | None,
    overrides: tuple[str, ...],
    policies: bool,
    unit: str | None,
    too_long: str,
    rate: float | None,
    users: int | None,
    max_concurrency: int | None,
    requests: int | None,
    iterations: bool,
    replicates: int,
    slos: tuple[str, ...],
    exclude: str | None,
    csv: bool,
    as_json: bool,
) -> None:
    """Predict how DEPLOYMENT serves WORKLOAD.

    DEPLOYMENT is a YAML, TOML or JSON file, or - for standard input; the default is Llama-3-8B on one H100 in
    vLLM 0.33.
    WORKLOAD is a file of requests (CSV, Parquet, JSONL, or JSON as benchmarks write it), a description, or a preset:
    chat (the default), agent, code, reasoning, retrieval, summarisation or translation. A workload may be given alone.
    """
    from fastsim.cli import interrupt
    from fastsim.cli.policies import check_deployment
    from fastsim.cli.terminal import progress as progress_module
    from fastsim.cli.terminal import result as show
    from fastsim.deployment.resolved import Deployment
    from fastsim.files.writing import refuse_file
    from fastsim.result.metrics.objectives import parse_all
    from fastsim.result.metrics.window import parse_exclude
    from fastsim.simulation.run import simulate as run
    from fastsim.workload.loading import is_workload, load

    interrupt.writes(out)
    if out is not None:
        refuse_file(out)
    elif csv:
        raise click.UsageError("--csv needs a folder to write to (e.g. --out results)")
    if workload is None and deployment is not None and is_workload(deployment):
        deployment, workload = None, deployment
    if workload is not None and named is not None:
        raise click.UsageError(f"two workloads, {workload!r} and --workload {named!r}; give one of them")
    objectives, excluded = parse_all(slos, "--slo"), parse_exclude(exclude)
    described = Deployment.load(deployment, overrides)
    check_deployment(described, deployment, overrides, policies)
    stream = load(
        workload or named or "chat",
        rate=rate,
        num_requests=requests,
        seed=described.seed,
        unit=unit,
        users=users,
        max_concurrency=max_concurrency,
    )
    with progress_module.progress(f"Simulating {stream.num_requests:,} requests") as progress:
        result = run(
            described,
            stream,
            iterations=iterations,
            replicates=replicates,
            objectives=objectives,
            exclude=excluded,
            too_long=too_long,
            progress=progress,
        )
    if out is not None:
        result.save(out, csv)
    show.summary(result, as_json)
    if not as_json:
        show.written(out)

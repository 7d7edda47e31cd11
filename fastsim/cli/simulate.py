"""The command `fastsim simulate`."""

from pathlib import Path
from typing import Any

import click

from fastsim.cli import options


@click.command()
@options.subject
@click.option("--out", type=click.Path(path_type=Path), help="Folder for the result files.")
@options.overrides
@options.priced
@options.policies
@options.requests
@options.too_long
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
@options.check
@options.as_json
@options.quiet
def simulate(
    deployment: str | None,
    workload: str | None,
    named: str | None,
    out: Path | None,
    overrides: tuple[str, ...],
    prices: str | None,
    price: str | None,
    policies: bool,
    too_long: str,
    seed: int | None,
    iterations: bool,
    replicates: int,
    slos: tuple[str, ...],
    exclude: str | None,
    csv: bool,
    check: bool,
    as_json: bool,
    **requests: Any,
) -> None:
    """Predict how DEPLOYMENT serves WORKLOAD.

    DEPLOYMENT is a YAML, TOML or JSON file, or - for standard input; the default is Llama-3-8B on one H100 in
    vLLM 0.33.
    WORKLOAD is a file of requests (CSV, Parquet, JSONL, or JSON as benchmarks write it), a description, or a preset:
    chat (the default), agent, code, reasoning, retrieval, summarisation or translation. It may stand alone, or first.
    """
    from fastsim.cli import interrupt
    from fastsim.cli.objectives import needs, refuse_missed
    from fastsim.cli.policies import check_deployment
    from fastsim.cli.requests import asked, changes, subject
    from fastsim.cli.terminal import progress as progress_module
    from fastsim.cli.terminal import result as show
    from fastsim.deployment.description import Deployment
    from fastsim.files.writing import refuse_file
    from fastsim.result.metrics.objectives import parse_all
    from fastsim.result.metrics.window import parse_exclude
    from fastsim.simulation.run import simulate as run

    interrupt.writes(out)
    if out is not None:
        refuse_file(out)
    elif csv:
        raise click.UsageError("--csv needs a folder to write to (e.g. --out results)")
    needs(check, slos)
    objectives, excluded = parse_all(slos, "--slo"), parse_exclude(exclude)
    about = subject((deployment, workload), named)
    described = Deployment.load(about.deployment, changes(overrides, seed=seed, prices=prices, price=price))
    check_deployment(described, about.deployment, overrides, policies)
    stream = asked(about.workload, seed=described.seed, **requests)
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
    refuse_missed(check, objectives, result.summary)

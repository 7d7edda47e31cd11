"""The options that several commands share."""

import click

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
overrides = click.option(
    "--set", "overrides", multiple=True, metavar="PATH=VALUE", help="Change a field of DEPLOYMENT."
)
dask = click.option(
    "--dask",
    metavar="ADDRESS|FILE",
    help="Dask cluster of your own: tcp://host:8786, tls://host:8786, or its scheduler file.",
)
policies = click.option(
    "--policies", is_flag=True, help="Run the Python functions that the file names as its scheduler or router."
)
slos = click.option(
    "--slo", "slos", multiple=True, metavar="OBJECTIVE", help="Latency objective, e.g. 'ttft:p90<2s'; repeatable."
)
workload = click.option(
    "--workload", default="chat", show_default=True, help="Preset, description file, or table of requests."
)

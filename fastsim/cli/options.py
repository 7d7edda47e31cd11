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
unit = click.option("--unit", metavar="s|ms|us|ns", help="Unit of the arrival times in a file of requests.")
too_long = click.option(
    "--too-long",
    default="refuse",
    show_default=True,
    metavar="refuse|drop|clip",
    help="What becomes of requests with more tokens than max_model_len.",
)
space_too_long = click.option(
    "--too-long", metavar="refuse|drop|clip", help="The same as too_long in the workload of SPACE.  [default: refuse]"
)
space_unit = click.option("--unit", metavar="s|ms|us|ns", help="The same as unit in the workload of SPACE.")
workload = click.option(
    "--workload", default="chat", show_default=True, help="Preset, description file, or table of requests."
)

"""The options that several commands share."""

from collections.abc import Callable
from typing import Any

import click

Command = Callable[..., Any]

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")


def _names(context: click.Context, parameter: click.Parameter, typed: str) -> list[str]:
    """Completions of a field of a deployment: those that name something, and then the names."""
    from fastsim.cli.completion import values_of

    field, equals, _ = typed.partition("=")
    known = [f"{field}={name}" for name in values_of(field)] if equals else [f"{name}=" for name in NAMED]
    return [one for one in known if one.startswith(typed)]


NAMED = ("model", "device", "engine", "node")
overrides = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="PATH=VALUE",
    help="Change a field of DEPLOYMENT.",
    shell_complete=_names,
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
served = click.option(
    "--deployment",
    metavar="FILE|COMMAND",
    help="What served the requests: a deployment file, or a command of vLLM or SGLang in quotes.  [default: "
    "deployment.yaml beside MEASURED]",
)
measured_rate = click.option(
    "--rate", type=float, help="Send at this mean rate, requests/s, instead of as MEASURED says."
)
measured_users = click.option(
    "--users", type=int, help="Let users send who wait for their answers, instead of as MEASURED says."
)
seed = click.option("--seed", type=click.IntRange(0), help="Seed of what is drawn at random.  [default: DEPLOYMENT's]")


def requests(command: Command) -> Command:
    """The options that say which requests are sent, and how."""
    for option in reversed(
        (
            click.option("--rate", type=float, help="Mean arrivals per second; scales the arrival times of a file."),
            click.option("--users", type=int, help="Users who each wait for their answer before they send the next."),
            click.option(
                "--concurrency",
                "--max-concurrency",
                "max_concurrency",
                type=int,
                help="Requests that clients have in flight at most.",
            ),
            click.option("--input-len", type=int, help="Prompt tokens of each request, instead of WORKLOAD."),
            click.option("--output-len", type=int, help="Output tokens of each request, instead of WORKLOAD."),
            click.option("--requests", type=int, help="Number of requests."),
            click.option("--duration", metavar="TIME", help="Send for so long, e.g. 10min, instead of --requests."),
            seed,
            unit,
        )
    ):
        command = option(command)
    return command

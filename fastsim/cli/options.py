"""The options that several commands share."""

from collections.abc import Callable
from typing import Any

import click

from fastsim.cli import completion
from fastsim.cli.terminal.console import QUIET

Command = Callable[..., Any]

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")


def _hush(context: click.Context, parameter: click.Parameter, given: bool) -> None:
    if given:
        import logging

        context.meta[QUIET] = True
        logging.getLogger("fastsim").setLevel(logging.ERROR)


quiet = click.option(
    "--quiet",
    "-q",
    is_flag=True,
    expose_value=False,
    callback=_hush,
    help="Print only the answer: no progress and no notes.",
)
check = click.option("--check", is_flag=True, help="Exit with 1 if an objective is missed.")
overrides = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="PATH=VALUE",
    help="Change a field of DEPLOYMENT.",
    shell_complete=completion.settings,
)
prices = click.option(
    "--prices",
    metavar="FILE",
    help="What GPUs and energy cost, e.g. prices.yaml.  [default: DEPLOYMENT's, else `fastsim catalog prices`]",
    shell_complete=completion.files,
)
price = click.option(
    "--price",
    metavar="DEVICE=USD,...",
    help="Dollars per GPU and hour, e.g. h100=2.10, in place of all others.",
    shell_complete=completion.prices,
)
deployment = click.argument("deployment", required=False, shell_complete=completion.subjects)
named = click.option(
    "--workload",
    "named",
    help="Preset, description file, or file of requests; the same as WORKLOAD.",
    shell_complete=completion.workloads,
)


workload = click.argument("workload", required=False, shell_complete=completion.workloads)
space_overrides = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="PATH=VALUE",
    help="Change a field of the deployment in SPACE that it does not vary.",
    shell_complete=completion.settings,
)


def subject(command: Command) -> Command:
    """The arguments DEPLOYMENT and WORKLOAD, and WORKLOAD as an option."""
    return _together(command, deployment, workload, named)


def space(command: Command) -> Command:
    """The arguments SPACE and WORKLOAD, and WORKLOAD as an option."""
    return _together(command, click.argument("space", shell_complete=completion.files), workload, named)


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


input_len = click.option("--input-len", type=int, help="Prompt tokens of each request, instead of WORKLOAD.")
output_len = click.option("--output-len", type=int, help="Output tokens of each request, instead of WORKLOAD.")
rate = click.option("--rate", type=float, help="Mean arrivals per second; scales the arrival times of a file.")
users = click.option("--users", type=int, help="Users who each wait for their answer before they send the next.")
find_users = click.option(
    "--users",
    is_flag=True,
    help="Find how many users, who each wait for their answer before they send the next, instead of a rate.",
)
concurrency = click.option(
    "--concurrency",
    "--max-concurrency",
    "max_concurrency",
    type=int,
    help="Requests that clients have in flight at most.",
)
number = click.option("--requests", type=int, help="Number of requests.")
least_number = click.option(
    "--requests", type=int, help="Requests per run, at least.  [default: 16,000, or all of a file]"
)
duration = click.option("--duration", metavar="TIME", help="Send for so long, e.g. 10min, instead of --requests.")


def requests(command: Command) -> Command:
    """The options that say which requests are sent, and how."""
    return _together(command, rate, users, concurrency, input_len, output_len, number, duration, seed, unit)


def priced(command: Command) -> Command:
    """The options that say what GPUs cost."""
    return _together(command, prices, price)


def sent(command: Command) -> Command:
    """The same for a space, whose unit of times and limit of lengths have options of their own."""
    return _together(command, rate, users, concurrency, input_len, output_len, number, seed)


def planned(command: Command) -> Command:
    """The options that say which requests a plan is made with; their rate, or their users, are what is looked for."""
    return _together(command, input_len, output_len, least_number, seed, unit, too_long)


def _together(command: Command, *options: Callable[[Command], Command]) -> Command:
    for option in reversed(options):
        command = option(command)
    return command

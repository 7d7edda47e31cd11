"""The command line: each command is a file, imported when it is called; errors end in one sentence."""

import sys
from importlib import import_module

import click

from fastsim.errors import FastsimError
from fastsim.version import __version__

# Name, where it is, and its line of help: `fastsim --help` imports none of them.
COMMANDS = {
    "simulate": ("fastsim.cli.simulate", "Predict latency, throughput, memory and cost of a deployment."),
    "capacity": ("fastsim.cli.capacity", "Find the highest rate that a deployment serves within its objectives."),
    "sweep": ("fastsim.cli.sweep", "Simulate every configuration of a space, on threads or on Dask."),
    "result": ("fastsim.cli.result", "Show a result, write it as CSV, or log it to Weights & Biases."),
    "compare": ("fastsim.cli.compare", "Compare two results request by request."),
    "search": ("fastsim.cli.search", "Find the deployments of a space that serve most per dollar."),
    "fleet": ("fastsim.cli.fleet", "Say how many GPUs of which kind serve so many requests or users."),
    "launch": ("fastsim.cli.launch", "Print the command or manifest that starts what was simulated."),
    "explain": ("fastsim.cli.explain", "Break one iteration down by operator."),
    "train": ("fastsim.cli.train", "Train the forests that predict operator times."),
    "profile": ("fastsim.cli.profile", "Measure operators on a GPU, for forests of its own."),
    "catalog": ("fastsim.cli.catalog", "List models, devices, nodes, policies, routers, predictors and metrics."),
    "trace": ("fastsim.cli.trace", "Describe, convert and synthesise workloads."),
    "report": ("fastsim.cli.report", "Write a page about one result or several, for the browser."),
    "timeline": ("fastsim.cli.timeline", "Write every batch and request for Perfetto or Chrome."),
    "warm": ("fastsim.cli.warm", "Compile everything beforehand."),
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they run."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command: click.Command = getattr(import_module(COMMANDS[name][0]), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS:
            from fastsim.errors import did_you_mean

            raise click.UsageError(f"no command {args[0]!r}; {did_you_mean(args[0], COMMANDS)}")
        return super().resolve_command(ctx, args)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def cli() -> None:
    """Predict how a deployment of a large language model behaves, without a GPU.

    Start with `fastsim simulate`: it needs no argument.
    """


def main() -> None:
    """Run the command line. Exit codes: 0 done, 1 failed, 2 bad input, 130 interrupted."""
    try:
        sys.exit(cli.main(standalone_mode=False))
    except FastsimError as error:
        click.echo(f"fastsim: {error}", err=True)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (KeyboardInterrupt, click.Abort):
        click.echo("fastsim: interrupted, nothing was written", err=True)
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(0)

"""The command line. Each command has its own file, which is imported only when it runs; errors are one sentence."""

import atexit
import errno
import gc
import io
import os
import sys
import threading
import warnings
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from keyword import iskeyword
from typing import NoReturn

import click

from fastsim.cli import interrupt
from fastsim.errors import FastsimError, printable
from fastsim.version import __version__

# What can be wrong with a user's files and machine, wherever it is noticed.
ENVIRONMENT = {errno.ENAMETOOLONG, errno.ELOOP, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EMFILE}
MAX_SENTENCE = 4000  # characters of an error
# The module and the line of help of each command, so that `fastsim --help` imports none of the modules.
COMMANDS = {
    "simulate": ("fastsim.cli.simulate", "Predict latency, throughput, memory and cost of a deployment."),
    "capacity": ("fastsim.cli.capacity", "Find the highest request rate at which a deployment meets its objectives."),
    "explore": ("fastsim.cli.explore", 'Open a page that answers "what if" while settings are changed.'),
    "curve": ("fastsim.cli.curve", "Show latency and cost against the request rate or the number of users."),
    "sweep": ("fastsim.cli.sweep", "Simulate every configuration of a space, on threads or on a Dask cluster."),
    "result": ("fastsim.cli.result", "Show a result, export it as CSV, or log it to Weights & Biases."),
    "compare": ("fastsim.cli.compare", "Compare two results request by request."),
    "validate": ("fastsim.cli.validate", "Replay a measured run, and show how far predictions are from it."),
    "calibrate": ("fastsim.cli.calibrate", "Fit coefficients of a deployment on a measured run."),
    "search": ("fastsim.cli.search", "Find the deployments of a space that serve the most requests per dollar."),
    "fleet": ("fastsim.cli.fleet", "Find how many GPUs of each kind a request rate or a number of users needs."),
    "import": ("fastsim.cli.import_", "Turn a vLLM command or a Kubernetes manifest into a deployment file."),
    "launch": ("fastsim.cli.launch", "Print the command or the manifest that starts a simulated deployment."),
    "memory": ("fastsim.cli.memory", "Show what the memory of a GPU holds, and how many tokens fit."),
    "explain": ("fastsim.cli.explain", "Break one iteration down by operator."),
    "train": ("fastsim.cli.train", "Train the forests that predict operator times."),
    "profile": ("fastsim.cli.profile", "Measure operators on a GPU, to train forests for it."),
    "catalog": ("fastsim.cli.catalog", "List models, devices, nodes, policies, routers, predictors and metrics."),
    "trace": ("fastsim.cli.trace", "Describe, convert and synthesise workloads."),
    "report": ("fastsim.cli.report", "Write an HTML page about one or more results."),
    "timeline": (
        "fastsim.cli.timeline",
        "Write the batches and requests of a result as a timeline for Perfetto or Chrome.",
    ),
    "manual": ("fastsim.cli.manual", "Print a page of the manual, or the list of its topics."),
    "schema": ("fastsim.cli.schema", "Print the JSON Schema of what a command prints with --json."),
    "completion": ("fastsim.cli.completion", "Print what a shell needs to complete commands, models and devices."),
    "warm": ("fastsim.cli.warm", "Compile all kernels and build the default tables ahead of time."),
}


class LazyGroup(click.Group):
    """A command group that imports the module of a command when the command runs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command: click.Command = getattr(import_module(COMMANDS[name][0]), f"{name}_" if iskeyword(name) else name)
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

    Start with `fastsim simulate`, which needs no arguments.
    """


def main() -> None:
    """Run the command line."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal may lack the characters of a name
    # A collection every 700 objects, Python's default, takes a tenth of a short run, which leaves no garbage.
    gc.set_threshold(1_000_000)
    # Its threads wait by running, and nothing here multiplies matrices that are large enough for several.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "true")  # it would look for some in every installed package
    warnings.showwarning = lambda message, *_: _warn(str(message))
    _leave(run())


def _leave(code: int) -> NoReturn:
    """End the process without taking its objects apart, which takes a fifth of a short run: all is written by now."""
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:  # the reader of the output has closed it
            pass
        except OSError as problem:
            code = max(code, 1)
            with suppress(OSError):
                click.echo(f"fastsim: {problem.strerror}", err=True)
    os._exit(code)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the default are the arguments of the process.

    Returns the exit code: 0 on success, 1 on failure, 2 for bad input. Ctrl-C ends the process with 130, and SIGTERM
    with 143.
    """
    try:
        with interrupt.watched():
            return cli.main(arguments, standalone_mode=False) or 0
    except FastsimError as error:
        return _fail(str(error), error.exit_code)
    except click.ClickException as error:
        shown = io.StringIO()
        error.show(shown)
        click.echo(printable(shown.getvalue().rstrip()), err=True)
        return 2
    except (KeyboardInterrupt, click.Abort):  # at a prompt, or where signals are not watched
        return _fail("interrupted; nothing was written", 130)
    except BrokenPipeError:
        return 0
    except MemoryError:
        return _fail("the memory of this machine is not enough; simulate fewer requests or replicas", 1)
    except OSError as problem:
        if problem.errno not in ENVIRONMENT:
            return _fault(problem)
        place = "" if problem.filename is None else f": {problem.filename}"
        return _fail(f"{problem.strerror}{place}", 2)
    except Exception as fault:
        return _fault(fault)


def _warn(message: str) -> None:
    from fastsim.cli.terminal.console import is_quiet

    if not is_quiet():
        click.echo(f"fastsim: {printable(message)}", err=True)


def _fault(fault: Exception) -> int:
    from fastsim.cli.faults import explain

    return _fail(explain(fault), 1)


def _fail(sentence: str, code: int) -> int:
    click.echo(f"fastsim: {printable(sentence[:MAX_SENTENCE])}", err=True)
    return code

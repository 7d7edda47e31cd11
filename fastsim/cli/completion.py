"""The command `fastsim completion`, and what shells complete beside commands and options."""

from collections.abc import Iterable
from pathlib import Path

import click
from click.shell_completion import CompletionItem

MANUAL = Path(__file__).resolve().parents[1] / "manual"
NAMED = ("model", "device", "engine", "node")


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what SHELL reads to complete commands, options, models and devices.

    For bash, add this line to ~/.bashrc: eval "$(fastsim completion bash)"
    """
    from click.shell_completion import get_completion_class

    from fastsim.cli import cli

    known = get_completion_class(shell)
    assert known is not None
    click.echo(known(cli, {}, "fastsim", "_FASTSIM_COMPLETE").source())


def settings(context: click.Context, parameter: click.Parameter, typed: str) -> list[str]:
    """Completions of PATH=VALUE: the fields that name something, and then the names."""
    field, equals, _ = typed.partition("=")
    known = [f"{field}={name}" for name in values_of(field)] if equals else [f"{name}=" for name in NAMED]
    return [one for one in known if one.startswith(typed)]


def files(context: click.Context, parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    """Completions of a file."""
    return [CompletionItem(typed, type="file")]


def subjects(context: click.Context, parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    """Completions of DEPLOYMENT: files, and presets, as a workload may be given alone."""
    return workloads(context, parameter, typed)


def workloads(context: click.Context, parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    """Completions of WORKLOAD: presets and files."""
    from fastsim.files import DATA

    presets = sorted(path.stem for path in DATA.glob("workloads/*.yaml"))
    return [*_of(presets, typed), CompletionItem(typed, type="file")]


def devices(context: click.Context, parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    """Completions of a GPU: those of the catalog, and files that describe one."""
    return [*_of(values_of("device"), typed), CompletionItem(typed, type="file")]


def models(context: click.Context, parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    """Completions of a model: those of the catalog, and files that describe one."""
    return [*_of(values_of("model"), typed), CompletionItem(typed, type="file")]


def prices(context: click.Context, parameter: click.Parameter, typed: str) -> list[str]:
    """Completions of DEVICE=USD[,DEVICE=USD]."""
    before, comma, last = typed.rpartition(",")
    return [f"{before}{comma}{name}=" for name in values_of("device") if name.startswith(last)]


def topics(context: click.Context, parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    """Completions of a page of the manual."""
    return _of(sorted(path.stem for path in MANUAL.glob("*.md")), typed)


def _of(names: Iterable[str], typed: str) -> list[CompletionItem]:
    """The names that begin as typed; those with an organisation also by what follows it."""
    near = [name for name in names if typed and name.lower().rpartition("/")[2].startswith(typed.lower())]
    return [CompletionItem(name) for name in dict.fromkeys((*filter(lambda one: one.startswith(typed), names), *near))]


def values_of(field: str) -> Iterable[str]:
    """The names that a field of a deployment may have; empty where it names nothing."""
    from fastsim.catalog.load import names
    from fastsim.deployment.engines import RELEASES
    from fastsim.deployment.sglang.releases import RELEASES as SGLANG

    match field:
        case "model":
            return names("models")
        case "device":
            return names("devices")
        case "node":
            return names("nodes")
        case "engine":
            return (*RELEASES, *SGLANG)
    return ()

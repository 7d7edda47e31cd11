"""Schedulers and routers that a file names as Python functions run only with ``--policies``."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import click

from fastsim.deployment.schedulers import is_function
from fastsim.errors import ConfigError, printable

if TYPE_CHECKING:
    from fastsim.deployment.description import Deployment
    from fastsim.sweeps.space import Space

FIELDS = ("scheduler.policy", "router.policy")


def check_deployment(described: "Deployment", source: str | None, overrides: Sequence[str], allowed: bool) -> None:
    """Raise ConfigError if the deployment file names a function, unless ``allowed``; then print which one runs.

    A function that the user names by --set is not checked.
    """
    given = {override.partition("=")[0].strip() for override in overrides}
    for field, policy in zip(FIELDS, (described.scheduler.policy, described.router.policy), strict=True):
        if policy is not None and not given & {field, field.partition(".")[0]}:
            _check(field, [policy], allowed, source or "the default deployment")


def check_space(space: "Space", allowed: bool) -> None:
    """Raise ConfigError if a space or its deployment names functions, unless ``allowed``; then print which ones run."""
    for field in FIELDS:
        group, _, name = field.partition(".")
        settings = space.base.document.values.get(group)
        policies = [settings.get(name)] if isinstance(settings, dict) else []
        if field in space.names:
            policies += space.values(field)
        _check(field, [policy for policy in policies if isinstance(policy, str)], allowed, space.source)


def _check(field: str, policies: Iterable[str], allowed: bool, source: str) -> None:
    for policy in dict.fromkeys(filter(is_function, policies)):
        if not allowed:
            other = "sarathi" if field == FIELDS[0] else "round_robin"
            raise ConfigError(
                f"{field}: {policy!r} is Python code that {source} names; read the code, then allow it with "
                f"--policies, or use another policy (e.g. {other})"
            )
        click.echo(f"fastsim: running {printable(policy)}", err=True)

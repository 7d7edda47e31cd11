"""Users' own schedulers and routers are Python code: what a file names runs only when it is allowed."""

from collections.abc import Iterable, Sequence

import click

from fastsim.deployment.resolved import Deployment
from fastsim.deployment.schedulers import is_function
from fastsim.errors import ConfigError
from fastsim.sweeps.space import Space

FIELDS = ("scheduler.policy", "router.policy")


def check_deployment(described: Deployment, overrides: Sequence[str], allowed: bool) -> None:
    """Refuse functions that the deployment file names, unless ``allowed``; those given by --set are the user's.

    Says on standard error which file runs. Raises ConfigError.
    """
    given = {override.partition("=")[0].strip() for override in overrides}
    for field, policy in zip(FIELDS, (described.scheduler.policy, described.router.policy), strict=True):
        if not given & {field, field.partition(".")[0]}:
            _check(field, [policy], allowed, "the deployment")


def check_space(space: Space, allowed: bool) -> None:
    """Refuse functions that a space or its deployment names, unless ``allowed``. Raises ConfigError."""
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
            raise ConfigError(
                f"{field}: {policy!r} is Python code that {source} names; read it, then run it with --policies "
                f"(or without it: --set {field}={'sarathi' if field == FIELDS[0] else 'round_robin'})"
            )
        click.echo(f"fastsim: running {policy}", err=True)

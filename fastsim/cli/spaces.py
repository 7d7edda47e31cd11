"""The space of a command, with the workload and the settings that its options put in place of the space's own."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fastsim.cli.requests import changes, described

if TYPE_CHECKING:
    from fastsim.sweeps.space import Space


def read(
    file: str,
    yes: bool,
    workload: str | None,
    named: str | None,
    *,
    input_len: int | None,
    output_len: int | None,
    seed: int | None,
    overrides: Sequence[str],
    prices: str | None,
    price: str | None,
    **keys: Any,
) -> "Space":
    """Read the space of a file, in which ``keys`` of the workload that are not None take the place of its own.

    ``workload`` and ``named``: WORKLOAD and --workload, whose files are relative to the folder of the process. Raises
    UsageError for two workloads, and ConfigError.
    """
    from fastsim.sweeps.space import Space
    from fastsim.workload.mixes import is_mix
    from fastsim.workload.presets import presets

    if workload is not None and named is not None:
        raise click.UsageError(f"two workloads, {workload!r} and --workload {named!r}; give one of them")
    source: Any = workload or named
    if input_len is not None or output_len is not None:
        source, _ = described(source, input_len, output_len)
    elif source is not None and source not in presets() and not is_mix(source):
        source = str(Path(source).resolve())
    space = Space.load(file, yes=yes).with_workload(source=source, **keys)
    return space.with_overrides(changes(overrides, seed=seed, prices=prices, price=price))

"""What a quantization_config says of the linear modules of a checkpoint, and what its readers share."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from fastsim.catalog.precisions import FORMATS, Precision

Given = Mapping[str, Any]


class UnknownSchemeError(Exception):
    """A scheme that is not known; the text is what names it."""


@dataclass(frozen=True, slots=True)
class Scheme:
    """The precision of a checkpoint's linear modules: of those that it names, of those it leaves out, of all others."""

    default: Precision
    named: tuple[tuple[str, Precision], ...] = ()
    excluded: tuple[str, ...] = ()


def grouped(name: str, group: Any, bits_per_group: float | None = None) -> Precision:
    """A precision whose scales, of ``bits_per_group`` with their zero points, are shared by ``group`` weights.

    What is no integer takes what the precision usually has; a group of -1 or 0 is a whole channel, whose scale hardly
    counts.
    """
    kind = FORMATS[name]
    size = group if isinstance(group, int) else kind.group
    if not size or size < 0:
        return Precision(name, kind.weight_bits)
    return Precision(name, kind.weight_bits + (kind.scale_bits if bits_per_group is None else bits_per_group) / size)


def first_given(given: Given, *names: str, default: Any) -> Any:
    """The first of some fields that is stated, or the default."""
    return next((given[name] for name in names if given.get(name) is not None), default)


def table(value: Any) -> Given:
    """An object; empty for anything else."""
    return value if isinstance(value, dict) else {}


def last_table(value: Any) -> Given:
    """An object, or the last of a list of them."""
    return table(value[-1] if isinstance(value, list) and value else value)


def flat(value: Any) -> Iterable[str]:
    """The texts of a list, or a text alone."""
    return [name for name in value if isinstance(name, str)] if isinstance(value, list) else [str(value)]

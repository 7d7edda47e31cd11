"""Errors a user can meet. Every message is one sentence: the place, the value, and a valid value."""

from collections.abc import Iterable


class FastsimError(Exception):
    """Something failed while running; the command line ends with exit code 1."""

    exit_code = 1


class InputError(FastsimError):
    """The input cannot be used as it is; the command line ends with exit code 2."""

    exit_code = 2


class ConfigError(InputError):
    """A field of a deployment or workload description is missing, unknown or impossible."""


class WorkloadError(InputError):
    """A request stream cannot be read, or holds a value that cannot be simulated."""


class CatalogError(InputError):
    """A model, device, node or predictor that no catalog knows."""


class DoesNotFitError(InputError):
    """The model or its KV cache does not fit in the memory of the devices."""


class TooLargeError(InputError):
    """More requests or replicas than fit in the memory of this machine."""


class TableError(InputError):
    """Operator times lack a look-up, or their files cannot be used."""


class StuckError(InputError):
    """A request at the head of a queue can never be scheduled."""


class PolicyError(InputError):
    """A scheduling policy or router of the user's does not compile, or chooses what cannot be chosen."""


class OutputError(InputError):
    """The results cannot be written where they were asked for."""


class ClusterError(InputError):
    """A Dask cluster that cannot be reached, or whose workers cannot run this version of fastsim."""


def first_line(problem: BaseException) -> str:
    """Return the first line of an error's message, or the error's name if it has none."""
    return (str(problem).strip().splitlines() or [type(problem).__name__])[0]


def printable(text: str) -> str:
    """Return ``text`` with line breaks as they are and other control characters escaped, as a terminal may show it."""
    if text.isprintable():
        return text
    shown = (char if char.isprintable() or char == "\n" else char.encode("unicode_escape").decode() for char in text)
    return "".join(shown)


def did_you_mean(value: str, valid: Iterable[str]) -> str:
    """``did you mean 'x'?`` for the nearest valid spelling, else the valid values."""
    from difflib import get_close_matches

    choices = list(valid)
    lowered = {choice.lower(): choice for choice in choices}
    near = get_close_matches(value.lower(), lowered, n=1, cutoff=0.6)
    if near:
        return f"did you mean {lowered[near[0]]!r}?"
    return "valid: " + ", ".join(choices)

"""Errors a user can meet. Every message is one sentence: the place, the value, and a valid value."""

import re
from collections.abc import Iterable

LISTED = 12  # valid values that a message lists


class FastsimError(Exception):
    """Something failed while running; the command line ends with exit code 1."""

    exit_code = 1


class MissedError(FastsimError):
    """An objective, or the accuracy that was asked for, is missed."""


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
    """A request at the head of a queue can never be scheduled, or requests preempt each other for ever."""


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
    """``did you mean 'x'?`` for the nearest spelling if one is close, else the valid values, at most LISTED of them."""
    from difflib import SequenceMatcher

    choices = list(dict.fromkeys(valid))
    scores = {choice: likeness(value, choice) for choice in choices}
    best = max(scores.values(), default=0.0)
    if best > 0:
        near = [repr(choice) for choice in choices if scores[choice] == best]
        return f"did you mean {' or '.join(near[:3])}?"
    if len(choices) <= LISTED:
        return "valid: " + ", ".join(choices)
    choices.sort(key=lambda choice: -SequenceMatcher(None, value.lower()[:100], choice.lower()).ratio())
    return f"valid: {', '.join(choices[:LISTED])} and {len(choices) - LISTED} more"


def likeness(value: str, choice: str) -> float:
    """How close two spellings are, from 0 (another word) to 1 (the same but for case and separators).

    Words are compared one by one, so that ``data_parallel_size`` is not close to ``tensor_parallel_size``. A word with
    a digit in it is the name of a version or a product, which is close to no other: ``a10g`` is no ``a100``.
    """
    inner = choice.rpartition(".")[2]
    whole = _likeness(_words(value), _words(choice))
    if "." in value or inner == choice:
        return whole
    return max(whole, 0.9 * _likeness(_words(value), _words(inner)))  # a setting that belongs to a group


def _likeness(ours: list[str], theirs: list[str]) -> float:
    if "".join(ours) == "".join(theirs):
        return 1.0 if ours else 0.0
    if len(ours) == len(theirs):
        alike = [_word_likeness(one, other) for one, other in zip(ours, theirs, strict=True)]
        return sum(alike) / len(alike) if min(alike) > 0 else 0.0
    if ours and set(ours) < set(theirs):  # a part of the name, such as max_seqs of max_num_seqs
        return 0.5 * sum(map(len, ours)) / sum(map(len, theirs))
    return 0.75 * _word_likeness("".join(ours), "".join(theirs))  # a separator too many or too few, and a slip


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text[:200].lower())


def _word_likeness(one: str, other: str) -> float:
    from difflib import SequenceMatcher

    if one == other:
        return 1.0
    if any(char.isdigit() for char in one + other):
        return 0.0
    if sorted(one) == sorted(other):  # letters in another order
        return 0.8
    if min(len(one), len(other)) >= 3 and (one.startswith(other) or other.startswith(one)):
        return 0.75  # an abbreviation
    share = SequenceMatcher(None, one, other).ratio()
    return share if share >= 0.72 else 0.0

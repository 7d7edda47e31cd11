"""Which argument is the deployment and which the workload, and the requests that options ask for."""

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from fastsim.errors import ConfigError, did_you_mean
from fastsim.workload.presets import presets

if TYPE_CHECKING:
    from fastsim.workload import Workload

RATE = 1.0  # requests/s of --input-len and --output-len without --rate
FIRST = 1000  # requests drawn at first for a duration; more until they last long enough


@dataclass(frozen=True, slots=True)
class Subject:
    """What a command is about: deployments, and a workload, each as it is named; None: the default."""

    deployments: tuple[str, ...]
    workload: str | None

    @property
    def deployment(self) -> str | None:
        """The only deployment, or None."""
        return self.deployments[0] if self.deployments else None


def subject(given: Sequence[str | None], named: str | None = None, *, last: bool = True) -> Subject:
    """Tell the workload from the deployments: a preset, requests or a description of them, wherever it stands.

    ``given``: the arguments, of which those that are None were left out. ``named``: that of --workload. ``last``: an
    argument after the first is the workload if none is known to be one, such as ``-`` and files that do not exist.
    Raises UsageError for two workloads or a setting, and ConfigError for a name that is neither a file nor a preset.
    """
    from fastsim.workload.loading import is_workload

    words = [word for word in given if word is not None]
    for word in words:
        _refuse_setting(word)
    known = [word for word in words if is_workload(word)]
    if named is not None:
        known.append(named)
    elif not known and last and len(words) > 1:
        known = [words[-1]]
    if len(known) > 1:
        raise click.UsageError(f"two workloads, {known[0]!r} and {known[1]!r}; give one of them")
    if known and named is None:
        words.remove(known[0])
    for word in words:
        _refuse_unknown(word)
    return Subject(tuple(words), known[0] if known else None)


def _refuse_setting(word: str) -> None:
    """Raise UsageError for an argument that sets a field of the deployment, such as ``device=h200``."""
    field, equals, _ = word.partition("=")
    if not equals or Path(word).exists():
        return
    from fastsim.deployment.description import Deployment

    if field.partition(".")[0] in Deployment.model_fields:
        raise click.UsageError(f"{word!r} is a setting of the deployment; give it as --set {shlex.quote(word)}")


def _refuse_unknown(word: str) -> None:
    """Raise ConfigError for a name without a suffix that is no file: a preset was meant, or a file is missing."""
    if word != "-" and not Path(word).suffix and "/" not in word and not Path(word).exists():
        raise ConfigError(
            f"{word}: neither a file that describes a deployment nor a preset; {did_you_mean(word, presets())}"
        )


def described(named: str | None, input_len: int | None, output_len: int | None) -> tuple[Any, str]:
    """What a plan loads its requests from, and what it is called: WORKLOAD, or requests of fixed lengths."""
    if (fixed := _fixed(named, input_len, output_len)) is not None:
        return fixed, f"{input_len:,} + {output_len:,} tokens"
    return named or "chat", named or "chat"


def changes(
    overrides: Sequence[str], *, seed: int | None = None, prices: str | None = None, price: str | None = None
) -> tuple[str, ...]:
    """The overrides of a deployment with those that --seed, --prices and --price are short for."""
    given = {"seed": seed, "prices.file": prices and json.dumps(prices), "prices.dollars_per_hour": price}
    return (*overrides, *(f"{field}={value}" for field, value in given.items() if value is not None))


def asked(
    named: str | None,
    *,
    input_len: int | None,
    output_len: int | None,
    duration: str | None,
    requests: int | None,
    **options: Any,
) -> "Workload":
    """The requests of WORKLOAD, or of fixed lengths; ``options`` are those of ``fastsim.workload.loading.load``."""
    from fastsim.workload.loading import is_description, load

    spec = _fixed(named, input_len, output_len) or named or "chat"
    if duration is None:
        return load(spec, num_requests=requests, **options)
    if requests is not None:
        raise ConfigError(f"--duration {duration} and --requests {requests} exclude each other; give one of them")
    seconds, draw = _seconds(duration), partial(load, spec, **options)
    number = FIRST if is_description(spec) else None
    while True:
        stream = draw(num_requests=number)
        if stream.following is not None:
            raise ConfigError(
                f"--duration {duration}: users who wait for their answers have no times of their own; give --requests "
                "(e.g. 1000)"
            )
        if number is None or stream.arrived_at[-1] > seconds:
            break
        number *= 4
    if sent := int(np.searchsorted(stream.arrived_at, seconds, "right")):
        return stream.head(sent)
    raise ConfigError(f"--duration {duration}: the first request arrives after {stream.arrived_at[0]:.4g} s")


def _fixed(named: str | None, input_len: int | None, output_len: int | None) -> dict[str, Any] | None:
    """The description of requests that all have the same lengths; None where these are not given."""
    if input_len is None and output_len is None:
        return None
    if input_len is None or output_len is None:
        missing = "--input-len" if input_len is None else "--output-len"
        raise ConfigError(f"{missing}: missing; --input-len and --output-len go together (e.g. {missing} 128)")
    if named is not None:
        raise ConfigError(f"WORKLOAD: {named!r} has lengths of its own; leave out it, or --input-len and --output-len")
    lengths = {"kind": "fixed", "num_prompt_tokens": input_len, "num_output_tokens": output_len}
    return {"lengths": lengths, "gaps": {"kind": "poisson", "rate": RATE}}


def _seconds(duration: str) -> float:
    from fastsim.result.metrics.window import parse_exclude

    seconds, _ = parse_exclude(duration, "--duration")
    if "," in duration or not seconds > 0:
        raise ConfigError(f"--duration: {duration!r} is not a time of more than 0 s (e.g. 10min)")
    return seconds

"""The requests that the options of a command ask for."""

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from fastsim.errors import ConfigError

if TYPE_CHECKING:
    from fastsim.workload import Workload

RATE = 1.0  # requests/s of --input-len and --output-len without --rate
FIRST = 1000  # requests drawn at first for a duration; more until they last long enough


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

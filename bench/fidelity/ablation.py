"""The leaderboard without one of the terms that engines and GPUs take beside the operators of a model."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from fastsim.catalog import load
from fastsim.catalog.hardware import Device
from fastsim.deployment import engine_times
from fastsim.deployment.engine_times import EngineTimes, HostTimes

# By term: the coefficients of data/engines that are left out.
OF_ENGINES: dict[str, dict[str, Any]] = {
    "host": dict.fromkeys(("host_ms_per_step", "host_ms_per_sequence"), 0.0),
    "async_host": dict.fromkeys(("async_host_ms_per_step", "async_host_ms_per_sequence"), 0.0),
    "sampler": dict.fromkeys(("sampler_ms", "sampler_us_per_sequence"), 0.0),
    "eager": {"eager_us_per_kernel": 0.0},
    "front_end": {"front_end_ms": 0.0},
}
# By term: the figure of the GPU with which it changes nothing.
OF_DEVICES: dict[str, dict[str, Any]] = {"mixed_decode": {"mixed_decode": 1.0}, "skew": {"skew": 0.0}}
HIDDEN = "hidden_host"  # of asynchronous engines alone
TERMS = (*OF_ENGINES, HIDDEN, *OF_DEVICES)


@contextmanager
def without(term: str | None) -> Iterator[None]:
    """Leave a term of TERMS out; None: nothing."""
    of, host, device = engine_times.of, EngineTimes.host, load.load_device

    def less(release: str) -> EngineTimes:
        return replace(of(release), **OF_ENGINES.get(term or "", {}))

    def waits(times: EngineTimes, is_async: bool) -> HostTimes:
        shown = {"hidden_ms_per_step": 0.0, "hidden_ms_per_sequence": 0.0} if term == HIDDEN else {}
        return replace(host(times, is_async), **shown)

    def plain(name: str) -> Device:
        return replace(device(name), **OF_DEVICES.get(term or "", {}))

    with (
        patch.object(engine_times, "of", less),
        patch.object(EngineTimes, "host", waits),
        patch.object(load, "load_device", plain),
    ):
        yield

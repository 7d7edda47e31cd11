"""What becomes of requests with more tokens than a deployment takes."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fastsim.errors import ConfigError, WorkloadError, did_you_mean
from fastsim.workload.following import NONE, previous_turns
from fastsim.workload.origin import Origin
from fastsim.workload.workload import Workload

TOO_LONG = ("refuse", "drop", "clip")


def check_too_long(too_long: object, where: str = "too_long") -> str:
    """Return ``too_long`` if it is one of TOO_LONG. Raises ConfigError."""
    if too_long not in TOO_LONG:
        raise ConfigError(f"{where}: {str(too_long)[:60]!r} is unknown; {did_you_mean(str(too_long)[:60], TOO_LONG)}")
    return str(too_long)


def within(workload: Workload, max_model_len: int, too_long: str) -> Workload:
    """Return the workload with requests of at most ``max_model_len`` tokens, and say in its origin what was changed.

    ``too_long`` drops longer requests, clips them, or leaves them (``refuse``) for a later check to refuse. A clipped
    request has ``max_model_len`` tokens: its outputs become fewer, down to one, and then its prompt shorter.

    Raises WorkloadError if all requests are dropped, and ConfigError if ``too_long`` is unknown.
    """
    if check_too_long(too_long) == "refuse":
        return workload
    prompts, outputs = workload.num_prompt_tokens, workload.num_output_tokens
    long = prompts + outputs > max_model_len
    number = int(long.sum())
    if not number:
        return workload
    origin = workload.origin or Origin()
    if too_long == "clip":
        if max_model_len < 2:
            raise WorkloadError(f"{workload.name}: max_model_len {max_model_len} leaves no prompt; use a longer one")
        clipped = np.minimum(prompts, max_model_len - 1)
        outputs = np.minimum(outputs, max_model_len - clipped)
        hashes = workload.block_hashes
        if hashes is not None:
            hashes = hashes.at_most((clipped + outputs) // hashes.block_size)
        return replace(
            workload,
            num_prompt_tokens=clipped,
            num_output_tokens=outputs,
            block_hashes=hashes,
            # A clipped request ends where max_model_len is reached, which the engine knows.
            ends_by_stop=None if workload.ends_by_stop is None else workload.ends_by_stop & ~long,
            origin=replace(origin, clipped=number, max_model_len=max_model_len),
        )
    if number == workload.num_requests:
        raise WorkloadError(
            f"{workload.name}: all {number:,} requests have more tokens than max_model_len {max_model_len:,}, so none "
            "is left; clip them (too_long clip) or set a longer max_model_len"
        )
    kept = _without(workload, long)
    number = workload.num_requests - kept.num_requests
    return replace(kept, origin=replace(origin, dropped=number, max_model_len=max_model_len))


def _without(workload: Workload, long: NDArray[np.bool_]) -> Workload:
    """Return the workload without some requests, bool[n], and without the turns that follow them in their sessions.

    In a closed loop the next requests take their places.
    """
    if workload.following is None:
        return workload.take(np.flatnonzero(~long))
    before = previous_turns(workload.num_requests, workload.session_id, workload.think_time)
    gone = long.copy()
    for request in np.flatnonzero(before != NONE):
        gone[request] |= gone[before[request]]
    if gone.all():
        raise WorkloadError(
            f"{workload.name}: no session is left without its too long turns; clip them (too_long clip)"
        )
    arrived_at = workload.arrived_at.copy()
    entries = np.flatnonzero((before == NONE) & ~gone)[: workload.max_concurrency]
    if np.isnan(arrived_at[entries]).any():
        arrived_at[entries] = workload.arrived_at[workload.following.first[: len(entries)]]
    return replace(workload, arrived_at=arrived_at).take(np.flatnonzero(~gone))

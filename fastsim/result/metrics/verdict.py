"""What a deployment is short of, by stated rules, and how far it is from saturation.

1. Requests wait when queueing and preemption are over WAITS of the end-to-end time of the slowest 1 %, when more than
   BEHIND of all requests wait as the last one arrives (the deployment falls behind), or when an objective for TTFT or
   scheduling delay (Vidur's, unless given) is missed and a limit is over FULL while requests wait.
2. Where they wait: GPUs that do over COMPUTE of their peak FLOPs while busy, or over BANDWIDTH of their peak bandwidth
   with more of it for the KV cache than for weights, gain nothing from larger batches. They are short of compute or
   bandwidth; of replicas when the deployment falls behind. Else what is fullest while requests wait, over FULL:
   KV memory, or batch slots (max_num_seqs or the tokens of a batch). Else replicas.
3. Where they do not wait and an objective is missed: TTFT and scheduling delay are short of
   compute, as prompts are; the others of compute when other requests' prompts hold the slowest up for longer than
   their own decoding takes, make the longest 1 % of the gaps between tokens (TBT) over UNEVEN times the median, or when
   decoding does more of the peak FLOPs than of the bandwidth; else of bandwidth.
4. Else of nothing.

The margin: what of the fullest limit is left on average while requests arrive; below 0, the share of the requests
that the deployment falls behind by.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from fastsim.result.metrics.objectives import Objective

WAITS, BEHIND, FULL = 0.1, 0.05, 0.85
COMPUTE, BANDWIDTH = 0.35, 0.55
UNEVEN, TAIL = 2.0, ("p95", "p99", "p999", "max")


class Pressure(NamedTuple):
    """What the rules look at; shares from 0 to 1."""

    waiting: float  # of the end-to-end time of the slowest 1 %: in a queue, or preempted
    backlog: float  # of the requests: those that wait when the last one arrives
    use: Mapping[str, float]  # of each limit, while requests arrive
    use_waiting: Mapping[str, float]  # of each limit, while requests wait
    mfu: float  # while busy
    mbu: float  # while busy
    kv_traffic: float  # of the bytes moved: KV cache, not weights
    prompts: float  # of the end-to-end time of the slowest 1 %: prompts of others, in front and beside
    decoding: float  # of the same: their own decoding
    uneven: float  # P99 of the gaps between tokens over their median


STARTING = {"ttft", "scheduling_delay"}  # metrics of requests that are to be put into a batch
LIMITS = {"kv": "KV memory", "slots": "batch slots", "tokens": "batch slots"}
NAMES = {"kv": "KV blocks", "slots": "max_num_seqs", "tokens": "the tokens of a batch"}


def verdict(pressure: Pressure, missed: Sequence[Objective]) -> dict[str, Any]:
    """``verdict`` of a summary. ``missed``: objectives that are."""
    behind = pressure.backlog > BEHIND
    fullest = max(pressure.use, key=lambda limit: pressure.use[limit])
    margin = -pressure.backlog if behind else max(0.0, 1 - pressure.use[fullest])
    refused = STARTING.intersection(one.metric for one in missed) and max(pressure.use_waiting.values()) > FULL
    if behind or pressure.waiting > WAITS or refused:
        short_of, why = _where_they_wait(pressure, behind)
    elif missed:
        short_of, why = _where_they_are_slow(pressure, missed)
    else:
        short_of, why = "nothing", f"the slowest 1 % wait {pressure.waiting:.0%} of their time"
    if behind:
        left = f"it falls behind by {pressure.backlog:.0%} of the requests"
    else:
        left = f"the fullest limit, {NAMES[fullest]}, is {pressure.use[fullest]:.0%} full"
    return {
        "sentence": f"Short of {short_of}: {why}; {left}.",
        "short_of": short_of,
        "margin": margin,
        **pressure._asdict(),
    }


def again(found: Mapping[str, Any], missed: Sequence[Objective]) -> dict[str, Any]:
    """The verdict ``found`` on a run, under other objectives."""
    return verdict(Pressure(*(found[field] for field in Pressure._fields)), missed)


def _where_they_wait(pressure: Pressure, behind: bool) -> tuple[str, str]:
    waits = f"the slowest 1 % wait {pressure.waiting:.0%} of their time"
    compute = pressure.mfu > COMPUTE
    if compute or (pressure.mbu > BANDWIDTH and pressure.kv_traffic > 0.5):
        limit, share = ("compute", pressure.mfu) if compute else ("bandwidth", pressure.mbu)
        peak = f"busy GPUs already reach {share:.0%} of their peak {'FLOPs' if compute else 'bandwidth'}"
        return ("replicas" if behind else limit), f"{waits}, and {peak}"
    used = pressure.use_waiting
    fullest = max(used, key=lambda limit: used[limit])
    if used[fullest] > FULL:
        return LIMITS[fullest], f"{waits} while {used[fullest]:.0%} of {NAMES[fullest]} are in use"
    return "replicas", f"{waits} although no limit is full"


def _where_they_are_slow(pressure: Pressure, missed: Sequence[Objective]) -> tuple[str, str]:
    metrics = dict.fromkeys(one.metric for one in missed)
    objectives = ", ".join(metrics)
    if STARTING.issuperset(metrics):
        return "compute", f"nothing waits and prompts take too long for {objectives}"
    if pressure.prompts > pressure.decoding:
        share = f"{pressure.prompts:.0%} of the time of the slowest 1 %"
        return "compute", f"other requests' prompts take {share}, too long for {objectives}"
    of_the_tail = any(one.metric == "tbt" and one.statistic in TAIL for one in missed)
    if of_the_tail and pressure.uneven > UNEVEN:
        return "compute", f"other requests' prompts make the longest gaps {pressure.uneven:.1f} times the median"
    limit = "compute" if pressure.mfu > pressure.mbu else "bandwidth"
    return limit, f"nothing waits and decoding takes too long for {objectives}"

"""What limits a deployment, by the rules below, and how far it is from saturation.

1. Requests wait if queueing and preemption take more than WAITS of the end-to-end time of the slowest 1 %, if more than
   BEHIND of all requests still wait when the last one arrives (the deployment falls behind), or if an objective for
   TTFT or scheduling delay is missed and a limit is over FULL while requests wait. Vidur's objectives hold unless
   others are given.
2. If requests wait, larger batches gain nothing where GPUs reach over COMPUTE of their peak FLOPs while busy, or over
   BANDWIDTH of their peak bandwidth with more of it for the KV cache than for weights. The deployment is then short of
   compute or bandwidth, or of replicas if it falls behind. Otherwise it is short of the limit that is fullest while
   requests wait, if that is over FULL: KV memory, or batch slots (max_num_seqs, or the tokens of a batch). Otherwise
   it is short of replicas.
3. If requests do not wait but an objective is missed, TTFT and scheduling delay are short of compute, because prompts
   are. The other latencies are short of compute if prompts, their own and those of other requests, take more of the
   time of the slowest 1 % than their own decoding does, if P99 of the gaps between tokens (TBT) is over UNEVEN times
   the median, or if decoding reaches a larger share of the peak FLOPs than of the peak bandwidth. Otherwise they are
   short of bandwidth.
4. Otherwise the deployment is short of nothing.

The margin is what remains of the fullest limit, on average while requests arrive. If the deployment falls behind, the
margin is negative: minus the share of the requests that still wait when the last one arrives.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from fastsim.result.metrics.objectives import Objective

WAITS, BEHIND, FULL = 0.1, 0.05, 0.85
COMPUTE, BANDWIDTH = 0.35, 0.55
UNEVEN, TAIL = 2.0, ("p95", "p99", "p999", "max")


class Pressure(NamedTuple):
    """The figures that the rules read; all but ``uneven`` are shares from 0 to 1."""

    waiting: float  # share of the end-to-end time of the slowest 1 % in a queue or preempted
    backlog: float  # share of all requests that still wait when the last one arrives
    use: Mapping[str, float]  # share of each limit in use while requests arrive
    use_waiting: Mapping[str, float]  # share of each limit in use while requests wait
    mfu: float  # share of the peak FLOPs while busy
    mbu: float  # share of the peak bandwidth while busy
    kv_traffic: float  # share of the bytes moved that is KV cache, not weights
    prompts: float  # share of the end-to-end time of the slowest 1 % that goes to prompts, of others and their own
    decoding: float  # share of the same time that goes to their own decoding
    uneven: float  # P99 of the gaps between tokens over their median


STARTING = {"ttft", "scheduling_delay"}  # latencies of requests that are to enter their first batch
LIMITS = {"kv": "KV memory", "slots": "batch slots", "tokens": "batch slots"}
NAMES = {"kv": "KV blocks", "slots": "running requests", "tokens": "tokens per batch"}


def verdict(pressure: Pressure, missed: Sequence[Objective], slots: str) -> dict[str, Any]:
    """Return the section ``verdict`` of a summary.

    Parameters
    ----------
    pressure : Pressure
        How full each limit was; its fields become entries of the section.
    missed : sequence of Objective
        The objectives that the run does not meet.
    slots : str
        The setting that limits running requests, such as max_num_seqs.

    Returns
    -------
    dict
        ``sentence`` in English, ``short_of`` (a limit, or "nothing"), ``margin`` to saturation (a share), and the
        fields of ``pressure``.
    """
    behind = pressure.backlog > BEHIND
    names = NAMES | {"slots": f"{NAMES['slots']} ({slots})"}
    fullest = max(pressure.use, key=lambda limit: pressure.use[limit])
    margin = -pressure.backlog if behind else max(0.0, 1 - pressure.use[fullest])
    refused = (
        STARTING.intersection(objective.metric for objective in missed) and max(pressure.use_waiting.values()) > FULL
    )
    if behind or pressure.waiting > WAITS or refused:
        short_of, why = _cause_of_waiting(pressure, behind, names)
    elif missed:
        short_of, why = _cause_of_slowness(pressure, missed)
    else:
        short_of, why = "nothing", ""
    if behind:
        state = f"{_percent(pressure.backlog)} of the requests still wait when the last one arrives"
    else:
        state = f"the fullest limit, {names[fullest]}, is at {_percent(pressure.use[fullest])}"
    return {
        "sentence": f"Short of {short_of}: {why}; {state}." if why else f"Not saturated: {state}.",
        "short_of": short_of,
        "margin": margin,
        **pressure._asdict(),
    }


def rejudge(previous: Mapping[str, Any], missed: Sequence[Objective], slots: str) -> dict[str, Any]:
    """Return the verdict on a run under other objectives, from its ``previous`` verdict and those now ``missed``."""
    return verdict(Pressure(*(previous[field] for field in Pressure._fields)), missed, slots)


def _cause_of_waiting(pressure: Pressure, behind: bool, names: Mapping[str, str]) -> tuple[str, str]:
    """Return what requests wait for, and a clause that says why (rule 2)."""
    waits = f"the slowest 1 % of requests wait for {_percent(pressure.waiting)} of their time"
    compute = pressure.mfu > COMPUTE
    if compute or (pressure.mbu > BANDWIDTH and pressure.kv_traffic > 0.5):
        limit, share = ("compute", pressure.mfu) if compute else ("bandwidth", pressure.mbu)
        peak = f"busy GPUs already reach {_percent(share)} of their peak {'FLOPs' if compute else 'bandwidth'}"
        return ("replicas" if behind else limit), f"{waits}, and {peak}"
    used = pressure.use_waiting
    fullest = max(used, key=lambda limit: used[limit])
    if used[fullest] > FULL:
        return LIMITS[fullest], f"{waits} while the limit on {names[fullest]} is at {_percent(used[fullest])}"
    return "replicas", f"{waits} although no limit is full"


def _cause_of_slowness(pressure: Pressure, missed: Sequence[Objective]) -> tuple[str, str]:
    """Return what makes requests slow that do not wait, and a clause that says why (rule 3)."""
    metrics = dict.fromkeys(objective.metric for objective in missed)
    objectives = ", ".join(metrics)
    if STARTING.issuperset(metrics):
        return "compute", f"requests hardly wait, but processing their prompts takes too long for {objectives}"
    if pressure.prompts > pressure.decoding:
        share = f"{_percent(pressure.prompts)} of the time of the slowest 1 % of requests"
        return "compute", f"prompts take {share}, which is too long for {objectives}"
    tail_missed = any(objective.metric == "tbt" and objective.statistic in TAIL for objective in missed)
    if tail_missed and pressure.uneven > UNEVEN:
        ratio = f"{pressure.uneven:.1f} times the median"
        return "compute", f"other requests' prompts stretch the longest gaps between tokens to {ratio}"
    limit = "compute" if pressure.mfu > pressure.mbu else "bandwidth"
    return limit, f"requests hardly wait, but decoding takes too long for {objectives}"


def _percent(share: float) -> str:
    """Return a share in whole per cent, such as ``61 %``."""
    return f"{share:.0%}".replace("%", " %")

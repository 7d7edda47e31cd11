"""Results of `vllm bench serve --save-result --save-detailed`, which SGLang's bench_serving writes too."""

from collections.abc import Mapping
from math import inf
from typing import Any

import numpy as np

from fastsim.errors import WorkloadError
from fastsim.measured.columns import Columns, floats, positive
from fastsim.measured.measured import Floats
from fastsim.measured.sending import Sending
from fastsim.workload.tables import short

LAYOUT = "a result of vllm bench serve"
MARKS = ("input_lens", "output_lens")
TOTALS = ("request_throughput", "output_throughput", "completed")  # of which a result without details has some
DETAILS = "--save-result --save-detailed"


def holds(document: Mapping[str, Any]) -> bool:
    """Whether a document is such a result, with or without its details."""
    return all(name in document for name in MARKS) or any(name in document for name in TOTALS)


def read(document: Mapping[str, Any], place: str) -> Columns:
    """The columns of a result. Raises WorkloadError where it lacks details, or holds what is no number."""
    for name in (*MARKS, "ttfts"):
        if name not in document:
            raise WorkloadError(f"{place}: holds totals but no {name}; run the benchmark with {DETAILS}")
    prompts, outputs, ttft = (floats(document[name], place, name) for name in (*MARKS, "ttfts"))
    if not len(prompts):
        raise WorkloadError(f"{place}: no requests, so that there is nothing to compare")
    every = {"output_lens": outputs, "ttfts": ttft}
    every |= {name: floats(document[name], place, name) for name in ("start_times", "latencies") if document.get(name)}
    listed = document.get("itls") or []
    errors = document.get("errors") or [""] * len(prompts)
    for name, values in (*every.items(), ("errors", errors), *((("itls", listed),) if listed else ())):
        if not isinstance(values, list | np.ndarray) or len(values) != len(prompts):
            number = f"{len(values):,}" if isinstance(values, list | np.ndarray) else short(values)
            raise WorkloadError(f"{place}: {name} has {number} values and input_lens {len(prompts):,}; give one each")
    gaps = [floats(each, f"{place}: request {row + 1}", "itls") for row, each in enumerate(listed)]
    e2e = every.get("latencies")
    if e2e is None:
        if not listed:
            raise WorkloadError(f"{place}: has no itls, so that no request's end is known; give {DETAILS}")
        e2e = ttft + np.array([each.sum() for each in gaps])
    return Columns(
        place,
        LAYOUT,
        (MARKS[0], MARKS[1]),
        prompts,
        outputs,
        ttft,
        e2e,
        positive(outputs) & np.array([not error for error in errors], bool),
        every.get("start_times"),
        gaps=np.concatenate(gaps) if listed else None,
        duration=_number(document.get("duration")),
        said=_sending(document, place),
    )


def gaps_of(document: Any, place: str) -> Floats | None:
    """All times between two tokens of a result, float64[num_gaps], s; None where it has none."""
    listed = document.get("itls") if isinstance(document, dict) else None
    if not isinstance(listed, list) or not listed:
        return None
    return np.concatenate([floats(each, f"{place}: request {row + 1}", "itls") for row, each in enumerate(listed)])


def _sending(document: Mapping[str, Any], place: str) -> Sending:
    rate = document.get("request_rate")
    users = document.get("max_concurrency")
    if users is not None and (not isinstance(users, int) or isinstance(users, bool) or users < 1):
        raise WorkloadError(f"{place}: max_concurrency: {short(users)} is not a whole number from 1 (e.g. 64)")
    burstiness = _number(document.get("burstiness")) or 1.0
    if rate is None:
        return Sending(None, users, burstiness)
    number = inf if rate == "inf" else _number(rate)
    if number is None or not number > 0:
        raise WorkloadError(f"{place}: request_rate: {short(rate)} is neither requests per second nor inf (e.g. 2.0)")
    return Sending(number, users, burstiness)


def _number(value: Any) -> float | None:
    """A number as a float; None for anything else, and for a number of hundreds of digits."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return float(value) if abs(value) < 2**63 or isinstance(value, float) else None

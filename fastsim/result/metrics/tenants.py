"""The figures of each tenant of a workload."""

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fastsim.arrays import Columns
from fastsim.result.metrics import distribution

MOST = 100  # tenants that a summary lists
LATENCIES = ("ttft", "tpot", "e2e", "scheduling_delay")


def by_tenant(columns: Columns, kept: NDArray[np.bool_] | None) -> list[dict[str, Any]]:
    """Return the section ``tenants`` of a summary: an entry for each tenant, the one with the most requests first.

    Parameters
    ----------
    columns : mapping of str to array[n]
        The columns of requests.parquet, among them ``tenant``, by name.
    kept : bool[n] or None
        The requests that latencies count; None if these are all.
    """
    encoded = pa.array(columns["tenant"]).dictionary_encode()
    names, code = encoded.dictionary.to_pylist(), encoded.indices.to_numpy()
    counts = np.bincount(code, minlength=len(names))
    entries = []
    for tenant in np.argsort(-counts, kind="stable")[:MOST]:
        rows = np.flatnonzero(code == tenant)
        finished = rows[np.isfinite(columns["finished_at"][rows])]
        timed = rows if kept is None else rows[kept[rows]]
        entries.append(
            {
                "tenant": names[tenant],
                "requests": len(rows),
                "finished": len(finished),
                "prompt_tokens": int(columns["num_prompt_tokens"][finished].sum(dtype=np.int64)),
                "output_tokens": int(columns["num_output_tokens"][finished].sum(dtype=np.int64)),
                "latency": {name: distribution.of_values(columns[name][timed]) for name in LATENCIES},
            }
        )
    return entries

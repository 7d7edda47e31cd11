"""Step times of a recorded engine as a sum of terms: fitted on the steps of one run, for source affine."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scipy.optimize import nnls  # type: ignore[import-untyped]

Floats = NDArray[np.float64]
TERMS = ("constant_ns", "per_token_ns", "per_sequence_ns", "per_context_token_ns", "per_prefill_token_ns")


def fitted(steps: Path) -> dict[str, float]:
    """The terms, ns, none of them negative, by least squares of the times of a run's steps, so that their sum is right.

    A step lasts until the next one starts, so that it holds the host's work. Steps after which the engine made empty
    calls, because it had nothing to do, are left out.
    """
    table = pq.read_table(steps)
    columns = {name: table[name].to_numpy() for name in table.column_names if name.startswith(("num_", "st", "p", "d"))}
    busy = np.diff(columns["step"]) == 1
    ns = np.diff(columns["start"])[busy] * 1e9
    counts = _counts(columns)[:-1][busy]
    values, _ = nnls(counts, ns)
    return dict(zip(TERMS, values.tolist(), strict=True))


def _counts(columns: dict[str, Floats]) -> Floats:
    """What each term is multiplied by, float64[steps, terms]."""
    prefill, decodes = columns["num_prefill_tokens"], columns["num_decode_seqs"]
    context = columns["prefill_context_tokens"] + prefill + columns["decode_context_tokens"]
    sequences = columns["num_prefill_seqs"] + decodes
    return np.column_stack([np.ones(len(prefill)), prefill + decodes, sequences, context, prefill]).astype(np.float64)

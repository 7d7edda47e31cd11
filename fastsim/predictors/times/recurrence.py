"""Times of the recurrence of linear mixers (Mamba, gated delta nets), which no device was measured with: a roofline of
their FLOPs and bytes.

A decode reads and writes the state of each sequence. A prefill works on blocks of tokens, after each of which the state
is read and written once, as the chunked scans of serving engines do.
"""

import numpy as np

from fastsim.deployment.operators.kinds import Recurrence

from .device_forests import COMPUTE_SHARE, MEMORY_SHARE, Sources
from .reach import Reach
from .times import Floats

BLOCK = 64  # tokens between which a prefill's scan writes the state
LAUNCH_MS = 0.01
OUTSIDE = 2.0  # half-width of the 90 % interval, as a factor: no kernel of this kind was measured


def decode_ms(sources: Sources, recurrence: Recurrence, reach: Reach) -> Floats:
    """Times of one layer's decodes, float64[batch, kv / kv_step], ms; they do not depend on the context."""
    batch = np.arange(reach.max_num_seqs + 1, dtype=np.float64)
    ms = _roofline(sources, recurrence, batch, batch)
    return np.repeat(ms[:, None], -(-reach.max_kv // reach.kv_step) + 1, axis=1)


def prefill_ms(sources: Sources, recurrence: Recurrence, reach: Reach) -> Floats:
    """Times of one layer's chunk, float64[kv / kv_step, chunk / chunk_step], ms; they do not depend on the context."""
    tokens = np.arange(0, reach.max_chunk + reach.chunk_step, reach.chunk_step, dtype=np.float64)
    ms = _roofline(sources, recurrence, tokens, 1 + tokens / BLOCK)
    return np.repeat(ms[None, :], -(-reach.max_kv // reach.kv_step) + 1, axis=0)


def _roofline(sources: Sources, recurrence: Recurrence, tokens: Floats, states: Floats) -> Floats:
    device = sources.device
    compute = np.array([recurrence.flops(n) for n in tokens]) / (COMPUTE_SHARE * device.tflops["bf16"] * 1e9)
    moved = np.array([recurrence.bytes_moved(n, held) for n, held in zip(tokens, states, strict=True)])
    ms = np.maximum(compute, moved / (MEMORY_SHARE * device.bandwidth_gb_s * 1e6)) + LAUNCH_MS
    return np.where(tokens > 0, ms, 0.0)

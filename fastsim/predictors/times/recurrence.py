"""Times of the recurrence of linear mixers (Mamba, gated delta nets), which fastsim has no forests of.

They follow from a few figures that agree with aiconfigurator's tables of gated delta nets and Kimi delta attention on
six GPUs (`bench/recurrences.py` prints how well). A decode reads and writes the state of each sequence. A prefill works
through blocks of tokens one after the other, and reads and writes the state with each, but for what stays on the chip.
"""

import numpy as np

from fastsim.deployment.operators.kinds import Recurrence

from .device_forests import Sources
from .reach import Reach
from .times import Floats

SHARE = 0.8  # of the DRAM bandwidth
DECODE_LAUNCH_MS, PREFILL_LAUNCH_MS = 0.004, 0.02
BLOCK = 30  # tokens for each of which a prefill moves the state once, in float32
SERIAL_MS = 5e-5  # of a prefill's token at the least, however small the state
OUTSIDE = 2.0  # 90 % of the measured times of prefills, and of decodes on data-centre GPUs, lie within this factor


def decode_ms(sources: Sources, recurrence: Recurrence, reach: Reach) -> Floats:
    """Times of one layer's decodes, float64[batch, kv / kv_step], ms; they do not depend on the context."""
    ms = decode_formula(recurrence, np.arange(reach.max_num_seqs + 1.0), sources.device.bandwidth_gb_s)
    return np.repeat(ms[:, None], -(-reach.max_kv // reach.kv_step) + 1, axis=1)


def prefill_ms(sources: Sources, recurrence: Recurrence, reach: Reach) -> Floats:
    """Times of one layer's chunk, float64[kv / kv_step, chunk / chunk_step], ms; they do not depend on the context."""
    tokens = np.arange(0, reach.max_chunk + reach.chunk_step, reach.chunk_step, dtype=np.float64)
    ms = prefill_formula(recurrence, tokens, sources.device.bandwidth_gb_s)
    return np.repeat(ms[None, :], -(-reach.max_kv // reach.kv_step) + 1, axis=0)


def decode_formula(recurrence: Recurrence, batch: Floats, bandwidth_gb_s: float) -> Floats:
    """Times of the decodes of ``batch`` sequences, ms."""
    moved = np.array([recurrence.bytes_moved(number, number) for number in batch])
    return np.where(batch > 0, DECODE_LAUNCH_MS + moved / (SHARE * bandwidth_gb_s * 1e6), 0.0)


def prefill_formula(recurrence: Recurrence, tokens: Floats, bandwidth_gb_s: float) -> Floats:
    """Times of one chunk of ``tokens`` tokens, ms."""
    moved = 8 * recurrence.state * tokens / BLOCK
    work = np.maximum(moved / (SHARE * bandwidth_gb_s * 1e6), SERIAL_MS * tokens)
    return np.where(tokens > 0, PREFILL_LAUNCH_MS + work, 0.0)

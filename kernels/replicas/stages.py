"""One stage or a pipeline, said so that the compiler sees it: a kernel then holds the code of one of the two only."""

from .._jit import inlined
from ..state import Limits


@inlined
def of_one_stage(limits: Limits) -> Limits:
    """The same limits, of a replica that has one stage."""
    return _with_stages(limits, 1)


@inlined
def of_stages(limits: Limits) -> Limits:
    """The same limits, of a replica that has more."""
    return _with_stages(limits, max(2, limits.num_stages))


@inlined
def _with_stages(limits: Limits, num_stages: int) -> Limits:
    return Limits(
        num_stages,
        limits.num_blocks,
        limits.block_size,
        limits.watermark_blocks,
        limits.blocks_per_sequence,
        limits.max_num_seqs,
        limits.micro_batch_size,
        limits.max_batch_size,
        limits.max_num_batched_tokens,
        limits.chunk_size,
        limits.max_waiting_iters,
        limits.router,
    )

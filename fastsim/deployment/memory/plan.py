"""How many KV blocks fit beside the weights, by fastsim's planner or by Vidur's."""

from math import ceil

from fastsim.catalog.hardware import Device
from fastsim.catalog.model import Model
from fastsim.errors import DoesNotFitError

from .kv import bytes_of, longest_request
from .reserve import BYTES
from .sizes import GIB, Layout, MemoryPlan, block_bytes, reserve_bytes, stage_operators, weight_bytes
from .vidur import _vidur_blocks_per_sequence, _vidur_sequence_bytes, vidur_max_batch_size, vidur_params_per_device

STATES_TO_KV = 0.9  # of the memory that linear mixers and KV cache share
MARGIN, MARGIN_GIB = 0.05, 0.25  # of the KV cache, by which the planner may err


def plan(model: Model, device: Device, layout: Layout) -> MemoryPlan:
    """Plan the memory of one replica. Raises DoesNotFitError when no KV block fits.

    Admission leaves ``int(watermark * num_blocks)`` blocks free, as in vLLM v0.
    """
    return _plan_vidur(model, device, layout) if layout.planner == "vidur" else _plan(model, device, layout)


def blocks_that_fit(model: Model, device: Device, layout: Layout) -> int:
    """KV blocks of a replica that the memory has room for; zero or less when even the weights do not fit."""
    if layout.planner == "vidur":
        batch = vidur_max_batch_size(model, device, layout)
        return _vidur_blocks_per_sequence(layout) * batch * layout.pipeline_parallel_size
    stages = range(layout.pipeline_parallel_size)
    return min(_blocks(model, device, layout, stage) for stage in stages)


def _blocks(model: Model, device: Device, layout: Layout, stage: int) -> int:
    """KV blocks that fit on a GPU of a stage; a stage without attention has room for one in each free byte."""
    return free_bytes(model, device, layout, stage) // max(1, block_bytes(model, layout, stage))


def _fullest(model: Model, device: Device, layout: Layout) -> int:
    """The stage whose GPUs have room for the fewest KV blocks."""
    return min(range(layout.pipeline_parallel_size), key=lambda stage: _blocks(model, device, layout, stage))


def free_bytes(model: Model, device: Device, layout: Layout, stage: int) -> int:
    """Bytes for the KV cache on a GPU of a stage; negative where not even the weights fit."""
    return _pool_bytes(model, device, layout, stage) - states_bytes(model, device, layout, stage)


def states_bytes(model: Model, device: Device, layout: Layout, stage: int) -> int:
    """Bytes that the states of linear mixers take on a GPU of a stage: for max_num_seqs sequences, if there is room.

    They share a pool with the KV cache, of which they get no more than SGLang gives them (mamba_full_memory_ratio).
    """
    state = stage_operators(model, layout, stage).state_bytes_per_sequence()
    most = int(_pool_bytes(model, device, layout, stage) * STATES_TO_KV / (1 + STATES_TO_KV))
    return min(layout.max_num_seqs * state, max(most, state))


def _pool_bytes(model: Model, device: Device, layout: Layout, stage: int) -> int:
    """Bytes for the KV cache and the states of linear mixers."""
    usable = int(device.torch_memory_gib * GIB * layout.gpu_memory_utilization)
    return usable - weight_bytes(model, layout, stage) - reserve_bytes(model, layout, stage)


def _plan(model: Model, device: Device, layout: Layout) -> MemoryPlan:
    fullest = _fullest(model, device, layout)
    size, fitting = block_bytes(model, layout, fullest), _blocks(model, device, layout, fullest)
    if fitting <= 0:
        raise DoesNotFitError(_why_not(model, device, layout, fullest))
    per_sequence = ceil(layout.max_model_len / layout.block_size)
    num_blocks, tokens = layout.num_blocks, 0
    if num_blocks is None:
        check_longest(model, device, layout)
        tokens = min(_tokens(model, device, layout, stage) for stage in range(layout.pipeline_parallel_size))
        # Every layer is taken to keep all tokens, but a request of max_model_len fits where the engine starts.
        num_blocks = max(fitting - layout.null_blocks, min(per_sequence, tokens // layout.block_size))
    return MemoryPlan(
        num_blocks=num_blocks,
        max_batch_size=max(1, num_blocks // (per_sequence * layout.pipeline_parallel_size)),
        blocks_per_sequence=per_sequence,
        watermark_blocks=int(layout.watermark * num_blocks),
        weights_gib=weight_bytes(model, layout, fullest) / GIB,
        kv_gib=min(num_blocks, fitting) * size / GIB if layout.num_blocks is None else num_blocks * size / GIB,
        reserve_gib=(reserve_bytes(model, layout, fullest) + states_bytes(model, device, layout, fullest)) / GIB,
        block_bytes=size,
        kv_tokens=tokens or (num_blocks + layout.null_blocks) * layout.block_size,
    )


def _tokens(model: Model, device: Device, layout: Layout, stage: int) -> int:
    """Tokens of requests of max_model_len whose KV cache fits on a GPU of a stage."""
    free = free_bytes(model, device, layout, stage)
    whole = bytes_of(model, layout, stage, layout.max_model_len)
    if whole == block_bytes(model, layout, stage) * ceil(layout.max_model_len / layout.block_size):
        return _blocks(model, device, layout, stage) * layout.block_size  # all layers keep all tokens
    return int(free / whole * layout.max_model_len)


def starts(model: Model, device: Device, layout: Layout) -> bool:
    """Whether an engine would start: a KV block fits, and as planned the KV cache of a request of max_model_len."""
    if layout.planner == "vidur":
        return blocks_that_fit(model, device, layout) > 0
    try:
        check_longest(model, device, layout)
    except DoesNotFitError:
        return False
    return blocks_that_fit(model, device, layout) > 0


def check_longest(model: Model, device: Device, layout: Layout) -> None:
    """Raise DoesNotFitError where the KV cache cannot hold a request of max_model_len, as an engine refuses to start.

    The planner errs by a few per cent, and nothing is to be refused that an engine starts: what is missing must be more
    than the largest error of the planner (test_reserve.py).
    """
    for stage in range(layout.pipeline_parallel_size):
        state = stage_operators(model, layout, stage).state_bytes_per_sequence()
        free = _pool_bytes(model, device, layout, stage) - state  # of one request
        needed = bytes_of(model, layout, stage, layout.max_model_len)
        if needed <= max(free * (1 + MARGIN), free + MARGIN_GIB * GIB):
            continue
        longest = longest_request(model, layout, stage, free)
        most = f"; the longest that fits is {longest:,} tokens" if longest else ""
        raise DoesNotFitError(
            f"max_model_len: a request of {layout.max_model_len:,} tokens needs {needed / GIB:.2f} GiB of KV cache per "
            f"GPU, and {model.name} on {device.name} has room for {max(free, 0) / GIB:.2f} GiB{most}"
        )


def _why_not(model: Model, device: Device, layout: Layout, fullest: int) -> str:
    weights = weight_bytes(model, layout, fullest) / GIB
    reserve = (reserve_bytes(model, layout, fullest) + states_bytes(model, device, layout, fullest)) / GIB
    usable = device.torch_memory_gib * layout.gpu_memory_utilization
    missing = (block_bytes(model, layout, fullest) - free_bytes(model, device, layout, fullest)) / GIB
    share = f"{layout.gpu_memory_utilization:g} of {device.torch_memory_gib:g}"
    return (
        f"model: {model.name} needs {weights:.1f} GiB of weights and {reserve:.1f} GiB to work in per GPU, "
        f"{device.name} offers {usable:.1f} GiB ({share}): {max(missing, 0.1):.1f} GiB are missing"
    )


def _plan_vidur(model: Model, device: Device, layout: Layout) -> MemoryPlan:
    """Plan as Vidur does: a pool of ``(max_model_len // block_size) * max_batch * stages`` blocks."""
    batch = vidur_max_batch_size(model, device, layout)
    weights = BYTES * vidur_params_per_device(model, layout) / GIB
    usable = device.memory_gib * layout.gpu_memory_utilization
    if batch <= 0:
        sequence = _vidur_sequence_bytes(model, layout) / GIB
        raise DoesNotFitError(
            f"model: {model.name} needs per GPU {weights:.1f} GiB of weights and {sequence:.1f} GiB for one "
            f"sequence of max_model_len {layout.max_model_len}, {device.name} offers {usable:.1f} GiB: "
            f"{max(weights + sequence - usable, 0.1):.1f} GiB are missing"
        )
    fitting = blocks_that_fit(model, device, layout)
    num_blocks = fitting if layout.num_blocks is None else layout.num_blocks
    size = block_bytes(model, layout)
    return MemoryPlan(
        num_blocks=num_blocks,
        max_batch_size=batch,
        blocks_per_sequence=_vidur_blocks_per_sequence(layout),
        watermark_blocks=int(layout.watermark * num_blocks),
        weights_gib=weights,
        kv_gib=num_blocks * size / GIB,
        reserve_gib=device.memory_gib - usable,
        block_bytes=size,
        kv_tokens=num_blocks * layout.block_size,
    )

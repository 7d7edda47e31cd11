"""How many KV blocks fit beside the weights, by fastsim's planner or by Vidur's."""

from collections.abc import Sequence
from dataclasses import dataclass
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
    return min(room.blocks for room in _rooms(model, device, layout))


@dataclass(frozen=True, slots=True)
class Room:
    """How the memory of a GPU of one stage is used, bytes."""

    weights: int
    reserve: int
    pool: int  # of the KV cache and the states of linear mixers; negative where not even the weights fit
    state: int  # of the linear mixers, of one sequence
    states: int  # of as many sequences as get one
    block: int  # of one KV block

    @property
    def free(self) -> int:
        """Bytes for the KV cache; negative where not even the weights fit."""
        return self.pool - self.states

    @property
    def blocks(self) -> int:
        """KV blocks that fit; a stage without attention has room for one in each free byte."""
        return self.free // max(1, self.block)


def _room(model: Model, device: Device, layout: Layout, stage: int) -> Room:
    weights, reserved = weight_bytes(model, layout, stage), reserve_bytes(model, layout, stage)
    pool = int(device.torch_memory_gib * GIB * layout.gpu_memory_utilization) - weights - reserved
    state = stage_operators(model, layout, stage).state_bytes_per_sequence()
    # States share a pool with the KV cache, of which they get no more than SGLang gives them (mamba_full_memory_ratio).
    most = int(pool * STATES_TO_KV / (1 + STATES_TO_KV))
    states = min(layout.max_num_seqs * state, max(most, state))
    return Room(weights, reserved, pool, state, states, block_bytes(model, layout, stage))


def _rooms(model: Model, device: Device, layout: Layout) -> list[Room]:
    """That of each stage."""
    return [_room(model, device, layout, stage) for stage in range(layout.pipeline_parallel_size)]


def free_bytes(model: Model, device: Device, layout: Layout, stage: int) -> int:
    """Bytes for the KV cache on a GPU of a stage; negative where not even the weights fit."""
    return _room(model, device, layout, stage).free


def states_bytes(model: Model, device: Device, layout: Layout, stage: int) -> int:
    """Bytes that the states of linear mixers take on a GPU of a stage: for max_num_seqs sequences, if there is room."""
    return _room(model, device, layout, stage).states


def _plan(model: Model, device: Device, layout: Layout) -> MemoryPlan:
    rooms = _rooms(model, device, layout)
    fullest = min(rooms, key=lambda room: room.blocks)
    if fullest.blocks <= 0:
        raise DoesNotFitError(_why_not(model, device, layout, fullest))
    per_sequence = ceil(layout.max_model_len / layout.block_size)
    num_blocks, tokens = layout.num_blocks, 0
    if num_blocks is None:
        longest = _longest(model, layout)
        _check_longest(model, device, layout, rooms, longest)
        tokens = min(_tokens(layout, room, whole) for room, whole in zip(rooms, longest, strict=True))
        # Every layer is taken to keep all tokens, but a request of max_model_len fits where the engine starts.
        num_blocks = max(fullest.blocks - layout.null_blocks, min(per_sequence, tokens // layout.block_size))
    kept = min(num_blocks, fullest.blocks) if layout.num_blocks is None else num_blocks
    return MemoryPlan(
        num_blocks=num_blocks,
        max_batch_size=max(1, num_blocks // (per_sequence * layout.pipeline_parallel_size)),
        blocks_per_sequence=per_sequence,
        watermark_blocks=int(layout.watermark * num_blocks),
        weights_gib=fullest.weights / GIB,
        kv_gib=kept * fullest.block / GIB,
        reserve_gib=(fullest.reserve + fullest.states) / GIB,
        block_bytes=fullest.block,
        kv_tokens=tokens or (num_blocks + layout.null_blocks) * layout.block_size,
    )


def _longest(model: Model, layout: Layout) -> list[int]:
    """Bytes of the KV cache of a request of max_model_len on a GPU of each stage."""
    return [bytes_of(model, layout, stage, layout.max_model_len) for stage in range(layout.pipeline_parallel_size)]


def _tokens(layout: Layout, room: Room, whole: int) -> int:
    """Tokens of requests of max_model_len, of ``whole`` bytes each, whose KV cache fits on a GPU of a stage."""
    if whole == room.block * ceil(layout.max_model_len / layout.block_size):
        return room.blocks * layout.block_size  # all layers keep all tokens
    return int(room.free / whole * layout.max_model_len)


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
    _check_longest(model, device, layout, _rooms(model, device, layout), _longest(model, layout))


def _check_longest(model: Model, device: Device, layout: Layout, rooms: Sequence[Room], longest: Sequence[int]) -> None:
    for stage, (room, needed) in enumerate(zip(rooms, longest, strict=True)):
        free = room.pool - room.state  # of one request
        if needed <= max(free * (1 + MARGIN), free + MARGIN_GIB * GIB):
            continue
        fits = longest_request(model, layout, stage, free)
        most = f"; the longest that fits is {fits:,} tokens" if fits else ""
        raise DoesNotFitError(
            f"max_model_len: a request of {layout.max_model_len:,} tokens needs {needed / GIB:.2f} GiB of KV cache per "
            f"GPU, and {model.name} on {device.name} has room for {max(free, 0) / GIB:.2f} GiB{most}"
        )


def _why_not(model: Model, device: Device, layout: Layout, fullest: Room) -> str:
    weights, taken = fullest.weights / GIB, (fullest.reserve + fullest.states) / GIB
    usable = device.torch_memory_gib * layout.gpu_memory_utilization
    missing = (fullest.block - fullest.free) / GIB
    share = f"{layout.gpu_memory_utilization:g} of {device.torch_memory_gib:g}"
    return (
        f"model: {model.name} needs {weights:.1f} GiB of weights and {taken:.1f} GiB to work in per GPU, "
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

"""The work of the host in an iteration: scheduling, preparing inputs, launching kernels, reading tokens back."""

from collections import deque
from typing import Any

import numpy as np

from .buffers import Tensor
from .timing import Work

BLOCK = 16


class Sequence:
    """A running request, as a scheduler in Python holds it."""

    __slots__ = ("blocks", "computed", "tokens")

    def __init__(self, context: int, blocks: list[int]) -> None:
        self.tokens = [1] * context
        self.computed = context - 1
        self.blocks = blocks


def host_step(shape: tuple[int, ...], device: str) -> Work:
    """Prepare one decode step without a model: schedule, fill the inputs, copy them, pick tokens, append them.

    The device only picks the larger of two logits, so that the host takes nearly all of the time. A sequence that has
    grown to twice ``context`` tokens is cut back to ``context``.
    """
    import torch

    number, context = shape
    most = -(-2 * context // BLOCK) + 1
    free = deque(range(number * most))
    running = [Sequence(context, [free.popleft() for _ in range(-(-context // BLOCK))]) for _ in range(number)]
    pinned = device.startswith("cuda")
    ids, positions, slots = (torch.zeros(number, dtype=torch.int64, pin_memory=pinned) for _ in range(3))
    lengths = torch.zeros(number, dtype=torch.int32, pin_memory=pinned)
    tables = torch.zeros(number, most, dtype=torch.int32, pin_memory=pinned)
    logits = torch.zeros(number, 2, device=device)
    views = [tensor.numpy() for tensor in (ids, positions, slots, lengths, tables)]

    def step(_: int) -> Any:
        scheduled = []
        for sequence in running:
            if len(sequence.tokens) >= 2 * context:
                kept = -(-context // BLOCK)
                free.extend(sequence.blocks[kept:])
                del sequence.blocks[kept:], sequence.tokens[context:]
                sequence.computed = context - 1
            while len(sequence.blocks) * BLOCK < len(sequence.tokens):
                sequence.blocks.append(free.popleft())
            scheduled.append((sequence, len(sequence.tokens) - sequence.computed))
        for row, (sequence, _new) in enumerate(scheduled):
            at = sequence.computed
            views[0][row], views[1][row] = sequence.tokens[at], at
            views[2][row] = sequence.blocks[at // BLOCK] * BLOCK + at % BLOCK
            views[3][row] = len(sequence.tokens)
            views[4][row, : len(sequence.blocks)] = np.asarray(sequence.blocks, np.int32)
        sent = [tensor.to(device, non_blocking=True) for tensor in (ids, positions, slots, lengths, tables)]
        chosen = logits.argmax(-1).tolist()
        for (sequence, new), token in zip(scheduled, chosen, strict=True):
            sequence.computed += new
            sequence.tokens.append(token)
        return sent

    return Work(step, 1, graph=False)


def host_launch(shape: tuple[int, ...], device: str) -> Work:
    """Prepare ``kernels`` launches of an addition to one element; each waits for the launch before it."""
    import torch

    value = torch.zeros(1, device=device)

    def call(_: int) -> Tensor:
        for _kernel in range(shape[0]):
            value.add_(1)
        return value

    return Work(call)

"""A rehearsal: a user's function runs interpreted on a tiny example, where each mistake can be reported clearly."""

import traceback
from typing import Any, NamedTuple

import numpy as np

from fastsim.errors import PolicyError
from fastsim.kernels.custom.router import Arrival, ClusterView
from fastsim.kernels.custom.view import NOTES, ReplicaView
from fastsim.simulation.custom.policy import PARAMETERS, UserPolicy

# The example: arrival times in s, prompt and output tokens of each request, and the limits of a replica.
ARRIVED_AT = (0.0, 0.0, 0.5, 3.0, 3.0)
NUM_PROMPT_TOKENS, NUM_OUTPUT_TOKENS = (5, 3, 8, 4, 21), (3, 1, 2, 4, 3)
MAX_BATCH, MAX_TOKENS, NUM_BLOCKS, BLOCK_SIZE, NUM_REPLICAS = 4, 24, 32, 4, 3
MAX_CALLS = 60


class Choice(NamedTuple):
    """A request that the function chose, and the tokens that it gave it."""

    request: int
    tokens: int
    left: int  # tokens left to process: of the prompt, or 1 for a decode
    waits: bool  # whether the request waits for admission


def mistake(name: str, choice: Choice) -> str | None:
    """Return a sentence about what is wrong with the tokens of a choice of the function ``name``, or None."""
    low = 1 if choice.waits else 0
    if low <= choice.tokens <= choice.left:
        return None
    return (
        f"{name}: it gives {choice.tokens} tokens to request {choice.request}, which has {choice.left} left to process "
        f"(valid: {low} to {choice.left})"
    )


def rehearse(policy: UserPolicy) -> None:
    """Raise PolicyError if the function fails on the example, or returns something that it may not return."""
    if policy.kind == "scheduler":
        _rehearse_scheduler(policy)
    else:
        _rehearse_router(policy)


def _rehearse_scheduler(policy: UserPolicy) -> None:
    """Schedule the example on one replica until all requests are served or the function was called MAX_CALLS times.

    Each call forms one iteration, which takes 1 s.
    """
    number = len(NUM_PROMPT_TOKENS)
    prefill, processed, blocks = _ints(NUM_PROMPT_TOKENS), np.zeros(number, np.int32), np.zeros(number, np.int32)
    arrived_at, num_output_tokens = np.array(ARRIVED_AT), _ints(NUM_OUTPUT_TOKENS)
    memo, notes = np.zeros(number), np.zeros(NOTES)
    waiting: list[int] = []
    running: list[int] = []
    coming, now, num_seen = list(range(number)), 0.0, 0
    for _ in range(MAX_CALLS):
        while coming and arrived_at[coming[0]] <= now:
            waiting.append(coming.pop(0))
        queue = _ints(waiting)
        view = ReplicaView(
            now=now,
            waiting=queue,
            running=_frozen(_ints(running)),
            num_joined=len(waiting) - num_seen,
            arrived_at=_frozen(arrived_at),
            num_prompt_tokens=_frozen(_ints(NUM_PROMPT_TOKENS)),
            num_output_tokens=_frozen(num_output_tokens),
            prefill=_frozen(prefill),
            processed=_frozen(processed),
            blocks=_frozen(blocks),
            free_blocks=NUM_BLOCKS - int(blocks.sum()),
            num_blocks=NUM_BLOCKS,
            block_size=BLOCK_SIZE,
            watermark_blocks=1,
            num_allocated=len(running),
            max_num_seqs=MAX_BATCH,
            max_batch=MAX_BATCH,
            max_num_batched_tokens=MAX_TOKENS,
            chunk_size=MAX_TOKENS // 2,
            memo=memo,
            notes=notes,
        )
        batch = _batch(policy, view)
        if sorted(queue) != sorted(waiting):
            raise PolicyError(f"{policy.name}: it overwrites replica.waiting (use fastsim.sort_by to reorder it)")
        waiting = [request for request in queue.tolist() if request not in batch]
        num_seen = len(waiting)
        running = sorted({*running, *batch})
        for request, tokens in batch.items():
            processed[request] += tokens
            processed[request] += processed[request] == prefill[request]
            if tokens == 0:
                processed[request] = 0
                waiting.insert(0, request)
            elif processed[request] == prefill[request] + num_output_tokens[request]:
                processed[request] = 0
            blocks[request] = -(-int(processed[request]) // BLOCK_SIZE)
        running = [request for request in running if processed[request] > 0]
        if not batch and not coming:
            return
        now = now + 1.0 if batch else max(now, float(arrived_at[coming[0]]))


def _batch(policy: UserPolicy, view: ReplicaView) -> dict[int, int]:
    """Call the function, and return the tokens of each request that it chose and that fits the batch, by request."""
    name = policy.name
    chosen, tokens = np.full(2 * MAX_BATCH, -1), np.full(2 * MAX_BATCH, -1)
    number = _integer(policy, _call(policy, view, chosen, tokens), "a number of requests", 2)
    if not 0 <= number <= chosen.size:
        raise PolicyError(f"{name}: it returns {number} requests, but chosen has room for {chosen.size} (e.g. 2)")
    batch: dict[int, int] = {}
    free = view.free_blocks
    seen = set()
    for request, count in zip(chosen[:number].tolist(), tokens[:number].tolist(), strict=True):
        waits = request in view.waiting
        if request not in view.running and not waits:
            raise PolicyError(
                f"{name}: it chooses request {request}, which neither waits nor runs on this replica "
                "(valid: the requests in replica.waiting and replica.running)"
            )
        if request in seen:
            raise PolicyError(f"{name}: it chooses request {request} twice (choose each once)")
        seen.add(request)
        left = max(1, int(view.prefill[request] - view.processed[request]))
        if sentence := mistake(name, Choice(request, count, left, waits)):
            raise PolicyError(sentence)
        need = -(-int(view.prefill[request]) // BLOCK_SIZE) if waits else 0
        if (
            free - need >= view.watermark_blocks
            and len(batch) < MAX_BATCH
            and sum(batch.values()) + count <= MAX_TOKENS
        ):
            batch[request] = count
            free -= need
    return batch


def _rehearse_router(policy: UserPolicy) -> None:
    """Route the requests of the example, every second of which stays in the queue of its replica."""
    notes, memo = np.zeros((NUM_REPLICAS, NOTES)), np.zeros(len(NUM_PROMPT_TOKENS))
    waiting, outstanding = np.zeros(NUM_REPLICAS, np.int64), np.zeros(NUM_REPLICAS, np.int64)
    free, cached = np.full(NUM_REPLICAS, NUM_BLOCKS), np.zeros(NUM_REPLICAS, np.int64)
    for request, (time, prompt, output) in enumerate(
        zip(ARRIVED_AT, NUM_PROMPT_TOKENS, NUM_OUTPUT_TOKENS, strict=True)
    ):
        view = ClusterView(time, NUM_REPLICAS, waiting, outstanding, free, cached, NUM_BLOCKS, BLOCK_SIZE, memo, notes)
        answer = _call(policy, view, Arrival(request, prompt, output))
        replica = _integer(policy, answer, "a replica", NUM_REPLICAS - 1)
        if not 0 <= replica < NUM_REPLICAS:
            raise PolicyError(
                f"{policy.name}: it returns replica {replica} of {NUM_REPLICAS} (valid: 0 to {NUM_REPLICAS - 1})"
            )
        outstanding[replica] += 1
        waiting[replica] += request % 2
        free[replica] -= -(-prompt // BLOCK_SIZE)


def _call(policy: UserPolicy, *arguments: Any) -> Any:
    """Call the function; an exception becomes a PolicyError that names the line of the user's file."""
    try:
        return policy.function(*arguments)
    except Exception as error:
        file = policy.function.__code__.co_filename
        own = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
        what = f"{type(error).__name__}: {error}"
        if isinstance(error, ValueError) and "read-only" in str(error):
            what = f"only chosen, tokens, memo and notes may be written to ({error})"
        raise PolicyError(f"{policy.name}: line {own[-1] if own else 0}: {what}") from error


def _integer(policy: UserPolicy, value: Any, meaning: str, example: int) -> int:
    """Return what the function returned if it is an integer, else raise PolicyError with its ``meaning``."""
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        return int(value)
    raise PolicyError(
        f"{policy.name}: it returns {value!r}, which is not {meaning} (e.g. {example}); "
        f"its parameters are {PARAMETERS[policy.kind]}"
    )


def _ints(values: Any) -> Any:
    """Return int32[n]."""
    return np.array(values, np.int32)


def _frozen(array: Any) -> Any:
    """Return a read-only view of an array."""
    view = array.view()
    view.flags.writeable = False
    return view

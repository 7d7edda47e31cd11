"""Policies and routers of a user's, and the twins of the policies in plain Python."""

from typing import Any

from reference.policies import Members
from reference.state import Replica, Request

import fastsim

CHUNK = 24  # a constant of this module, which a policy may refer to


@fastsim.policy
def shortest_prompt_first(replica: Any, chosen: Any, tokens: Any) -> int:
    """One token for whoever runs, then whole prompts, the shortest first."""
    size, budget = 0, replica.max_num_batched_tokens
    for request in replica.running:
        chosen[size], tokens[size] = request, 1
        size += 1
        budget -= 1
    if replica.num_joined > 0:
        fastsim.sort_by(replica.waiting, replica.num_prompt_tokens)
    for request in replica.waiting:
        prompt = replica.prefill[request]
        if size == replica.max_batch or prompt > budget:
            break
        chosen[size], tokens[size] = request, prompt
        size += 1
        budget -= prompt
    return size


def part_left(replica: Any, request: int) -> int:
    return max(1, min(CHUNK, int(replica.prefill[request] - replica.processed[request])))


@fastsim.policy
def newest_first(replica: Any, chosen: Any, tokens: Any) -> int:
    """Chunks of prompts, the newest first; then decodes, the newest first, two of which restart now and then."""
    size = 0
    for i in range(len(replica.waiting) - 1, -1, -1):
        if size < 1:
            chosen[size], tokens[size] = replica.waiting[i], part_left(replica, replica.waiting[i])
            size += 1
    replica.notes[0] += len(replica.running) > 0
    for i in range(len(replica.running) - 1, -1, -1):
        request = replica.running[i]
        chosen[size], tokens[size] = request, part_left(replica, request)
        if replica.notes[0] % 7 == 0 and replica.memo[request] == 0:
            replica.memo[request] = 1
            tokens[size] = 0
        size += 1
    return size


@fastsim.policy
def prompts_first(replica: Any, chosen: Any, tokens: Any) -> int:
    """Whole prompts alone, as long as the free blocks hold them; else a token for each running request."""
    size, free, budget = 0, replica.free_blocks, replica.max_num_batched_tokens
    for request in replica.waiting:
        need = (replica.prefill[request] + replica.block_size - 1) // replica.block_size
        full = size == replica.max_batch or replica.num_allocated + size == replica.max_num_seqs
        if full or free - need < replica.watermark_blocks or replica.prefill[request] > budget:
            break
        chosen[size], tokens[size] = request, replica.prefill[request]
        size, free, budget = size + 1, free - need, budget - replica.prefill[request]
    if size == 0:
        for request in replica.running:
            size = add(chosen, tokens, size, request)
    return size


def add(chosen: Any, tokens: Any, size: int, request: int) -> int:
    chosen[size], tokens[size] = request, 1
    return size + 1


@fastsim.policy
def sorts_crowds(replica: Any, chosen: Any, tokens: Any) -> int:
    """A token for each running request, then whole prompts, sorted by output if several joined at a time."""
    size = 0
    for request in replica.running:
        size = add(chosen, tokens, size, request)
    if replica.num_joined > 1:
        fastsim.sort_by(replica.waiting, replica.num_output_tokens)
    for i in range(min(4, len(replica.waiting))):
        if size < replica.max_batch:
            chosen[size], tokens[size] = replica.waiting[i], replica.prefill[replica.waiting[i]]
            size += 1
    return size


@fastsim.policy
def most_memory(replicas: Any, request: Any) -> int:
    """The replica with the most free blocks, the one with the fewest requests among equals."""
    best = 0
    for r in range(replicas.num_replicas):
        ahead = replicas.free_blocks[r] - replicas.free_blocks[best]
        if ahead > 0 or (ahead == 0 and replicas.num_outstanding[r] < replicas.num_outstanding[best]):
            best = r
    return best


@fastsim.policy
def longest_prefix(replicas: Any, request: Any) -> int:
    """The replica that has cached most of the request's prompt, the one with the fewest requests among equals."""
    best = 0
    for r in range(replicas.num_replicas):
        ahead = replicas.cached_tokens[r] - replicas.cached_tokens[best]
        if ahead > 0 or (ahead == 0 and replicas.num_outstanding[r] < replicas.num_outstanding[best]):
            best = r
    return best


def placed(replica: Replica, choices: Members, time: float) -> Members:
    """The twin of what becomes of a policy's choices."""
    s, batch, restarted = replica.settings, Members(), []

    def restart(request: Request) -> None:
        prompt = max(request.prefill, request.processed)
        total = request.prefill + request.decode
        replica.running.remove(request)
        restarted.append(request)
        replica.restart(request, time)
        request.prefill, request.decode = prompt, total - prompt

    for request, tokens in choices:
        if any(request is other for other in restarted):
            continue
        if tokens == 0:
            restart(request)
            continue
        num_tokens = sum(number for _, number in batch)
        if len(batch) == s.micro_batch_size or num_tokens + tokens > s.max_num_batched_tokens:
            continue
        if any(request is other for other in replica.waiting):
            if not replica.can_admit(request) or len(replica.blocks) == s.max_num_seqs:
                continue
            replica.waiting.remove(request)
            replica.allocate(request, replica.prompt_blocks(request))
        else:
            needs = request.is_prefill_complete and request.processed > replica.blocks[request.id] * s.block_size
            while needs and replica.num_free < 1 and not any(request is other for other in restarted):
                restart(replica.running[-1])
            if any(request is other for other in restarted):
                continue
            replica.running.remove(request)
            if needs:
                replica.allocate(request, 1)
        batch.append((request, tokens))
    return batch


def form_shortest(replica: Replica, time: float) -> Members:
    replica.running.sort(key=lambda request: request.arrived_at)
    choices = [(request, 1) for request in replica.running]
    budget = replica.settings.max_num_batched_tokens - len(choices)
    replica.waiting.sort(key=lambda request: (request.num_prompt_tokens, request.id))
    for request in replica.waiting:
        if len(choices) == replica.settings.micro_batch_size or request.prefill > budget:
            break
        choices.append((request, request.prefill))
        budget -= request.prefill
    return placed(replica, choices, time)


def form_newest(replica: Replica, time: float) -> Members:
    replica.running.sort(key=lambda request: request.arrived_at)
    memory = vars(replica).setdefault("remembered", {"calls": 0})
    memory["calls"] += len(replica.running) > 0
    choices = Members()
    for request in [*replica.waiting[-1:], *replica.running[::-1]]:
        part = max(1, min(CHUNK, request.prefill - request.processed))
        if len(choices) >= min(1, len(replica.waiting)) and memory["calls"] % 7 == 0 and request.id not in memory:
            memory[request.id] = True
            part = 0
        choices.append((request, part))
    return placed(replica, choices, time)


def form_prompts_first(replica: Replica, time: float) -> Members:
    replica.running.sort(key=lambda request: request.arrived_at)
    choices, s = Members(), replica.settings
    free, budget = replica.num_free, s.max_num_batched_tokens
    for request in replica.waiting:
        need = replica.prompt_blocks(request)
        full = len(choices) == s.micro_batch_size or len(replica.blocks) + len(choices) == s.max_num_seqs
        if full or free - need < s.watermark_blocks or request.prefill > budget:
            break
        choices.append((request, request.prefill))
        free, budget = free - need, budget - request.prefill
    return placed(replica, choices or [(request, 1) for request in replica.running], time)


def form_sorts_crowds(replica: Replica, time: float) -> Members:
    replica.running.sort(key=lambda request: request.arrived_at)
    memory = vars(replica).setdefault("remembered", {"left": 0})
    if len(replica.waiting) - memory["left"] > 1:
        replica.waiting.sort(key=lambda request: (request.num_output_tokens, request.id))
    choices = [(request, 1) for request in replica.running]
    room = max(0, replica.settings.micro_batch_size - len(choices))
    choices += [(request, request.prefill) for request in replica.waiting[: min(4, room)]]
    before = len(replica.restarts)
    batch = placed(replica, choices, time)
    memory["left"] = len(replica.waiting) - (len(replica.restarts) - before)
    return batch


TWINS = {
    shortest_prompt_first: form_shortest,
    newest_first: form_newest,
    prompts_first: form_prompts_first,
    sorts_crowds: form_sorts_crowds,
}
# Whose cases have tables that hold its batches: of whole prompts, or of chunks of any length.
LIKE = {shortest_prompt_first: "vllm", newest_first: "sarathi", prompts_first: "vllm", sorts_crowds: "vllm"}

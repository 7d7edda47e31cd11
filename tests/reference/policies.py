"""How each policy of the twin forms the next batch: which requests, and how many tokens of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from reference.state import Replica, Request

Members = list[tuple[Request, int]]  # requests and their tokens in the batch


def whole_prompt_or_one(request: Request) -> int:
    return 1 if request.is_prefill_complete else request.prefill


def by_arrival(request: Request) -> float:
    return request.arrived_at


def form_vllm(replica: Replica, time: float) -> Members:
    """vLLM v0: a batch of prompts if any fits, else one of decodes."""
    s, batch, longest = replica.settings, Members(), 0
    while replica.waiting:
        head = replica.waiting[0]
        longest = max(longest, head.prefill)
        if (
            not replica.can_admit(head)
            or (len(batch) + 1) * longest > s.max_num_batched_tokens  # padded to the longest prompt
            or len(replica.blocks) == s.max_num_seqs
            or len(batch) == s.micro_batch_size
        ):
            break
        replica.allocate(head, replica.prompt_blocks(head))
        batch.append((replica.waiting.pop(0), head.prefill))
    if batch:
        return batch
    replica.running.sort(key=by_arrival)
    while replica.running and len(batch) < s.micro_batch_size:
        request = replica.running.pop(0)
        if replica.make_room(request, time):
            batch.append((request, 1))
    return batch


def form_sarathi(replica: Replica, time: float) -> Members:
    """Sarathi-Serve: decodes first, then prompts in chunks, within a budget of tokens."""
    s, batch, budget = replica.settings, Members(), replica.settings.chunk_size
    prefills: list[Request] = []
    skipped: list[Request] = []
    while replica.running and len(batch) < s.micro_batch_size:
        request = replica.running.pop(0)
        if not request.is_prefill_complete:
            prefills.append(request)
        elif replica.make_room(request, time):
            batch.append((request, 1))
            budget -= 1
    for request in prefills:  # whatever the micro-batch size
        tokens = max(0, min(request.prefill - request.processed, budget))
        if tokens == 0:
            skipped.append(request)
        else:
            batch.append((request, tokens))
            budget -= tokens
    replica.running = sorted(skipped + replica.running, key=by_arrival)
    while replica.waiting:
        head = replica.waiting[0]
        tokens = max(0, min(head.prefill, budget))
        # A batch that step 2 took beyond the micro-batch size is not equal to it, and goes on admitting.
        if (
            len(replica.blocks) == s.max_num_seqs
            or len(batch) == s.micro_batch_size
            or not replica.can_admit(head)
            or tokens == 0
        ):
            break
        replica.allocate(head, replica.prompt_blocks(head))
        batch.append((replica.waiting.pop(0), tokens))
        budget -= tokens
    return batch


def admit_whole_sequences(replica: Replica, batch: Members) -> None:
    s = replica.settings
    while replica.waiting and len(batch) < s.max_batch_size and replica.num_free >= s.blocks_per_sequence:
        request = replica.waiting.pop(0)
        replica.allocate(request, s.blocks_per_sequence)
        batch.append((request, request.prefill))


def form_orca(replica: Replica, time: float) -> Members:
    """Orca: whatever runs, then whole prompts; memory for the longest sequence is reserved at once."""
    batch = Members()
    while replica.running and len(batch) < replica.settings.max_batch_size:
        request = replica.running.pop(0)
        batch.append((request, whole_prompt_or_one(request)))
    admit_whole_sequences(replica, batch)
    return batch


def form_faster_transformer(replica: Replica, time: float) -> Members:
    """FasterTransformer: a batch runs until all its requests are finished."""
    if replica.static_batches:
        members = replica.static_batches.pop(0)
        return [(request, whole_prompt_or_one(request)) for request in members if not request.is_finished]
    batch = Members()
    admit_whole_sequences(replica, batch)
    members = [request for request, _ in batch]
    for request in members:
        replica.static_batch_of[request.id] = members
    return batch


def form_lightllm(replica: Replica, time: float) -> Members:
    """LightLLM: decodes, every so often interrupted by prompts whose future memory fits."""
    if not replica.running:
        batch = lightllm_prefills(replica)
        if batch:
            replica.num_waited = 0
        return batch
    if replica.num_waited >= replica.settings.max_waiting_iters:
        replica.num_waited = 0
        batch = lightllm_prefills(replica)
        if batch:
            return batch
    if replica.num_free < len(replica.running):
        replica.outcome = "out_of_memory"
        return []
    replica.num_waited += 1
    batch = [(request, 1) for request in replica.running]
    replica.running = []
    for request, _ in batch:
        replica.allocate(request, 1)
    return batch


def lightllm_prefills(replica: Replica) -> Members:
    s, batch, tokens = replica.settings, Members(), 0
    ahead = [(r.processed, max(0, r.decode - (r.processed - r.prefill) - 1)) for r in replica.running]
    while replica.waiting:
        head = replica.waiting[0]
        ahead.append((head.prefill + 1, max(0, head.decode - 2)))
        if (
            lightllm_peak(ahead) >= s.num_blocks
            or tokens + head.prefill > s.max_num_batched_tokens
            or len(replica.blocks) >= s.max_num_seqs
            or len(batch) >= s.micro_batch_size
        ):
            break
        replica.allocate(head, head.prefill)
        batch.append((replica.waiting.pop(0), head.prefill))
        tokens += head.prefill
    return batch


def lightllm_peak(ahead: Sequence[tuple[int, int]]) -> int:
    """Most tokens ever held by requests of (tokens held now, tokens to come) that end in turn."""
    held, peak = 0, 0
    for i, (processed, remaining) in enumerate(sorted(ahead, key=lambda entry: -entry[1])):
        held += processed
        peak = max(peak, remaining * (i + 1) + held)
    return peak


FORM: dict[str, Callable[[Replica, float], Members]] = {
    "vllm": form_vllm,
    "sarathi": form_sarathi,
    "orca": form_orca,
    "lightllm": form_lightllm,
    "faster_transformer": form_faster_transformer,
}


def end_batch(replica: Replica, requests: Sequence[Request]) -> None:
    """Free the memory of the finished requests; the others wait for their next iteration."""
    if replica.settings.policy == "faster_transformer":
        members = replica.static_batch_of[requests[0].id]
        if all(request.is_finished for request in members):
            for request in members:
                replica.free(request)
        else:
            replica.static_batches.append(members)
        return
    for request in requests:
        if request.is_finished:
            replica.free(request)
        else:
            replica.running.append(request)

"""What the recorded runs do not pin: one batch formed from a state made by hand, per policy."""

from __future__ import annotations

from typing import Any

import pytest
from reference.core import simulate
from reference.policies import FORM, end_batch, lightllm_peak
from reference.state import Replica, Request, Settings


def prompt(arrived_at: float, prefill: int, decode: int = 9, processed: int = 0) -> Request:
    return Request(arrived_at, prefill, decode, prefill=prefill, decode=decode, processed=processed)


def decode(arrived_at: float, prefill: int = 4, decode: int = 9, done: int = 1) -> Request:
    """A request with ``done`` output tokens."""
    return prompt(arrived_at, prefill, decode, prefill + done)


def replica(running: list[Request], waiting: list[Request], held: int = 4, **settings: Any) -> Replica:
    """A replica whose running requests hold so many blocks each."""
    result = Replica(0, Settings(**settings), [], running=running, waiting=waiting)
    for i, request in enumerate(running + waiting):
        request.id = i
    for request in running:
        result.allocate(request, held)
    return result


def form(state: Replica) -> list[tuple[Request, int]]:
    return FORM[state.settings.policy](state, 0.0)


def test_vllm_pads_a_batch_of_prompts_to_the_longest() -> None:
    a, b, c = prompt(0, 10), prompt(1, 30), prompt(2, 1)
    state = replica([], [a, b, c], policy="vllm", max_num_batched_tokens=60)
    assert form(state) == [(a, 10), (b, 30)]  # 3 * 30 would be too many
    assert state.waiting == [c]


def test_vllm_takes_prompts_or_else_decodes_by_arrival() -> None:
    late, early, new = decode(2), decode(1), prompt(3, 5)
    state = replica([late, early], [new], policy="vllm")
    assert form(state) == [(new, 5)]
    assert form(state) == [(early, 1), (late, 1)]


def test_vllm_keeps_the_watermark_free_for_prompts_only() -> None:
    running, new = decode(0, prefill=4), prompt(1, 16)
    state = replica([running], [new], policy="vllm", held=1, num_blocks=3, watermark_blocks=2)
    assert form(state) == [(running, 1)]


@pytest.mark.parametrize("policy", ["vllm", "sarathi"])
def test_a_decode_needs_a_free_block_even_if_its_last_has_room(policy: str) -> None:
    a, b, c = decode(0), decode(1), decode(2)
    state = replica([a, b, c], [], policy=policy, num_blocks=12, chunk_size=3, watermark_blocks=1)
    assert form(state)[:2] == [(a, 1), (b, 1)]
    assert [restart.request_id for restart in state.restarts] == [2]  # the last one is the victim
    assert (c.prefill, c.decode, c.processed, c.num_restarts) == (5, 8, 0, 1)
    assert state.blocks[a.id] == 4  # and then it takes none


@pytest.mark.parametrize("policy", ["vllm", "sarathi"])
def test_victims_go_to_the_front_and_the_last_one_left_is_its_own(policy: str) -> None:
    a, b, new = decode(0, prefill=16), decode(1), prompt(2, 500)
    state = replica([a, b], [new], policy=policy, held=1, num_blocks=1, watermark_blocks=1)
    assert form(state) == []
    assert [restart.request_id for restart in state.restarts] == [1, 0]
    assert state.waiting == [a, b, new]


def test_a_full_last_block_takes_another() -> None:
    a = decode(0, prefill=63, done=1)  # 64 tokens in 4 blocks of 16: room for all
    b = decode(1, prefill=63, done=2)
    state = replica([a, b], [], policy="vllm", num_blocks=10)
    form(state)
    assert state.blocks == {a.id: 4, b.id: 5}


def test_sarathi_gives_decodes_then_running_then_new_prompts_the_budget() -> None:
    part, dec, new, newer = prompt(0, 10, processed=2), decode(1), prompt(2, 7), prompt(3, 3)
    state = replica([part, dec], [new, newer], policy="sarathi", chunk_size=12)
    assert form(state) == [(dec, 1), (part, 8), (new, 3)]
    assert state.waiting == [newer]


def test_sarathi_skips_prompts_without_budget_and_sorts_them_with_what_is_left() -> None:
    part, dec, left = prompt(5, 10, processed=2), decode(2), decode(1)
    state = replica([part, dec, left], [], policy="sarathi", chunk_size=1, micro_batch_size=1)
    assert form(state) == [(dec, 1)]
    assert state.running == [left, part]


def test_sarathi_does_not_sort_before() -> None:
    late, early = decode(2), decode(1)
    assert form(replica([late, early], [], policy="sarathi")) == [(late, 1), (early, 1)]


def test_sarathi_decodes_beyond_the_budget() -> None:
    decodes = [decode(i) for i in range(3)]
    assert form(replica(list(decodes), [], policy="sarathi", chunk_size=2)) == [(d, 1) for d in decodes]


def test_sarathi_adds_running_prompts_beyond_the_micro_batch_size() -> None:
    parts, dec, new = [prompt(i, 10, processed=2) for i in range(2)], decode(2), prompt(3, 5)
    state = replica([*parts, dec], [new], policy="sarathi", micro_batch_size=1)
    # And new ones after them: the batch is not as large as the micro-batch size, it is larger.
    assert form(state) == [(dec, 1), (parts[0], 8), (parts[1], 8), (new, 5)]
    state = replica([parts[0]], [new], policy="sarathi", micro_batch_size=1)
    assert form(state) == [(parts[0], 8)]


def test_sarathi_cannot_take_a_prompt_set_aside_for_a_victim() -> None:
    part, dec = prompt(0, 10, processed=2), decode(1)
    state = replica([part, dec], [], policy="sarathi", num_blocks=8)
    assert form(state) == [(part, 8), (dec, 5)]  # the decode restarts, and is let in again at once
    assert [restart.request_id for restart in state.restarts] == [dec.id]


def test_sarathi_turns_the_rest_of_a_victims_prompt_into_output() -> None:
    dec, part = decode(0), prompt(1, 10, decode=6, processed=3)
    state = replica([dec, part], [], policy="sarathi", num_blocks=8, watermark_blocks=9)
    assert form(state) == [(dec, 1)]
    assert (part.prefill, part.decode, part.processed) == (3, 13, 0)
    assert [tuple(restart) for restart in state.restarts] == [(0.0, part.id, 3, 10, 6)]


def test_sarathi_admits_up_to_the_cap() -> None:
    dec, new, newer = decode(0), prompt(1, 5), prompt(2, 5)
    state = replica([dec], [new, newer], policy="sarathi", max_num_seqs=2)
    assert form(state) == [(dec, 1), (new, 5)]


def test_orca_limits_what_runs_as_well() -> None:
    a, b, c, new = decode(2), decode(1), decode(0), prompt(3, 5)
    state = replica([a, b, c], [new], policy="orca", max_batch_size=2)
    assert form(state) == [(a, 1), (b, 1)]  # first in, first out
    assert state.running == [c]
    assert form(state) == [(c, 1), (new, 5)]


def test_orca_reserves_whole_sequences_without_a_watermark() -> None:
    new, newer = prompt(0, 5), prompt(1, 5)
    state = replica([], [new, newer], policy="orca", num_blocks=7, blocks_per_sequence=4, watermark_blocks=4)
    assert form(state) == [(new, 5)]
    assert state.num_free == 3


def test_faster_transformer_holds_the_memory_of_a_batch_until_all_are_finished() -> None:
    settings = Settings(policy="faster_transformer", num_blocks=4, blocks_per_sequence=2)
    stream = [Request(0.0, 5, 1), Request(0.0, 5, 3), Request(0.0, 5, 1)]
    outcome = simulate(stream, settings, lambda stage, batch: 1.0)
    assert [(i.num_seqs, i.num_tokens, i.kv_blocks_used) for i in outcome.iterations] == [
        (2, 10, 4),
        (1, 1, 4),
        (1, 1, 4),
        (1, 5, 2),
    ]
    assert [r.finished_at for r in outcome.requests] == [1.0, 3.0, 4.0]


def test_faster_transformer_takes_unfinished_batches_in_turn_and_a_new_one_when_none_waits() -> None:
    prompts = [prompt(i, 5) for i in range(4)]
    state = replica([], prompts, policy="faster_transformer", max_batch_size=1, blocks_per_sequence=1)
    a, b, c, d = state.waiting
    for request, other in ((a, c), (b, d)):
        assert form(state) == [(request, 5)]
        request.advance(1.0, 5)
        assert other in state.waiting
    end_batch(state, [b])
    end_batch(state, [a])
    assert [form(state) for _ in range(3)] == [[(b, 1)], [(a, 1)], [(c, 5)]]


def test_faster_transformer_fills_a_pipeline_with_static_batches() -> None:
    settings = Settings(
        policy="faster_transformer", num_stages=2, max_batch_size=1, num_blocks=3, blocks_per_sequence=1
    )
    stream = [Request(0.0, n, n) for n in (2, 3, 4)]
    iterations = simulate(stream, settings, lambda stage, batch: 1.0).iterations
    first = [i.num_tokens for i in iterations if i.stage_id == 0]
    # Batches of 2 and 3 tokens take turns; that of 4 tokens starts when the first of them has finished.
    assert first == [2, 3, 1, 1, 4, 1, 1, 1, 1]


def test_lightllm_takes_remaining_as_zero_at_least() -> None:
    for num_blocks, admitted in ((5, []), (6, [4])):
        state = replica([], [prompt(0, 4, decode=1)], policy="lightllm", block_size=1, num_blocks=num_blocks)
        assert [tokens for _, tokens in form(state)] == admitted


def test_lightllm_looks_at_the_peak_of_all_that_runs() -> None:
    assert lightllm_peak([(3, 2), (5, 9), (4, 0)]) == max(9 * 1 + 5, 2 * 2 + 5 + 3, 0 * 3 + 5 + 3 + 4)
    # Running: 5 held, 9 - 1 - 1 = 7 to come; alone that peaks at 12.
    # New: 3 + 1 held, 5 - 2 = 3 to come; both peak at 3 * 2 + 5 + 4 = 15. A shorter one: 1 * 2 + 5 + 3 = 10.
    for new, peak in ((prompt(1, 3, 5), 15), (prompt(1, 2, 3), 12)):
        for num_blocks, is_admitted in ((peak, False), (peak + 1, True)):
            old, limits = decode(0), {"held": 4, "block_size": 1, "num_blocks": num_blocks}
            state = replica([old], [new], policy="lightllm", **limits)
            state.num_waited = 10
            assert form(state) == ([(new, new.prefill)] if is_admitted else [(old, 1)])
            assert state.num_waited == (0 if is_admitted else 1)


def test_lightllm_interrupts_decodes_every_so_often() -> None:
    settings = Settings(policy="lightllm", block_size=1, max_waiting_iters=2)
    stream = [Request(0.0, 3, 9), Request(0.5, 4, 9)]
    iterations = simulate(stream, settings, lambda stage, batch: 1.0).iterations
    assert [i.num_tokens for i in iterations[:5]] == [3, 1, 1, 4, 2]


def test_lightllm_sums_prompts_without_padding() -> None:
    a, b, c = prompt(0, 10), prompt(1, 30), prompt(2, 1)
    state = replica([], [a, b, c], policy="lightllm", block_size=1, max_num_batched_tokens=40)
    assert form(state) == [(a, 10), (b, 30)]


def test_lightllm_runs_out_of_memory_without_a_token_for_each() -> None:
    state = replica([decode(0), decode(1)], [], policy="lightllm", block_size=1, num_blocks=9)
    assert form(state) == []
    assert state.outcome == "out_of_memory"

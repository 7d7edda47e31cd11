"""Vocabulary for hypothesis: requests and settings of vLLM V1 that put its scheduler under pressure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from hypothesis import reject
from hypothesis import strategies as st
from reference.vllm_v1.recordings import Clock
from reference.vllm_v1.releases import RELEASES, V0_11, Release
from reference.vllm_v1.state import Request, Settings


class Case(NamedTuple):
    requests: list[Request]
    settings: Settings
    release: Release
    clock: Clock


@st.composite
def requests(draw: st.DrawFn, block_size: int, most: int, max_model_len: int, follow: bool) -> list[Request]:
    """Requests in order of arrival, some of which follow others; whole microseconds."""
    count = draw(st.integers(1, most))
    lengths = draw(
        st.sampled_from(
            [
                (st.integers(1, 60), st.integers(1, 24)),
                (st.integers(1, 8), st.integers(8, 40)),
                (st.integers(30, 90), st.integers(1, 6)),
                (st.sampled_from([15, 16, 17, 31, 32, 33]), st.sampled_from([1, 2, 3, 16, 17])),
            ]
        )
    )
    longest_gap = draw(st.sampled_from([0, 3000, 20_000, 200_000]))
    made: list[Request] = []
    documents = draw(st.integers(1, 3))
    now, free = 0, list[int]()
    for i in range(count):
        now += draw(st.integers(0, longest_gap))
        prompt, output = draw(lengths[0]), draw(lengths[1])
        request = Request(now, prompt, output, priority=draw(st.integers(0, 2)))
        shared: list[int] = []
        if follow and free and draw(st.booleans()):
            before = free.pop(draw(st.integers(0, len(free) - 1)))
            earlier = made[before]
            said = earlier.num_prompt_tokens + earlier.num_output_tokens
            think = draw(st.sampled_from([0, 0, 1000, 30_000]))
            request = replace(request, arrived_at=0, num_prompt_tokens=said + prompt, follows=before, think_time=think)
            shared = [value for value in earlier.block_hashes if value >= 0][: said // block_size]
        elif draw(st.booleans()):
            document = draw(st.integers(0, documents - 1))
            length = draw(st.integers(0, request.num_prompt_tokens)) // block_size
            shared = [1_000_000 * (document + 1) + place for place in range(length)]
        total = request.num_prompt_tokens + request.num_output_tokens
        if total > max_model_len:
            continue
        own = [10_000 * (i + 1) + place for place in range(len(shared), total // block_size)]
        hashes = shared + (own if draw(st.booleans()) else [])
        limit, stops = request.num_output_tokens, False
        if draw(st.booleans()):
            limit, stops = draw(st.integers(limit, limit + 20)), True
        if not stops and total == max_model_len:
            limit += draw(st.integers(0, 9))
        free.append(len(made))
        made.append(replace(request, block_hashes=hashes, max_tokens=limit, ends_by_stop=stops))
    return made


@st.composite
def cases(draw: st.DrawFn, most: int = 10, follow: bool = False, stages: Sequence[int] = (1, 1, 1, 2, 3, 4)) -> Case:
    """A case of any release. Each request fits by itself, often barely; one case in ten may get stuck."""
    release = draw(st.sampled_from(list(RELEASES.values())))
    block_size = draw(st.sampled_from([1, 2, 4, 16]))
    max_model_len = draw(st.sampled_from([64, 120, 200, 400]))
    stream = draw(requests(block_size, most, max_model_len, follow))
    if not stream:
        stream = [Request(0, 5, 3)]
    longest = max(r.num_prompt_tokens + r.num_output_tokens for r in stream)
    whole = -(-longest // block_size)
    num_blocks = whole + draw(st.sampled_from([0, 1, 3, whole, 4 * whole, 40 * whole]))
    asynchronous = draw(st.booleans())
    num_stages = draw(st.sampled_from(stages))
    # That release has no asynchronous scheduling with a pipeline.
    asynchronous = asynchronous and not (num_stages > 1 and release is V0_11)
    chunked = draw(st.sampled_from([True, True, False]))
    budget = draw(st.integers(1, 40) | st.integers(16, 300)) if chunked else draw(st.integers(longest, 2 * longest))
    settings = Settings(
        num_blocks=num_blocks,
        policy=draw(st.sampled_from(["fcfs", "fcfs", "priority"])),
        max_num_seqs=draw(st.integers(1, 4) | st.integers(2, 12)),
        max_num_batched_tokens=budget,
        max_model_len=max_model_len,
        block_size=block_size,
        enable_prefix_caching=draw(st.booleans()),
        enable_chunked_prefill=chunked,
        long_prefill_token_threshold=draw(st.sampled_from([0, 0, 3, 9])) if chunked else 0,
        async_scheduling=asynchronous,
        num_stages=num_stages,
        scheduler_reserve_full_isl=draw(st.booleans()),
        watermark=draw(st.sampled_from([0.0, 0.0, 0.1])) if release.has_watermark else 0.0,
        empty_step_sleep=draw(st.sampled_from([0, 0, 1000])),
        awaits_tokens=draw(st.booleans()),
    )
    clock = Clock(*draw(st.tuples(st.integers(0, 9000), st.integers(1, 90), st.integers(0, 900), st.integers(0, 30))))
    return Case(stream, settings, release, replace(clock, constant=clock.constant * 1000 + 1000))


@st.composite
def kinds(draw: st.DrawFn, case: Case, number: int) -> list[Case]:
    """The case, and others with more memory, another batch, a faster clock or another release."""
    found = [case]
    for _ in range(number - 1):
        other = draw(cases(most=1, stages=(1,)))
        mine = replace(
            case.settings,
            num_blocks=case.settings.num_blocks + draw(st.sampled_from([0, 5, 60])),
            max_num_seqs=draw(st.integers(1, 6)),
            max_num_batched_tokens=case.settings.max_num_batched_tokens + draw(st.sampled_from([0, 20])),
            enable_prefix_caching=draw(st.booleans()),
            async_scheduling=other.settings.async_scheduling,
            enable_chunked_prefill=True,
        )
        found.append(case._replace(settings=mine, release=other.release, clock=other.clock))
    return found


def limited(case: Case) -> Any:
    """The clock of a case, which gives up on requests that preempt each other again and again."""
    calls = [0]

    def stage_time(stage: int, members: Any) -> int:
        calls[0] += 1
        if calls[0] > 800:
            reject()
        return case.clock(stage, members)

    return stage_time

"""Vocabulary for hypothesis: requests and settings of SGLang that put its scheduler under pressure."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from typing import NamedTuple

from hypothesis import strategies as st
from reference.sglang.clock import Clock
from reference.sglang.releases import RELEASES, Release
from reference.sglang.state import Request, Settings

LENGTHS = (  # of prompts and outputs
    (st.integers(1, 60), st.integers(1, 24)),
    (st.integers(1, 8), st.integers(8, 40)),
    (st.integers(1, 30), st.integers(30, 60)),
    (st.integers(1, 5) | st.integers(60, 120), st.integers(1, 3) | st.integers(30, 60)),
    (st.integers(30, 90), st.integers(1, 6)),
    (st.sampled_from([15, 16, 17, 31, 32, 33, 48]), st.sampled_from([1, 2, 3, 16, 17])),
)


class Case(NamedTuple):
    requests: list[Request]
    settings: Settings
    release: Release
    clock: Clock


@st.composite
def tokens(draw: st.DrawFn, request: Request, earlier: list[Request]) -> Request:
    """Give a request tokens that begin as a document does, or as an earlier request with its outputs."""
    total = request.num_prompt_tokens + request.num_output_tokens
    shared: list[Hashable] = []
    match draw(st.sampled_from(["document", "document", "earlier", "none"])):
        case "document":
            document, length = draw(st.integers(1, 2)), draw(st.integers(0, total))
            shared = [1_000_000 * document + place for place in range(length)]
        case "earlier" if earlier:
            model = draw(st.sampled_from(earlier)).tokens
            shared = list(model[: min(total, draw(st.integers(0, len(model))))])
    own = [10_000 * (len(earlier) + 1) + place for place in range(len(shared), total)]
    return replace(request, tokens=[*shared, *own])


@st.composite
def requests(draw: st.DrawFn, most: int, follow: bool) -> list[Request]:
    """Requests in order of arrival, some of which follow others; whole microseconds."""
    prompts, outputs = draw(st.sampled_from(LENGTHS))
    longest_gap = draw(st.sampled_from([0, 3000, 20_000, 200_000]))
    made: list[Request] = []
    now, free = 0, list[int]()
    for i in range(draw(st.integers(1, most))):
        now += draw(st.integers(0, longest_gap))
        prompt, output = draw(prompts), draw(outputs)
        limit, stops = output, False
        if draw(st.booleans()):
            limit, stops = draw(st.integers(output, output + 20)), True
        request = Request(now, prompt, output, limit, stops)
        if follow and free and draw(st.booleans()):
            before = free.pop(draw(st.integers(0, len(free) - 1)))
            said = made[before].tokens
            think = draw(st.sampled_from([0, 0, 1000, 30_000]))
            own = [10_000 * (i + 1) + place for place in range(prompt + output)]
            request = replace(request, arrived_at=0, num_prompt_tokens=len(said) + prompt, follows=before)
            request = replace(request, think_time=think, tokens=[*said, *own])
        else:
            request = draw(tokens(request, made))
        free.append(len(made))
        made.append(request)
    return made


@st.composite
def cases(draw: st.DrawFn, most: int = 10, follow: bool = False) -> Case:
    """A case of either release. Each request fits by itself, often barely."""
    stream = draw(requests(most, follow))
    page_size = draw(st.sampled_from([1, 1, 2, 4, 16]))
    longest = max(request.num_prompt_tokens + request.limit for request in stream) + 2
    extra = draw(st.sampled_from([0, 1, 3, 20, 20, longest // 2, longest, 2 * longest, 40 * longest]))
    num_running = draw(st.integers(1, 4) | st.integers(4, 12) | st.just(256))
    chunked = draw(st.sampled_from([True, True, False]))
    chunk = draw(st.integers(1, 40) | st.integers(16, 300))
    mixed = draw(st.booleans())
    settings = Settings(
        max_total_num_tokens=-(-(longest + extra) // page_size) * page_size,
        page_size=page_size,
        schedule_policy=draw(st.sampled_from(["fcfs", "lpm"])),
        chunked_prefill_size=max(chunk, page_size, min(num_running, most) if mixed else 0) if chunked else None,
        max_prefill_tokens=draw(st.integers(1, 60) | st.just(16384)),
        max_running_requests=num_running,
        schedule_conservativeness=draw(st.sampled_from([0.0, 0.0, 0.05, 0.3, 1.0, 1.5])),
        enable_mixed_chunk=mixed,
        disable_radix_cache=draw(st.sampled_from([False, False, True])),
        disable_overlap_schedule=draw(st.booleans()),
        ignore_eos=draw(st.sampled_from([False, False, True])),
    )
    if settings.ignore_eos:
        stream = [replace(request, max_tokens=request.num_output_tokens, ends_by_stop=False) for request in stream]
    constant, token, sequence, context = draw(
        st.tuples(st.integers(1, 9000), st.integers(1, 90), st.integers(0, 900), st.integers(0, 30))
    )
    return Case(
        stream,
        settings,
        draw(st.sampled_from(list(RELEASES.values()))),
        Clock(1000 * constant, token, sequence, context),
    )

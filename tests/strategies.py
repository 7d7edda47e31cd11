"""Vocabulary for hypothesis: request streams, settings that put them under pressure, and made-up costs.

Everything drawn is legal. Sizes are small, so that a case takes the twin milliseconds and still meets
preemption, full pipelines, waiting queues and ties.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st
from reference.state import LOOP, Request, Settings

from fastsim.deployment import schedulers
from fastsim.kernels.tables import (
    COMPOSE_AFFINE,
    COMPOSE_FASTSIM,
    COMPOSE_VIDUR,
    Cost,
    FastsimTables,
    Floats,
    VidurTables,
)

POLICIES = tuple(policy for policy in schedulers.POLICIES if policy not in ("vllm_v1", "sglang"))  # have own twins
ROUTERS = ("round_robin", "random", "pinned", "least_outstanding", "least_waiting", "least_kv")
COST_KINDS = ("vidur", "fastsim", "clockwork", "affine", "ticks")
TICK = 0.125  # s, a power of two: clockwork arrivals and stage times meet exactly


class Case(NamedTuple):
    requests: list[Request]
    settings: Settings
    cost: Cost


@st.composite
def lengths(draw: st.DrawFn, count: int) -> list[tuple[int, int]]:
    """(prompt, output) tokens of each request."""
    prompts, outputs = draw(
        st.sampled_from(
            [
                (st.integers(1, 40), st.integers(1, 20)),
                (st.integers(40, 120), st.integers(1, 12)),  # long prompts
                (st.integers(1, 8), st.integers(10, 40)),  # long outputs, which outgrow the memory
                (st.integers(1, 30), st.integers(20, 40)),
                (st.integers(1, 60), st.just(1)),  # nothing to decode
                (st.integers(1, 60), st.sampled_from([1, 2, 3, 30])),
                (st.sampled_from([15, 16, 17, 31, 32, 33]), st.sampled_from([1, 2, 16, 17])),  # block edges
            ]
        )
    )
    return draw(st.lists(st.tuples(prompts, outputs), min_size=count, max_size=count))


@st.composite
def arrivals(draw: st.DrawFn, count: int, kind: str | None = None) -> list[float]:
    """Ascending times in s: at once, on a grid of ticks (many equal), in bursts, under load, or light."""
    kind = kind or draw(st.sampled_from(["at once", "grid", "bursts", "loaded", "light"]))
    if kind == "at once":
        return [draw(st.sampled_from([0.0, 1.5]))] * count
    if kind == "grid":
        gaps = draw(st.lists(st.integers(0, 6), min_size=count, max_size=count))
        return [TICK * int(n) for n in np.cumsum(gaps)]
    if kind == "bursts":
        gaps = draw(st.lists(st.sampled_from([0, 0, 0, 1, 150, 2000]), min_size=count, max_size=count))
    else:
        longest = 60 if kind == "loaded" else 1500
        gaps = draw(st.lists(st.integers(0, longest), min_size=count, max_size=count))
    return [int(n) / 997 for n in np.cumsum(gaps)]


@st.composite
def streams(draw: st.DrawFn, max_requests: int = 16, num_replicas: int = 1, kind: str | None = None) -> list[Request]:
    count = draw(st.integers(1, max_requests) | st.integers(max_requests // 2, max_requests))
    replicas = draw(st.lists(st.integers(0, num_replicas - 1), min_size=count, max_size=count))
    rows = zip(draw(arrivals(count, kind)), draw(lengths(count)), replicas, strict=True)
    return [Request(time, prompt, output, replica) for time, (prompt, output), replica in rows]


@st.composite
def followers(draw: st.DrawFn, requests: list[Request]) -> list[Request]:
    """The same requests, of which some arrive only once others have finished: later turns, and those of a loop."""
    free, stream = [0], requests[:1]
    for i, request in enumerate(requests[1:], 1):
        kind = draw(st.sampled_from(["first", "turn", "turn", "loop", "loop"]))
        think = draw(st.sampled_from([0.0, 0.0, TICK, 3 * TICK, 0.011, 0.7]))
        if kind == "turn" and free:
            before = free.pop(draw(st.integers(0, len(free) - 1)))
            request = replace(request, arrived_at=math.nan, follows=before, think=think)
        elif kind == "loop":
            sent_at = draw(st.sampled_from([math.nan, math.nan, request.arrived_at]))
            request = replace(request, arrived_at=sent_at, follows=LOOP, think=think)
        stream.append(request)
        free.append(i)
    return stream


@st.composite
def settings_for(
    draw: st.DrawFn,
    requests: list[Request],
    policy: str,
    router: str,
    num_replicas: int,
    stages: tuple[int, ...] = (1, 1, 2, 3, 4),
) -> Settings:
    """Settings under which each request fits by itself, often barely; one case in ten may get stuck."""
    longest = max(r.num_prompt_tokens + r.num_output_tokens for r in requests)
    total = sum(r.num_prompt_tokens + r.num_output_tokens for r in requests)
    may_stick = draw(st.integers(0, 9)) == 9
    num_stages = 1 if policy == "lightllm" else draw(st.sampled_from(stages))
    block_size = 1 if policy == "lightllm" else draw(st.sampled_from([1, 2, 4, 8, 16]))
    max_num_seqs = draw(st.integers(num_stages, 16) | st.sampled_from([num_stages, 16]))
    whole = -(-longest // block_size)
    watermark = draw(st.sampled_from([0, 0, 1, 3]))
    fitting = whole + watermark
    blocks_per_sequence = whole + draw(st.integers(0, 4))
    if policy in ("orca", "faster_transformer"):
        num_blocks = blocks_per_sequence * draw(st.integers(1, 6)) + draw(st.integers(0, 3))
        fitting = blocks_per_sequence
    else:
        scarce = st.integers(fitting, 2 * fitting) | st.integers(fitting, fitting + 4)
        num_blocks = draw(scarce | scarce | st.just(total + fitting))
    if may_stick:
        num_blocks = draw(st.integers(1, fitting))
    return Settings(
        policy=policy,
        router=router,
        num_replicas=num_replicas,
        num_stages=num_stages,
        num_blocks=num_blocks,
        block_size=block_size,
        watermark_blocks=watermark,
        max_num_seqs=max_num_seqs,
        micro_batch_size=max_num_seqs // num_stages,
        max_batch_size=draw(st.integers(1, max_num_seqs)),
        blocks_per_sequence=blocks_per_sequence,
        max_num_batched_tokens=draw(st.integers(1 if may_stick else longest, longest + total)),
        chunk_size=draw(st.integers(1, 16) | st.integers(8, 128)),
        max_waiting_iters=draw(st.integers(0, 10)),
    )


def vidur_tables(rng: np.random.Generator, requests: list[Request], chunk_size: int | None) -> VidurTables:
    """Random positive tables, without structure, that hold every batch of these requests.

    Chunks are at most ``chunk_size`` tokens in all; None: every prompt is whole, so none has a KV cache.
    """
    totals = np.array([r.num_prompt_tokens + r.num_output_tokens for r in requests])
    kv_step = int(rng.choice([4, 16, 64]))
    rows = 1 if chunk_size is None else 1 + int((-(-totals // kv_step)).sum())
    longest_chunk = int(np.sqrt((totals**2).sum())) + 1
    columns = longest_chunk if chunk_size is None else min(longest_chunk, chunk_size)

    def by_tokens() -> Floats:
        ms = rng.uniform(0.01, 2.0, int(totals.sum()) + 1)
        ms[0] = np.nan
        return ms

    return VidurTables(
        before_attention=by_tokens(),
        all_reduce=by_tokens(),
        input_norm=by_tokens(),
        mlp=by_tokens(),
        add=by_tokens(),
        send=by_tokens(),
        decode=rng.uniform(0.01, 2.0, (len(requests) + 1, 1 + -(-int(totals.max()) // kv_step))),
        prefill=rng.uniform(0.01, 2.0, (rows, columns + 1)),
        kv_step=kv_step,
        decode_factor=float(rng.choice([1.0, 1.1])),
        prefill_factor=float(rng.choice([1.0, 1.1])),
        num_layers=int(rng.integers(1, 5)),
        host_ms=float(rng.choice([0.0, 0.7])),
    )


def fastsim_tables(rng: np.random.Generator, max_seqs: int) -> FastsimTables:
    """Random positive tables, rising with KV and chunk length, so short that their lines beyond are used."""
    return FastsimTables(
        token_ms=rng.uniform(0.1, 9.0, int(rng.integers(2, 200))),
        token_slope=float(rng.uniform(0.0, 0.1)),
        first_ms=rng.uniform(0.0, 1.0, int(rng.integers(2, 200))),
        first_slope=float(rng.uniform(0.0, 0.1)),
        last_ms=rng.uniform(0.0, 1.0, max_seqs + 1),
        host_ms=rng.uniform(0.0, 1.0, max_seqs + 1),
        least_ms=rng.uniform(0.0, float(rng.choice([0.0, 9.0])), max_seqs + 1),
        send_ms=rng.uniform(0.0, 1.0, int(rng.integers(2, 200))),
        send_slope=float(rng.uniform(0.0, 0.1)),
        decode_ms=rng.uniform(0.01, 1.0, (max_seqs + 1, int(rng.integers(2, 8)))).cumsum(axis=1),
        prefill_ms=rng.uniform(0.01, 1.0, rng.integers(2, 8, 2)).cumsum(axis=0).cumsum(axis=1),
        kv_step=int(rng.choice([4, 16, 64])),
        chunk_step=int(rng.choice([4, 16, 64])),
        skew=float(rng.choice([0.0, 0.05, 0.5])),
        mixed=float(rng.choice([1.0, 1.6])),
    )


def clockwork_tables(rng: np.random.Generator, requests: list[Request]) -> VidurTables:
    """One to three ticks a batch, none or one to send it on: events meet at equal times."""
    total = sum(r.num_prompt_tokens + r.num_output_tokens for r in requests)
    nothing = np.zeros(total + 1)
    return empty_vidur()._replace(
        before_attention=nothing,
        all_reduce=nothing,
        input_norm=nothing,
        mlp=nothing,
        add=rng.choice(1000 * TICK * np.arange(1, 4), total + 1),
        send=rng.choice([0.0, 1000 * TICK], total + 1),
        decode=np.zeros((len(requests) + 1, 2)),
        prefill=np.zeros((len(requests) + 1, total + 1)),
        kv_step=1024,
    )


def affine_terms(rng: np.random.Generator, ticks: bool) -> Floats:
    """Terms in ns, of which some may be 0; with ``ticks`` whole numbers, of which a batch takes one to a few ticks.

    In half of the cases the time also depends on the number of tokens up to some number.
    """
    number = 1 + int(rng.integers(0, 12) * rng.integers(0, 2))
    if ticks:
        terms = rng.integers((1000, 0, 0, 0, 0, 0, 0), (2500, 60, 300, 5, 60, 300, 3))
        return np.array([*terms, TICK, *rng.integers(0, 2000, number) * (number > 1)], np.float64)
    most = np.array([2e7, 1e5, 1e6, 3e3, 1e5, 1e6, 1e3, 0.0])
    terms = rng.uniform(0.0, most) * rng.choice([0, 1, 1], len(most))
    terms[0] += 1e6
    return np.array([*terms, *rng.uniform(0.0, 1e7, number) * (number > 1)])


def empty_vidur() -> VidurTables:
    row, grid = np.empty(0), np.empty((0, 0))
    return VidurTables(row, row, row, row, row, row, grid, grid, 64, 1.0, 1.0, 1, 0.0)


def empty_fastsim() -> FastsimTables:
    row, grid = np.empty(0), np.empty((0, 0))
    return FastsimTables(row, 0.0, row, 0.0, row, row, row, row, 0.0, grid, grid, 64, 64, 0.0, 1.0)


def stage_shares(rng: np.random.Generator, num_stages: int) -> Floats:
    """Shares of equal stages, or of stages that differ; their mean is 1."""
    shares = rng.uniform(0.5, 1.5, num_stages)
    return np.asarray(shares / shares.mean()) if num_stages > 1 and rng.random() < 0.5 else np.ones(num_stages)


@st.composite
def costs(draw: st.DrawFn, requests: list[Request], settings: Settings, kind: str | None = None) -> Cost:
    """A cost that holds every batch of these requests, of one of COST_KINDS."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kind = kind or draw(st.sampled_from(COST_KINDS))
    if kind == "fastsim":
        tables = fastsim_tables(rng, len(requests))
        return Cost(COMPOSE_FASTSIM, settings.num_stages, empty_vidur(), tables, stage_shares(rng, settings.num_stages))
    if kind in ("affine", "ticks"):
        vidur, ours = empty_vidur()._replace(kv_step=1), empty_fastsim()._replace(kv_step=1)
        ones = np.ones(settings.num_stages)
        return Cost(COMPOSE_AFFINE, settings.num_stages, vidur, ours, ones, affine_terms(rng, kind == "ticks"))
    if kind == "clockwork":
        vidur = clockwork_tables(rng, requests)
    else:
        vidur = vidur_tables(rng, requests, settings.chunk_size if settings.policy == "sarathi" else None)
    return Cost(COMPOSE_VIDUR, settings.num_stages, vidur, empty_fastsim(), np.ones(settings.num_stages))


@st.composite
def cases(
    draw: st.DrawFn,
    policy: str | None = None,
    router: str | None = None,
    max_requests: int = 16,
    follow: bool = False,
    stages: tuple[int, ...] = (1, 1, 2, 3, 4),
) -> Case:
    """Requests, settings and a cost that go together; what is not given is drawn. ``follow``: some follow others.

    ``stages``: from which the number of pipeline stages is drawn.
    """
    policy = policy or draw(st.sampled_from(POLICIES))
    num_replicas = draw(st.sampled_from([1, 1, 2, 3]))
    router = router or draw(st.sampled_from(ROUTERS))
    kind = draw(st.sampled_from(COST_KINDS))
    requests = draw(streams(max_requests, num_replicas, "grid" if kind in ("clockwork", "ticks") else None))
    if follow:
        requests = draw(followers(requests))
    settings = draw(settings_for(requests, policy, router, num_replicas, stages))
    return Case(requests, settings, draw(costs(requests, settings, kind)))

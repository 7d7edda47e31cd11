"""Requests that share prefixes, against a plain twin that writes out every token; their statistics; what is refused."""

import re
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from streams import FIXED, POISSON, file

import fastsim
from fastsim.errors import ConfigError, TooLargeError, WorkloadError
from fastsim.files import memory
from fastsim.files.documents import Document
from fastsim.workload import BlockHashes, Workload
from fastsim.workload.conversations import NO_SESSIONS
from fastsim.workload.description import parse
from fastsim.workload.following import earliest
from fastsim.workload.loading import load
from fastsim.workload.prefixes import choose, draw_texts, whole
from fastsim.workload.tokens import zipf
from fastsim.workload.write import save

SPAN = {"min": 1, "max": 20}
UNIFORM: dict[str, Any] = {"kind": "uniform", "num_prompt_tokens": SPAN, "num_output_tokens": SPAN}
CHAT: dict[str, Any] = {"turns": {"kind": "geometric", "mean": 3.0}, "think_time": {"kind": "exponential", "mean": 5.0}}
PREFIXES = st.lists(
    st.one_of(
        st.builds(
            lambda number, tokens: {"kind": "system_prompt", "number": number, "num_tokens": tokens},
            st.integers(1, 4),
            st.integers(1, 30),
        ),
        st.builds(
            lambda more, each, most: {
                "kind": "documents",
                "number": each + more,
                "per_request": each,
                "num_tokens": {"min": 1, "max": most},
            },
            st.integers(0, 3),
            st.integers(1, 3),
            st.integers(1, 15),
        ),
        st.builds(
            lambda number, most: {
                "kind": "examples",
                "number": number,
                "num_tokens": {"min": 1, "max": 9},
                "shots": {"min": 1, "max": most},
            },
            st.integers(1, 3),
            st.integers(1, 5),
        ),
    ),
    max_size=3,
)
SESSIONS = st.one_of(
    st.none(),
    st.builds(
        lambda turns, context, fan_out: (
            {"turns": turns, "fan_out": fan_out} | ({} if context is None else {"context": context})
        ),
        st.one_of(st.integers(1, 4), st.just({"kind": "geometric", "mean": 2.5})),
        st.one_of(st.none(), st.integers(1, 12), st.just(SPAN)),
        st.integers(1, 3),
    ),
)


def drawn(prefix: Any = None, sessions: Any = None, number: int = 1000, **more: Any) -> Workload:
    spec: dict[str, Any] = {"lengths": UNIFORM, "gaps": POISSON, "num_requests": number, "seed": 1} | more
    return load(spec | {"prefix": prefix, "sessions": sessions})


def written_out(spec: dict[str, Any], stream: Workload) -> list[list[Any]]:
    """The tokens of each request, prompt and output, one after the other, from the same draws."""
    described = parse(Document(spec))
    sessions = described.sessions or NO_SESSIONS
    seeds = np.random.SeedSequence(described.seed).spawn(6)
    number = described.num_requests
    ids = range(number) if stream.session_id is None else stream.session_id.tolist()
    tasks = ids[-1] // sessions.fan_out + 1
    texts = draw_texts(described.prefixes, tasks, seeds[5])
    contexts = [0] * tasks
    if sessions.context is not None:
        contexts = whole(sessions.context, tasks, np.random.default_rng(seeds[4])).tolist()
    alone = load(spec | {"prefix": None, "sessions": None, "max_tokens": None})  # messages and answers
    rows, requests = iter(range(number)), []
    for session, turns in groupby(ids):
        task = session // sessions.fan_out
        shared: list[Any] = []
        for text, tokens in zip(texts.text[task].tolist(), texts.tokens[task].tolist(), strict=True):
            shared += [(text, place) for place in range(tokens)] if text >= 0 else []
        shared += [("context", task, place) for place in range(contexts[task])]
        history: list[Any] = []
        for _ in turns:
            row = next(rows)
            message, answer = int(alone.num_prompt_tokens[row]), int(alone.num_output_tokens[row])
            room = (described.max_tokens or 10**7) - len(shared)
            if message + answer > room:
                answer = min(max(answer * room // (message + answer), 1), room - 1)
                message = room - answer
            if len(history) + message + answer > room:
                history = []
            asked = shared + history + [("message", row, place) for place in range(message)]
            assert stream.num_prompt_tokens[row] == len(asked)
            assert stream.num_output_tokens[row] == answer
            requests.append(asked + [("answer", row, place) for place in range(answer)])
            history = requests[-1][len(shared) :]
        assert session < 10**6
    return requests


@given(
    prefix=PREFIXES,
    sessions=SESSIONS,
    seed=st.integers(0, 99),
    size=st.sampled_from([1, 3, 8, 16]),
    most=st.sampled_from([None, 250, 320]),
)
@settings(max_examples=80, deadline=None)
def test_hashes_are_equal_exactly_where_all_tokens_until_there_are(
    prefix: Any, sessions: Any, seed: int, size: int, most: int | None
) -> None:
    spec = {"lengths": UNIFORM, "gaps": POISSON, "num_requests": 40, "seed": seed, "block_size": size}
    spec |= {"prefix": prefix, "sessions": sessions, "max_tokens": most}
    if not prefix and sessions is None:
        return
    stream = load(spec)
    requests = written_out(spec, stream)
    hashes = stream.block_hashes
    assert hashes is not None and hashes.block_size == size
    value_of: dict[tuple[Any, ...], int] = {}
    seen: dict[tuple[Any, ...], int] = {}
    for row, tokens in enumerate(requests):
        for block in range(len(tokens) // size):
            until = tuple(tokens[: (block + 1) * size])
            seen[until] = seen.get(until, 0) + 1
            if block < len(hashes[row]):
                assert value_of.setdefault(until, int(hashes[row][block])) == hashes[row][block]
    assert len(set(value_of.values())) == len(value_of)
    for row, tokens in enumerate(requests):  # what is left out is private
        for block in range(len(hashes[row]), len(tokens) // size):
            assert seen[tuple(tokens[: (block + 1) * size])] == 1


@pytest.mark.parametrize("most", [None, 90])
def test_a_longer_workload_begins_with_the_shorter_one(most: int | None) -> None:
    prefix = [{"kind": "examples", "num_tokens": 5, "shots": {"min": 1, "max": 4}, "number": 3}]
    for sessions in (None, CHAT, CHAT | {"fan_out": 3, "context": SPAN, "turns": 4}):
        long, short = (drawn(prefix, sessions, number, max_tokens=most) for number in (500, 137))
        assert long.head(137).digest == short.digest
        fast = drawn(prefix, sessions, 500, max_tokens=most, gaps=POISSON | {"rate": 8.0})
        np.testing.assert_allclose(long.arrived_at, 4 * fast.arrived_at, rtol=1e-12)
        assert (long.num_prompt_tokens == fast.num_prompt_tokens).all()


def test_turns_and_think_times_have_their_laws() -> None:
    stream = drawn(None, CHAT, 60_000)
    assert stream.session_id is not None and stream.think_time is not None
    counts = np.bincount(stream.session_id)[:-1]
    for turns in range(1, 8):  # a geometric distribution
        assert (counts == turns).mean() == pytest.approx((2 / 3) ** (turns - 1) / 3, abs=0.01)
    later = np.isnan(stream.arrived_at)
    assert (later == ~np.isnan(stream.think_time)).all()
    assert stream.think_time[later].mean() == pytest.approx(5.0, rel=0.02)
    assert stream.think_time[later].std() == pytest.approx(5.0, rel=0.03)
    assert stream.rate == pytest.approx(2.0, rel=0.03)  # of all turns
    fixed = drawn(None, {"turns": 4, "think_time": 1.5}, 10)
    assert fixed.session_id is not None and fixed.think_time is not None
    assert fixed.session_id.tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2]
    assert fixed.think_time[1:4].tolist() == [1.5] * 3
    heavy = drawn(None, CHAT | {"think_time": {"kind": "lognormal", "median": 3.0, "sigma": 1.0}}, 20_000).think_time
    assert heavy is not None
    assert np.nanmedian(heavy) == pytest.approx(3.0, rel=0.04)
    assert np.nanstd(np.log(heavy)) == pytest.approx(1.0, rel=0.02)


def test_branches_begin_together() -> None:
    stream = drawn(None, {"turns": 2, "fan_out": 3, "context": 32}, 600, lengths=FIXED)
    assert stream.block_hashes is not None
    first = stream.arrived_at.reshape(100, 3, 2)
    assert np.isnan(first[:, :, 1]).all()
    assert (first[:, :, 0] == first[:, :1, 0]).all() and len(np.unique(first[:, 0, 0])) == 100
    assert stream.rate == pytest.approx(2.0, rel=0.3)
    heads = np.array([stream.block_hashes[row][:3] for row in range(0, 600, 2)]).reshape(100, 3, 3)
    assert (heads[:, :, :2] == heads[:, :1, :2]).all()  # the context
    assert len(np.unique(heads[:, :, 2])) == 300


def test_popularity_is_zipf() -> None:
    prefix = {"kind": "system_prompt", "number": 5, "exponent": 1.2, "num_tokens": 16}
    stream = drawn(prefix, None, 50_000)
    assert stream.block_hashes is not None
    shares = np.sort(np.unique(stream.block_hashes.values, return_counts=True)[1])[::-1] / 50_000
    weights = np.arange(1.0, 6) ** -1.2
    np.testing.assert_allclose(shares, weights / weights.sum(), atol=0.008)
    assert (stream.num_prompt_tokens - load({"lengths": UNIFORM, "gaps": POISSON, "num_requests": 50_000,
            "seed": 1}).num_prompt_tokens == 16).all()  # fmt: skip


def test_documents_are_drawn_without_repetition() -> None:
    """The chance of an ordered pair is p_i p_j / (1 - p_i)."""
    weights = 1 / np.arange(1.0, 5)
    chance = weights / weights.sum()
    found = choose(zipf(4, 1.0), np.random.default_rng(0).random((100_000, 2)))
    counts = np.zeros((4, 4))
    np.add.at(counts, (found[:, 0], found[:, 1]), 1 / 100_000)
    expected = np.outer(chance, chance) / (1 - chance)[:, None] * (1 - np.eye(4))
    np.testing.assert_allclose(counts, expected, atol=0.006)
    every = choose(zipf(6, 3.0), np.random.default_rng(0).random((5000, 6)))
    assert (np.sort(every, axis=1) == np.arange(6)).all()


def test_a_closed_loop_of_sessions() -> None:
    loop = {"kind": "closed_loop", "concurrency": 5, "think_time": 3.0}
    stream = drawn(None, {"turns": 2, "think_time": 1.0}, 40, gaps=loop)
    assert stream.max_concurrency == 5 and stream.is_loop and stream.think_time is not None
    assert np.flatnonzero(~np.isnan(stream.arrived_at)).tolist() == [0, 2, 4, 6, 8]
    assert stream.think_time[10:14].tolist() == [3.0, 1.0, 3.0, 1.0]


def test_sessions_take_turns_in_a_cache() -> None:
    """Two sessions that begin together and think equally long share a cache that is large enough for one of them."""
    stream = Workload(
        np.array([0.0, np.nan, np.nan, 0.0, np.nan, np.nan]),
        np.array([32, 64, 96] * 2),
        np.full(6, 16),
        session_id=np.array([0, 0, 0, 1, 1, 1]),
        think_time=np.array([np.nan, 1.0, 1.0] * 2),
        block_hashes=BlockHashes.of([[0, 1, 2], range(5), range(7), [10, 11, 12], range(10, 15), range(10, 17)]),
    )
    assert earliest(stream.arrived_at, stream.session_id, stream.think_time).tolist() == [0, 1, 2, 0, 1, 2]
    alone = stream.take(np.arange(3))
    assert stream.hit_curve is not None and alone.hit_curve is not None
    assert stream.hit_curve.share() == alone.hit_curve.share() == (48 + 80) / 192
    assert alone.hit_curve.share(80) == alone.hit_curve.share()
    assert stream.hit_curve.share(80) < stream.hit_curve.share()


def test_files_keep_sessions_and_hashes(tmp_path: Path) -> None:
    stream = drawn({"kind": "system_prompt", "num_tokens": 40}, CHAT, 200)
    for suffix in ("parquet", "jsonl"):
        save(stream, tmp_path / f"w.{suffix}")
        assert load(tmp_path / f"w.{suffix}").digest == stream.digest
    sarathi = fastsim.Deployment.load(None, ["scheduler.policy=sarathi"])
    said = "the requests have hashes of blocks, but policy sarathi has no prefix cache (vllm_v1 and sglang have)"
    assert said in fastsim.simulate(sarathi, stream).summary["warnings"]
    assert fastsim.simulate(None, stream).summary["warnings"] == []


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"prefix": "x"}, "prefix: 'x' is not a group of settings (e.g. kind: system_prompt)"),
    ({"prefix": {"kind": "system_promt"}}, "prefix.kind: 'system_promt' is unknown; did you mean 'system_prompt'?"),
    ({"prefix": [{"kind": "documents"}]}, "prefix[0].number: missing (e.g. 100)"),
    (
        {"prefix": [{"kind": "system_prompt", "num_tokens": 0}]},
        "prefix[0].num_tokens: 0 is not a whole number from 1 to 10 million (e.g. 512)",
    ),
    (
        {"prefix": {"kind": "documents", "number": 3, "num_tokens": 5, "per_request": 4}},
        "prefix: per_request: 4 documents are more than the 3 in all",
    ),
    (
        {"prefix": {"kind": "examples", "num_tokens": 5, "shots": 2000}},
        "prefix: shots: 2,000 examples of 1 tasks are too many",
    ),
    ({"sessions": {"turns": 0}}, "sessions.turns: 0 is not a whole number of turns from 1 to 10,000 (e.g. 5)"),
    ({"sessions": {"turns": {"kind": "geometric", "mean": 0.5}}}, "sessions.turns.mean: 0.5 is not turns from 1 to"),
    ({"sessions": {}}, "sessions.turns: missing (e.g. {"),
    ({"sessions": CHAT | {"think_time": -1}}, "sessions.think_time: -1 is not a time in seconds from 0 to 1e9"),
    ({"sessions": CHAT | {"fan_out": 0}}, "sessions.fan_out: 0 is not a whole number from 1 to 10,000"),
    (
        {"sessions": CHAT | {"fan_out": 2}, "gaps": {"kind": "closed_loop", "concurrency": 2}},
        "sessions.fan_out: 2 branches begin at the same time, which the users of a closed loop cannot do",
    ),
    ({"sessions": CHAT, "block_size": 0}, "block_size: 0 is not a whole number of tokens from 1 to"),
]


@pytest.mark.parametrize(("spec", "said"), REFUSED)
def test_refused_conversations(spec: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)) as refused:
        load({"lengths": UNIFORM, "gaps": POISSON} | spec)
    assert "\n" not in str(refused.value)


def test_texts_count_for_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda: 2**30)
    prefix = {"kind": "examples", "num_tokens": 5, "shots": 1000}
    with pytest.raises(TooLargeError, match=r"num_requests: 100,000 requests need about 9\.3 GiB"):
        drawn(prefix, None, 100_000)
    with pytest.raises(TooLargeError, match=r"block_hashes: [\d,]+ hashes need about"):
        drawn({"kind": "system_prompt", "num_tokens": 900_000}, None, 1000)


def test_a_prefix_that_leaves_no_room(tmp_path: Path) -> None:
    text = "lengths: {kind: fixed, num_prompt_tokens: 9, num_output_tokens: 9}\nmax_tokens: 100\n"
    text += "prefix: {kind: system_prompt, num_tokens: 99}\n"
    with pytest.raises(
        WorkloadError, match=r"w\.yaml: max_tokens: the shared prefix of a request has 99 tokens, and 10"
    ):
        load(file(tmp_path, text, "w.yaml"), rate=1.0)

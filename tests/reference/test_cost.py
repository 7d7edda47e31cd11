"""The twin's stage times, worked out by hand, and folded tables against the sums they stand for."""

from __future__ import annotations

import numpy as np
import pytest
from reference.cost import StageSeconds, cost_stage_seconds, vidur_stage_seconds
from reference.state import Batch, Entry
from strategies import empty_fastsim, empty_vidur

from fastsim.kernels.tables import COMPOSE_AFFINE, COMPOSE_FASTSIM, COMPOSE_VIDUR, Cost, FastsimTables

MAX_TOKENS, MAX_SEQS, MAX_KV = 256, 8, 640
BY_TOKENS = (
    "attn_pre_proj",
    "attn_post_proj",
    "attn_rope",
    "attn_kv_cache_save",
    "input_layernorm",
    "mlp_up_proj",
    "mlp_down_proj",
    "mlp_act",
    "post_attention_layernorm",
    "add",
    "all_reduce",
    "send_recv",
)
META = {
    "attention_decode_batching_overhead_fraction_effective": 0.1,
    "attention_prefill_batching_overhead_fraction_effective": 0.2,
    "nccl_cpu_launch_overhead_ms": 0.02,
    "nccl_cpu_skew_overhead_per_device_ms": 0.003,
}


def batch(*entries: tuple[int, int, int]) -> Batch:
    """From (processed, prefill, tokens)."""
    return Batch([], [Entry(*entry) for entry in entries])


def random_tables(rng: np.random.Generator) -> dict[str, dict[object, float]]:
    tables: dict[str, dict[object, float]] = {
        name: {n: rng.uniform(0.01, 1.0) for n in range(1, MAX_TOKENS + 1)} for name in BY_TOKENS
    }
    kvs = range(0, MAX_KV + 1, 64)
    tables["attn_decode"] = {(b, kv): rng.uniform(0.01, 1.0) for b in range(1, MAX_SEQS + 1) for kv in kvs}
    chunks = range(1, MAX_TOKENS + 1)
    tables["attn_prefill"] = {(kv, chunk**2): rng.uniform(0.01, 1.0) for kv in kvs for chunk in chunks}
    return tables


def folded(tables: dict[str, dict[object, float]], tp: int, pp: int, layers: int) -> Cost:
    """The same tables as a Cost, by the order of additions that its fields describe."""

    def by_tokens(*names: str) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        ms = np.full(MAX_TOKENS + 1, np.nan)
        for n in range(1, MAX_TOKENS + 1):
            rounded = -(-n // 8) * 8
            total = 0.0  # adds nothing to the first, to the bit
            for name in names:
                if name != "all_reduce":
                    total += tables[name][n if name == "attn_kv_cache_save" else rounded]
                elif tp > 1:
                    total += tables[name][rounded] + 0.02 + 0.003 * tp**1.25
            ms[n] = total
        return ms

    rows = MAX_KV // 64 + 1
    vidur = empty_vidur()._replace(
        before_attention=by_tokens(*BY_TOKENS[:4]),
        all_reduce=by_tokens("all_reduce"),
        input_norm=by_tokens("input_layernorm"),
        mlp=by_tokens("mlp_up_proj", "mlp_down_proj", "mlp_act", "all_reduce", "post_attention_layernorm"),
        add=by_tokens("add"),
        send=by_tokens("send_recv"),
        decode=np.array([[tables["attn_decode"].get((b, 64 * k), np.nan) for k in range(rows)] for b in range(9)]),
        prefill=np.array(
            [[tables["attn_prefill"].get((64 * k, c * c), np.nan) for c in range(MAX_TOKENS + 1)] for k in range(rows)]
        ),
        decode_factor=1.1,
        prefill_factor=1.2,
        num_layers=layers // pp,
    )
    return Cost(COMPOSE_VIDUR, pp, vidur, empty_fastsim(), np.ones(pp))


def random_batch(rng: np.random.Generator) -> Batch:
    """Up to three decodes and up to three prompts or chunks."""
    decodes = [(int(prefill + done), int(prefill), 1) for prefill, done in rng.integers(1, 300, (rng.integers(4), 2))]
    count = rng.integers(0 if decodes else 1, 4)
    prefills = [
        (int(done), int(done + tokens + rest), int(tokens))
        for done, tokens, rest in rng.integers((0, 1, 0), (200, 80, 2), (count, 3))
    ]
    return batch(*decodes, *prefills)


@pytest.mark.parametrize("tp", [1, 4])
def test_folding_keeps_the_sums_to_the_bit(tp: int) -> None:
    rng = np.random.default_rng(tp)
    tables = random_tables(rng)
    unfolded = vidur_stage_seconds(tables, META, tp=tp, pp=3, layers=33)
    once = cost_stage_seconds(folded(tables, tp, 3, 33))
    for _ in range(300):
        some = random_batch(rng)
        for stage in range(3):
            assert once(stage, some) == unfolded(stage, some)


def nothing() -> dict[str, dict[object, float]]:
    tables: dict[str, dict[object, float]] = {name: dict.fromkeys(range(1, 33), 0.0) for name in BY_TOKENS}
    return {**tables, "attn_decode": {}, "attn_prefill": {}}


def vidur_ms(tables: dict[str, dict[object, float]], some: Batch, stage: int = 0, tp: int = 1) -> float:
    return vidur_stage_seconds(tables, META, tp=tp, pp=2, layers=2)(stage, some) * 1e3


def test_only_the_kv_save_looks_at_exact_tokens() -> None:
    prompt = batch((0, 3, 3))
    tables = nothing() | {"attn_prefill": {(0, 9): 0.0}}
    for name in BY_TOKENS:
        exact = vidur_ms(tables | {name: tables[name] | {3: 7.0}}, prompt, tp=2) - vidur_ms(tables, prompt, tp=2)
        rounded = vidur_ms(tables | {name: tables[name] | {8: 7.0}}, prompt, tp=2) - vidur_ms(tables, prompt, tp=2)
        is_exact, count = name == "attn_kv_cache_save", 2 if name == "all_reduce" else 1
        assert (exact, rounded) == pytest.approx((7.0 * is_exact, 7.0 * count * (not is_exact)), abs=1e-9)


def test_the_last_stage_sends_nothing() -> None:
    tables = nothing() | {"attn_prefill": {(0, 9): 1.0}, "send_recv": {8: 5.0}}
    assert [vidur_ms(tables, batch((0, 3, 3)), stage) for stage in (0, 1)] == pytest.approx([6.0, 1.0])


def test_attention_of_several_decodes_sees_their_mean_rounded_up_and_a_factor() -> None:
    tables = nothing() | {"attn_decode": {(1, 64): 1.0, (1, 128): 2.0, (2, 64): 3.0, (2, 128): 5.0}}
    assert vidur_ms(tables, batch((64, 60, 1))) == pytest.approx(1.0)
    assert vidur_ms(tables, batch((65, 60, 1))) == pytest.approx(2.0)
    assert vidur_ms(tables, batch((64, 60, 1), (65, 60, 1))) == pytest.approx(3.0 * 1.1)  # 64.5 is cut first
    assert vidur_ms(tables, batch((64, 60, 1), (66, 60, 1))) == pytest.approx(5.0 * 1.1)


def test_attention_of_several_prompts_sees_one_of_the_same_work_and_a_factor() -> None:
    tables = nothing() | {"attn_prefill": {(0, 25): 1.0, (192, 49): 3.0}}
    assert vidur_ms(tables, batch((0, 5, 5))) == pytest.approx(1.0)
    assert vidur_ms(tables, batch((0, 3, 3), (0, 4, 4))) == pytest.approx(1.0 * 1.2)
    assert vidur_ms(tables, batch((1, 9, 5), (65, 70, 5))) == pytest.approx(3.0 * 1.2)  # 64 + 128; √50 -> 7


def test_outside_the_tables_is_an_error() -> None:
    with pytest.raises(KeyError):
        vidur_ms(nothing(), batch((64, 60, 1)))


FASTSIM = FastsimTables(
    token_ms=np.array([0.0, 100.0, 200.0, 300.0]),
    token_slope=10.0,
    first_ms=np.array([0.0, 1000.0, 2000.0]),
    first_slope=1.0,
    last_ms=np.array([0.25, 0.5, 0.75]),
    host_ms=np.array([0.0, 0.03, 0.06, 0.09]),
    least_ms=np.array([0.0, 0.0, 0.0, 9.0]),
    send_ms=np.array([0.0, 0.001]),
    send_slope=0.002,
    decode_ms=np.array([[9e9, 9e9, 9e9], [1.0, 2.0, 4.0], [10.0, 20.0, 40.0]]),
    prefill_ms=np.array([[1.0, 2.0], [3.0, 8.0]]),
    kv_step=10,
    chunk_step=4,
    skew=0.5,
    mixed=2.0,
)


def fastsim_ms(some: Batch, stage: int, num_stages: int = 3) -> float:
    cost = Cost(COMPOSE_FASTSIM, num_stages, empty_vidur(), FASTSIM, np.ones(num_stages))
    return cost_stage_seconds(cost)(stage, some) * 1e3


def test_fastsim_interpolates_decodes_between_mean_and_longest() -> None:
    assert fastsim_ms(batch((5, 1, 1)), 1) == pytest.approx(100 + 1.5 + 0.001)
    assert fastsim_ms(batch((25, 1, 1)), 1) == pytest.approx(100 + 5.0 + 0.001)  # beyond the last column
    assert fastsim_ms(batch((4, 1, 1), (12, 1, 1)), 1) == pytest.approx(200 + 20.0 + 0.003)  # 8 + (12 - 8) / 2


def test_fastsim_sums_chunks() -> None:
    assert fastsim_ms(batch((5, 9, 2)), 1) == pytest.approx(200 + 3.5 + 0.003)
    # Beyond both ends: 1 + 1 * 2 at 0, 3 + 5 * 2 at 10, so 3 + 10 * 2 at 20.
    assert fastsim_ms(batch((20, 99, 8), (0, 99, 4)), 1) == pytest.approx(300 + 10 * 9 + 23 + 2 + 0.023)


def test_fastsim_counts_what_only_the_ends_of_the_pipeline_do() -> None:
    some = batch((5, 1, 1), (0, 1, 1), (0, 2, 1))  # a decode, a prompt that completes, one that does not
    layers = 300 + 2 * 1.5 + 1.25 + 1.25  # attention of a decode beside prompts takes twice its time
    assert fastsim_ms(some, 0) == pytest.approx(layers + 2001 + 0.09 + 0.005)
    assert fastsim_ms(some, 1) == pytest.approx(layers + 0.005)
    assert fastsim_ms(some, 2) == pytest.approx(layers + 0.75)
    assert fastsim_ms(some, 0, num_stages=1) == pytest.approx(layers + 2001 + 0.09 + 0.75)


def test_a_step_takes_as_long_as_what_the_host_does_meanwhile_and_waits_for_the_rest() -> None:
    some = batch((5, 1, 1), (5, 1, 1))
    gpu = 200 + 15.0 + 2000 + 0.75
    for least, expected in (0.0, gpu), (gpu - 1, gpu), (gpu + 1, gpu + 1):
        tables = FASTSIM._replace(least_ms=np.array([0.0, 0.0, least]))
        cost = Cost(COMPOSE_FASTSIM, 1, empty_vidur(), tables, np.ones(1))
        assert cost_stage_seconds(cost)(0, some) * 1e3 == pytest.approx(expected + 0.06)


def test_an_affine_sum_counts_tokens_sequences_context_and_pairs() -> None:
    """Two decodes with 10 and 20 tokens before theirs, and a chunk of 8 tokens after 4 others."""
    some = batch((11, 6, 1), (21, 6, 1), (4, 100, 8))
    terms = [1e6, 1e3, 1e4, 10.0, 1.0, 100.0]
    pairs = sum(range(4 + 1, 4 + 8 + 1))  # each token attends to all before it and to itself
    ns = 1e6 + 1e3 * 10 + 1e4 * 3 + 10.0 * (11 + 21 + 12) + 1.0 * 8 + 100.0 * 2
    once = affine([*terms, 2.0, 0.0, 0.0])
    assert once(0, some) == once(1, some) == (ns + 2.0 * pairs) * 1e-9
    assert affine([*terms, 0.0, 0.5, 0.0])(0, some) == 0.5 * 1040  # 1,040,648 ns are 1040 whole microseconds


def test_an_affine_sum_depends_on_the_number_of_tokens_up_to_the_last_that_is_given() -> None:
    by_tokens = affine([1e6, *[0.0] * 7, 0.0, 5e5, 3e5])
    assert by_tokens(0, batch((11, 6, 1))) == 1.5e6 * 1e-9
    assert by_tokens(0, batch((11, 6, 1), (21, 6, 1))) == 1.3e6 * 1e-9
    assert by_tokens(0, batch((0, 6, 5))) == 1.3e6 * 1e-9


def affine(terms: list[float]) -> StageSeconds:
    vidur, ours = empty_vidur()._replace(kv_step=1), empty_fastsim()._replace(kv_step=1)
    return cost_stage_seconds(Cost(COMPOSE_AFFINE, 2, vidur, ours, np.ones(2), np.array(terms)))

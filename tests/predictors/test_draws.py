"""Tables drawn from intervals: coherent per operator, repeatable, centred on the tables they vary."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fastsim.catalog.model import Layer
from fastsim.deployment.description import Deployment
from fastsim.deployment.resolve import resolve
from fastsim.deployment.resolved import Resolved
from fastsim.predictors.build import build_cost, operator_times
from fastsim.predictors.built import Built
from fastsim.predictors.replicates import replicates
from fastsim.predictors.tables import cache
from fastsim.predictors.tables.compose import fastsim_tables
from fastsim.predictors.tables.draws import TOGETHER, drawn_tables, drawn_times, factors


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "CACHE_FOLDER", tmp_path / "kernels" / "x")


def resolved(*settings: str) -> Resolved:
    described = {"model": "meta-llama/Llama-3.1-8B", "device": "h100", "max_model_len": 4096}
    return resolve(Deployment.load(described, settings))


def build_costs(resolved: Resolved, number: int, seed: int) -> list[Built]:
    return [one.built for one in replicates(resolved, number, seed)]


def test_draws_repeat_and_do_not_depend_on_their_number() -> None:
    one = resolved("scheduler.max_num_seqs=16")
    three, again = build_costs(one, 3, seed=1), build_costs(one, 2, seed=1)
    for before, after in zip(three, again, strict=False):
        np.testing.assert_array_equal(before.cost.fastsim.token_ms, after.cost.fastsim.token_ms)
        np.testing.assert_array_equal(before.cost.fastsim.decode_ms, after.cost.fastsim.decode_ms)
    assert three[0].cost.fastsim.token_ms[64] != three[1].cost.fastsim.token_ms[64]
    assert build_costs(one, 1, seed=2)[0].cost.fastsim.token_ms[64] != three[0].cost.fastsim.token_ms[64]
    assert three[2].provenance["replicate"] == {"number": 2, "of": 3, "seed": 1}
    assert json.loads(json.dumps(three[2].provenance)) == three[2].provenance


def test_one_factor_for_all_shapes_of_an_operator() -> None:
    one = resolved("scheduler.max_num_seqs=16", "tensor_parallel_size=2")
    base = build_cost(one).cost.fastsim
    drawn = [built.cost.fastsim for built in build_costs(one, 8, seed=0)]
    for table in drawn:
        ratio = table.decode_ms[1:] / base.decode_ms[1:]
        np.testing.assert_allclose(ratio, ratio[0, 0])
    # Decode and prefill attention are operators of their own.
    decode, prefill = (
        [getattr(table, name)[-1, -1] / getattr(base, name)[-1, -1] for table in drawn]
        for name in ("decode_ms", "prefill_ms")
    )
    assert np.std(decode) > 0.005 and np.std(prefill) > 0.005 and abs(np.corrcoef(decode, prefill)[0, 1]) < 0.95


def test_draws_spread_as_their_intervals_say() -> None:
    """An operator with an interval varies more than one without, and all of them vary together a little."""
    drawn = list(factors({"mlp_act": 0.1}, 400, seed=0))
    own, together = (np.log([factor(name) for factor in drawn]) for name in ("mlp_act", "mlp_up_proj"))
    assert np.mean(own) == pytest.approx(0, abs=0.02)
    assert np.std(own) == pytest.approx(np.hypot(0.1, TOGETHER), rel=0.1)
    assert np.std(together) == pytest.approx(TOGETHER, rel=0.1)
    assert np.std(own - together) == pytest.approx(0.1, rel=0.1)
    assert all(factor("mlp_act") == 1.0 for factor in factors({}, 3, seed=0))


def test_the_front_end_is_drawn_where_there_is_one() -> None:
    one, none = resolved("scheduler.max_num_seqs=16"), resolved("front_end_ms=0")
    drawn = [each.resolved.front_end_s for each in replicates(one, 200, seed=0)]
    assert np.median(drawn) == pytest.approx(one.front_end_s, rel=0.1) and min(drawn) > 0
    assert drawn == [each.resolved.front_end_s for each in replicates(one, 200, seed=0)]
    assert all(each.resolved.front_end_s == 0 for each in replicates(none, 3, seed=0))


@pytest.mark.parametrize("windowed", [False, True])
def test_tables_by_operator_add_up_and_come_back_from_the_cache(windowed: bool, tmp_path: Path) -> None:
    one = resolved("scheduler.max_num_seqs=16", "pipeline_parallel_size=2", "tensor_parallel_size=2")
    if windowed:  # two kinds of attention
        layers = (Layer(), Layer(window=1024)) * (one.model.num_layers // 2)
        model = replace(one.model, sliding_window=1024, layers=layers)
        one = replace(one, model=model)
    cold, warm = build_cost(one), build_cost(one)
    assert ("attn_window_decode" in cold.operators) == windowed and cold.operators["attn_decode"].decode_ms.size
    assert list(cold.operators) == list(warm.operators) and cold.spread == warm.spread
    for name, tables in cold.operators.items():
        for field, array in tables._asdict().items():
            np.testing.assert_array_equal(array, getattr(warm.operators[name], field))
    whole = drawn_tables(warm.cost.fastsim, warm.operators, lambda name: 1.0)
    for field, array in warm.cost.fastsim._asdict().items():
        np.testing.assert_allclose(getattr(whole, field), array, rtol=1e-9, atol=1e-12, err_msg=field)


def test_what_ranks_compute_together_is_drawn_apart_from_what_each_does() -> None:
    ranks = ("model=Qwen/Qwen3-30B-A3B", "engine=vllm-0.19", "data_parallel_size=2", "enable_expert_parallel=true")
    one = resolved(*ranks, "scheduler.max_num_seqs=16", "scheduler.max_num_batched_tokens=512")
    base = build_cost(one).cost
    drawn = [built.cost for built in build_costs(one, 8, seed=0)]
    for cost in drawn:
        ratio = cost.ranks.shared_ms[64] / base.ranks.shared_ms[64]
        assert 0.5 < ratio < 2 and ratio != 1
        assert 0.5 < cost.fastsim.token_ms[64] / base.fastsim.token_ms[64] < 2
    assert len({cost.ranks.shared_ms[64] for cost in drawn}) == 8


def test_drawn_tables_are_those_composed_of_drawn_times() -> None:
    one = resolved("scheduler.max_num_seqs=16", "tensor_parallel_size=2")
    built, times = build_cost(one), operator_times(one)[0]
    for factor, drawn in zip(factors(built.spread, 2, seed=3), build_costs(one, 2, seed=3), strict=True):
        composed = fastsim_tables(drawn_times(times, factor), 2, one.layers_per_stage, 16, one.device.skew)
        for field, array in composed._asdict().items():
            np.testing.assert_allclose(getattr(drawn.cost.fastsim, field), array, rtol=1e-9, atol=1e-12)


def test_what_is_known_travels_with_the_tables() -> None:
    one = resolved()
    cold, warm = build_cost(one).provenance, build_cost(one).provenance
    assert cold == warm and set(cold["known"]) <= {"measured", "outside", "modelled"}
    assert sum(cold["known"].values()) == pytest.approx(1, abs=1e-3) and cold["known"]["measured"] > 0.5

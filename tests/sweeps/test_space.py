"""Spaces: axes, ranges, zips and conditions, the combinations that are dropped, and errors in one sentence."""

import itertools
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastsim
from fastsim.errors import CatalogError, ConfigError
from fastsim.result.metrics.definitions import flatten
from fastsim.sweeps import batches, conditions
from fastsim.sweeps.batches import MOST, cut
from fastsim.sweeps.configuration import Configuration
from fastsim.sweeps.space import Space

SMALL: dict[str, Any] = {"source": "chat", "rate": 4, "num_requests": 40}


def space(axes: dict[str, Any], **others: Any) -> Space:
    return Space.load({"workload": SMALL, "axes": axes, **others})


def settings(found: Space) -> list[tuple[Any, ...]]:
    return [tuple(one.settings.values()) for one in found.configurations()]


def values(given: Any, name: str = "workload.rate") -> list[Any]:
    return [step[0] for step in space({name: given}).axes[0].steps]


def rows_of(found: list[Configuration], threads: int | None = None) -> list[dict[str, Any]]:
    """The rows of a sweep's table, simulated together."""
    outcomes = batches.simulate([(one.resolved, one.workload) for one in found], threads=threads)
    return [batches.row(*each) for each in zip(found, outcomes, strict=True)]


def test_axes_are_a_product_and_zips_go_in_step() -> None:
    axes: dict[str, Any] = {"num_replicas": [1, 2], "scheduler.policy": ["vllm", "orca"]}
    steps = {"scheduler.max_num_seqs": [32, 64], "gpu_memory_utilization": [0.8, 0.9]}
    found = settings(space(axes, zip=[steps]))
    assert found == [(*pair, *step) for pair in itertools.product(*axes.values()) for step in [(32, 0.8), (64, 0.9)]]


def test_ranges() -> None:
    assert values({"from": 1, "to": 4, "step": 1}) == [1, 2, 3, 4]
    assert values({"from": 0.8, "to": 0.95, "step": 0.05}) == [0.8, 0.85, 0.9, 0.95]
    assert values({"from": 512, "to": 512.002, "step": 0.002}) == [512.0, 512.002]
    assert values({"from": 32, "to": 512, "factor": 2}) == [32, 64, 128, 256, 512]
    assert values({"from": 1, "to": 5, "num": 3}) == [1.0, 3.0, 5.0]
    assert values({"from": 1, "to": 16, "num": 3, "spacing": "geometric"}) == [1.0, 4.0, 16.0]
    assert values({"from": 1, "to": 10, "num": 4, "spacing": "geometric"}, "num_replicas") == [1, 2, 5, 10]
    assert values({"from": 7, "to": 7, "step": 2}) == [7]
    assert values(3) == [3]


@given(st.integers(1, 1000), st.integers(0, 60), st.floats(1e-3, 1e3))
def test_a_range_has_both_its_ends(first: int, steps: int, step: float) -> None:
    found = values({"from": first, "to": first + steps * step, "step": step})
    assert len(found) == steps + 1
    assert found[-1] == pytest.approx(first + steps * step)


def test_a_configuration_is_what_settings_make_of_the_deployment(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("model: meta-llama/Llama-2-7b-hf\ndevice: a100\nseed: 5\n")
    (tmp_path / "requests.csv").write_text("arrived_at,num_prompt_tokens,num_output_tokens\n0,10,5\n1,20,5\n")
    file = tmp_path / "space.yaml"
    file.write_text("deployment: base.yaml\nworkload: requests.csv\naxes: {scheduler.max_num_seqs: [16, 32]}\n")
    for one, seqs in zip(Space.load(file).configurations(), (16, 32), strict=True):
        described = fastsim.Deployment.load(tmp_path / "base.yaml", [f"scheduler.max_num_seqs={seqs}"])
        assert one.deployment == described
        assert one.resolved == fastsim.resolve(described)
        assert one.workload.digest == fastsim.load_workload(tmp_path / "requests.csv").digest


APART: dict[str, Any] = {
    "model": "meta-llama/Llama-3.1-8B",
    "device": "h100",
    "pools": [
        {"name": "prompts", "role": "prefill", "tensor_parallel_size": 2},
        {"name": "tokens", "role": "decode", "num_replicas": 2},
    ],
    "kv_transfer": {"link_gb_s": 50},
}


def test_fields_of_pools_go_by_the_names_of_the_pools() -> None:
    axes: dict[str, Any] = {"pools.prompts.num_replicas": [1, 2], "pools.tokens.scheduler.max_num_seqs": [32, 64]}
    found = list(space(axes, deployment=APART, where="num_gpus <= 4").configurations())
    assert [tuple(one.settings.values()) for one in found] == [(1, 32), (1, 64)]  # 2 x 2 + 2 GPUs are too many
    for one in found:
        prompts, tokens = one.resolved.pools
        assert (prompts.resolved.num_replicas, tokens.resolved.num_replicas, one.resolved.num_gpus) == (1, 2, 4)
        assert tokens.resolved.scheduler.max_num_seqs == one.settings["pools.tokens.scheduler.max_num_seqs"]
        assert prompts.resolved.scheduler.max_num_seqs == 1024
    few = space({"pools.prompts.num_replicas": [1, 2, 3]}, deployment=APART, where="pools.prompts.num_replicas < 3")
    assert settings(few) == [(1,), (2,)]
    assert len(few.with_overrides(["pools.tokens.num_replicas=5"]).base.document.values["pools"]) == 2
    wide = {"name": "wide", "tensor_parallel_size": 4}
    whole = space({"pools": [[wide], [wide, {"name": "one", "num_replicas": 3}]]}, where="num_gpus > 4")
    assert [one.resolved.num_gpus for one in whole.configurations()] == [7]
    for axes, where, said in (
        ({"pools.prompt.num_replicas": 1}, [], "pools: none has the name 'prompt'; did you mean 'prompts'?"),
        ({"pools.prompts.num_replica": 1}, [], "did you mean 'pools.prompts.num_replicas'?"),
        ({"pools.prompts.num_replicas": 0}, [], r"pools\[0\].num_replicas: 0 is not a positive integer"),
        ({"num_replicas": 1}, ["pools.token.num_replicas > 1"], "no pool has the name 'token'; did you mean 'tokens'?"),
    ):
        with pytest.raises(ConfigError, match=said):
            space(axes, deployment=APART, where=where)
    with pytest.raises(ConfigError, match="pools: none has the name 'prompts'; there are no pools"):
        space({"pools.prompts.num_replicas": 1})


def test_the_same_random_numbers_for_all() -> None:
    found = list(space({"num_replicas": [1, 2], "workload.rate": [2, 4]}).configurations())
    assert len({id(one.workload) for one in found}) == 2
    slow, fast = found[0].workload, found[1].workload
    assert (slow.num_prompt_tokens == fast.num_prompt_tokens).all()
    assert slow.arrived_at[1:] == pytest.approx(2 * fast.arrived_at[1:])
    assert len({id(one.workload) for one in space({"seed": [1, 2, 3]}).configurations()}) == 3


def test_workloads_can_be_an_axis() -> None:
    described = {
        "lengths": {"kind": "fixed", "num_prompt_tokens": 9, "num_output_tokens": 3},
        "gaps": {"kind": "static"},
    }
    found = list(space({"workload": ["chat", {"source": "code", "num_requests": 7}, described]}).configurations())
    assert [one.workload.num_requests for one in found] == [40, 7, 40]
    assert (found[2].workload.num_prompt_tokens == 9).all()
    assert rows_of(found)[1]["workload"] == "code"


def test_conditions_drop_and_are_counted() -> None:
    axes = {"tensor_parallel_size": [1, 2, 4], "num_replicas": [1, 2, 4, 8]}
    found = space(axes, where=["num_gpus <= 8", "tensor_parallel_size * pipeline_parallel_size * num_replicas >= 4"])
    kept = [(tp, n) for tp in (1, 2, 4) for n in (1, 2, 4, 8) if 4 <= tp * n <= 8]
    assert settings(found) == kept
    assert {reason: one.count for reason, one in found.dropped.items()} == {
        "where num_gpus <= 8": 3,
        "where tensor_parallel_size * pipeline_parallel_size * num_replicas >= 4": 3,
    }


def test_a_condition_cuts_whole_branches() -> None:
    axes = {"num_replicas": {"from": 1, "to": 1000, "step": 1}, "seed": {"from": 1, "to": 1000, "step": 1}}
    found = Space.load({"workload": SMALL, "axes": axes, "where": ["num_replicas == 3", "seed < 3"]}, yes=True)
    assert settings(found) == [(3, 1), (3, 2)]
    assert sum(one.count for one in found.dropped.values()) == 1_000_000 - 2


def test_what_cannot_run_is_dropped_and_counted() -> None:
    axes: dict[str, Any] = {
        "model": ["meta-llama/Llama-2-70b-hf", "meta-llama/Llama-2-7b-hf"],
        "tensor_parallel_size": [1, 3, 4],
    }
    found = space(axes)
    assert settings(found) == [(axes["model"][0], 4), (axes["model"][1], 1), (axes["model"][1], 4)]
    assert {reason: one.count for reason, one in found.dropped.items()} == {"memory": 1, "tensor_parallel_size": 2}
    assert "tensor_parallel_size=1: " in found.dropped["memory"].example


def test_a_configuration_that_duplicates_another_is_left_out() -> None:
    chunks = {"scheduler.policy": ["sarathi"], "scheduler.chunk_size": [None, 512, 256]}
    found = space({**chunks, "num_replicas": [1, 2]})
    assert len(settings(found)) == 4
    assert found.dropped["the same as another"].count == 2


def test_digests_tell_configurations_apart() -> None:
    axes: dict[str, Any] = {"num_replicas": [1, 2], "workload.rate": [1, 2], "scheduler.policy": ["vllm", "sarathi"]}
    digests = [one.digest for one in space(axes).configurations()]
    assert len(set(digests)) == 8
    assert set(digests) == {one.digest for one in space(dict(reversed(axes.items()))).configurations()}


def test_a_batch_gives_what_simulate_gives() -> None:
    found = list(space({"num_replicas": [1, 2], "scheduler.num_blocks": [1, 4000]}).configurations())
    rows = rows_of(found, threads=1)
    assert rows == rows_of(found, threads=3)
    for one, row in zip(found, rows, strict=True):
        assert row["digest"] == one.digest
        assert row["num_replicas"] == one.settings["num_replicas"]
        if one.settings["scheduler.num_blocks"] == 1:
            assert "KV blocks" in row["error"]
            continue
        figures = flatten(fastsim.simulate(one.deployment, one.workload).summary)
        assert row["error"] is None
        assert {name: row[name] for name in ("latency.ttft.p99", "cost.dollars")} == {
            name: figures[name] for name in ("latency.ttft.p99", "cost.dollars")
        }


def test_batches_hold_every_configuration_once_the_largest_first() -> None:
    axes = {"scheduler.max_num_seqs": [16, 32], "seed": {"from": 1, "to": 100, "step": 1}, "num_replicas": [1, 3]}
    found = list(space(axes).configurations())
    batches = cut(found, threads=2)
    assert sorted(one.digest for batch in batches for one in batch.configurations) == sorted(
        one.digest for one in found
    )
    assert all(1 <= len(batch.configurations) <= MOST for batch in batches)
    assert [batch.seconds for batch in batches] == sorted((batch.seconds for batch in batches), reverse=True)
    assert cut([], threads=2) == []


@pytest.mark.parametrize(
    ("text", "truth"),
    [
        ("a + b * 2 == 8", True),
        ("a <= 2 < b", True),
        ("not (a == 2 and c == 'x')", False),
        ("c in ['x', 'y'] and d == null", True),
        ("d == null or d > 3", True),
        ("-a % 3 == 1 and a / 4 == 0.5 and b // 2 == 1", True),
        ("s.t != 4", False),
        ("true and c not in ('x',)", False),
    ],
)
def test_expressions(text: str, truth: bool) -> None:
    assert conditions.parse(text, "here").holds({"a": 2, "b": 3, "c": "x", "d": None, "s.t": 4}) is truth


@pytest.mark.parametrize(
    "text",
    ["a ** b", "a.__class__()", "__import__('os')", "[x for x in a]", "lambda: 1", "a[0]", "a if b else c", "f'{a}'",
     "9 ** 9 ** 9", "a.b(1)", "(1).real + a[0].b", "[*a]", "+a", "~a", "a << 9", "a @ b", "...", "not print()",
     "a; b", "a =", "", "(" * 500, "1 <", "a is b", "x" * 3000, "b'x'", "1j < 2", "{1: 2}", "(a := 3)"],
)  # fmt: skip
def test_what_is_no_condition_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^here: "):
        conditions.parse(text, "here")


@pytest.mark.parametrize(
    "text", ["a + 1", "d > 3", "'x' * 9 == a", "a / 0 > 1", "a and true", "1 % 0 == 2", f"1{'0' * 400} / 3 > 1"]
)
def test_what_is_neither_true_nor_false_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^here: "):
        conditions.parse(text, "here").holds({"a": 2, "d": None})


def test_a_name_is_a_field_and_never_a_builtin_or_an_attribute() -> None:
    condition = conditions.parse("a.__class__ == 1 or __builtins__ == 2 or print == 3", "here")
    assert condition.fields == {"a.__class__", "__builtins__", "print"}
    assert condition.holds({"a": 0, "a.__class__": 0, "__builtins__": 0, "print": 3}) is True


BAD = [
    ("axes: {num_replica: [1]}", "line 1.*'num_replicas'"),
    ("axes: {workload.rats: [1]}", "'workload.rate'"),
    ("axis: {num_replicas: [1]}", "unknown key; did you mean 'axes'"),
    ("axes: {num_replicas: []}", "empty"),
    ("axes: {}", "axes: missing"),
    ("workload: chat", "axes: missing"),
    ("axes: [1]", "not fields and their values"),
    ("axes: {num_replicas: [0]}", "num_replicas: 0 is not a positive integer"),
    ("axes: {num_replicas: ['2']}", "num_replicas: '2' is not a positive integer"),
    ("axes: {scheduler: [{policy: vllm}]}", "scheduler.policy"),
    ("axes: {scheduler.policy: [vlm]}", "'vlm' is unknown; did you mean 'vllm'"),
    ("axes: {num_replicas: {from: 4, to: 1, step: 1}}", "empty"),
    ("axes: {num_replicas: {from: 1, to: 4}}", "one of step, factor and num"),
    ("axes: {num_replicas: {from: 1, to: 4, step: 0}}", "step: 0 does not lead"),
    ("axes: {num_replicas: {from: 1, to: 4, factor: 1}}", "factor: 1 does not lead"),
    ("axes: {num_replicas: {from: 1, to: 4, stop: 1}}", "unknown key; did you mean 'step'"),
    ("axes: {num_replicas: {from: a, to: 4, step: 1}}", "'a' is not a number"),
    ("axes: {num_replicas: {from: 1, to: 1e9, step: 1}}", "1,000,000,000 values"),
    ("axes: {num_replicas: {from: 1, to: 4, num: 3, spacing: log}}", "linear or geometric"),
    ("zip: [{num_replicas: [1, 2], seed: [1]}]", "1 values, and num_replicas has 2"),
    ("axes: {seed: [1]}\nzip: [{seed: [1, 2]}]", "given twice"),
    ("axes: {seed: [1]}\nwhere: [num_gpu < 3]", "line 2.*'num_gpus'"),
    ("axes: {seed: [1]}\nwhere: [3]", "not a condition"),
    ("axes: {seed: [1]}\nwhere: {a: 3}", "not a condition"),
    ("axes: {seed: [1]}\nwhere: scheduler.num_blocks > 3", "null"),
    ("axes: {seed: [1]}\nworkload: {sorce: chat}", "unknown key; did you mean 'source'"),
    ("axes: {seed: [1]}\nworkload: 7", "7 is no workload"),
    ("axes: {seed: [1]}\ndeployment: 7", "neither a file nor fields"),
    ("axes: {seed: [1]}\ndeployment: nowhere.yaml", "nowhere.yaml: no such file"),
    ("axes: {seed: [1]}\ndeployment: {model: x}", "device: missing"),
    ("axes: {seed: [1]}\ndeployment:\n  model: meta-llama/Llama-2-7b-hf\n  devise: a100", "line 4.*'device'"),
    ("axes: {workload.rate: [fast]}", "'fast' is not requests per second"),
    ("axes: {workload.rate: [1, .nan]}", "line 1.*workload.rate: nan is not requests per second"),
    ("axes: {seed: [1]}\nworkload: {rate: fast}", "line 2.*'fast' is not requests per second"),
    ("axes: {workload.num_requests: [10, 2.5]}", "2.5 is not a whole number"),
    ("axes: {workload.seed: [-1]}", "-1 is not an integer from 0"),
    ("axes: {workload: [3]}", "3 is no workload"),
    ("axes: {seed: [1]\n", "not valid YAML"),
    ("", "empty"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), BAD)
def test_bad_spaces_are_refused_in_one_sentence(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "space.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=message.replace("line ", r"space.yaml:")) as caught:
        list(Space.load(file).configurations())
    assert "\n" not in str(caught.value)


def test_an_unknown_model_is_no_combination_to_drop() -> None:
    with pytest.raises(CatalogError, match=r"axes.device: device: 'h10' is unknown; valid: a100"):
        space({"device": ["a100", "h10"]})


def test_a_workload_that_cannot_be_read_is_no_combination_to_drop() -> None:
    with pytest.raises(fastsim.errors.InputError, match=r"nowhere\.csv"):
        list(space({"workload": ["nowhere.csv"]}).configurations())


def test_contradictory_conditions_say_which() -> None:
    found = space({"num_replicas": [1, 2, 3]}, where=["num_replicas > 2", "num_replicas < 2"])
    with pytest.raises(ConfigError, match=r"none of 3 combinations.*2 by where num_replicas > 2.*1 by where num_repli"):
        list(found.configurations())


def test_a_million_by_accident() -> None:
    axes = {name: {"from": 1, "to": 100, "step": 1} for name in ("num_replicas", "seed", "workload.seed")}
    with pytest.raises(ConfigError, match=r"1,000,000 combinations \(100 x 100 x 100\); give --yes"):
        space(axes)
    found = Space.load({"axes": axes, "workload": SMALL}, yes=True)
    assert len(list(itertools.islice(found.configurations(), 3))) == 3

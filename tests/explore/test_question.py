"""Questions go into files, commands and links and come back the same."""

import shlex
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastsim.cli.simulate import simulate
from fastsim.deployment.description import Deployment
from fastsim.errors import ConfigError
from fastsim.explore.opening import first_question, guard
from fastsim.explore.question import Question
from fastsim.files.documents import parse_yaml

SETTINGS = st.fixed_dictionaries(
    {"model": st.sampled_from(["meta-llama/Llama-3.1-8B", "a model/with spaces & more"]), "device": st.just("h200")},
    optional={
        "engine": st.sampled_from(["vllm-0.19", "vllm-0.33"]),
        "tensor_parallel_size": st.integers(2, 8),
        "gpu_memory_utilization": st.floats(0.01, 1),
        "quantization": st.sampled_from(["none", "fp8"]),
        "enforce_eager": st.just(True),
        "scheduler.max_num_seqs": st.integers(1, 9999),
        "scheduler.enable_prefix_caching": st.booleans(),
        "router.policy": st.just("random"),
        "prices.dollars_per_hour": st.sampled_from(["h200=2.1", "h200=2.1,a100=1"]),
    },
)
LOADS = st.one_of(
    st.fixed_dictionaries({}, optional={"rate": st.floats(1e-3, 1e6)}),
    st.fixed_dictionaries({"users": st.integers(1, 1000)}),
)
REQUESTS = st.one_of(
    st.fixed_dictionaries({"workload": st.sampled_from(["chat", "chat=70,code=30", "my requests.csv"])}),
    st.fixed_dictionaries(
        {"workload": st.just(""), "input_len": st.integers(1, 9999), "output_len": st.integers(1, 9999)}
    ),
)
OBJECTIVES = st.lists(st.sampled_from(["ttft:p90<500ms", "tbt:p99<0.1s", "e2e:mean<5s"]), unique=True).map(tuple)
QUESTIONS = st.builds(
    lambda settings, load, requests, number, objectives, too_long: Question(
        settings=settings, **load, **requests, num_requests=number, objectives=objectives, too_long=too_long
    ),
    SETTINGS,
    LOADS,
    REQUESTS,
    st.integers(1, 200_000),
    OBJECTIVES,
    st.sampled_from(["refuse", "drop", "clip"]),
)


def asked(command: list[str]) -> dict[str, Any]:
    """What `fastsim simulate` reads of a command line."""
    assert command[:2] == ["fastsim", "simulate"]
    params = simulate.make_context("simulate", command[2:]).params
    if params["workload"] is None and params["input_len"] is None:
        params["deployment"], params["workload"] = None, params["deployment"]
    return params


def same_requests(params: dict[str, Any], question: Question) -> None:
    assert (params["workload"] or "") == question.workload
    assert params["requests"] == question.num_requests
    assert params["slos"] == question.objectives
    assert params["too_long"] == question.too_long
    for name in ("rate", "users", "input_len", "output_len"):
        assert params[name] == getattr(question, name)


@given(QUESTIONS)
def test_a_link_opens_the_question_that_it_was_copied_from(question: Question) -> None:
    assert Question.from_query(question.query()) == question
    assert first_question(f"http://127.0.0.1:5006/token/?{question.query()}", None) == question


@given(QUESTIONS)
def test_a_question_survives_json(question: Question) -> None:
    assert Question.read(question.as_dict()) == question


@given(QUESTIONS)
def test_a_copied_file_and_its_first_line_ask_the_same(question: Question) -> None:
    text = question.yaml()
    document = parse_yaml(text, "deployment.yaml")
    assert Deployment.load(document.values) == question.deployment
    first = shlex.split(text.partition("\n")[0].removeprefix("# "))
    params = asked(first)
    assert params["deployment"] == "deployment.yaml"
    same_requests(params, question)


@given(QUESTIONS)
def test_a_copied_command_asks_the_same(question: Question) -> None:
    params = asked(shlex.split(question.command()))
    assert Deployment.load(None, params["overrides"]) == question.deployment
    same_requests(params, question)


def test_a_setting_that_is_a_list_makes_a_command_with_a_file_in_it() -> None:
    question = Question.of(Deployment.load(None, ["pp=2", "pipeline_layers=[20, 12]"]))
    first, *lines, last = question.command().splitlines()
    assert first.startswith("fastsim simulate - chat") and first.endswith("<<'END'") and last == "END"
    assert Deployment.load(parse_yaml("\n".join(lines), "").values) == question.deployment


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"rate": "fast"}, "rate: 'fast' is not a number"),
        ({"num_requests": 0}, "num_requests: 0 is not a whole number from 1"),
        ({"num_requests": True}, "num_requests: True is not a whole number"),
        ({"objectives": "ttft"}, "objectives: 'ttft' is no list"),
        ({"too_long": "keep"}, "too_long: 'keep' is"),
        ({"settings": []}, "settings: [] are no fields"),
        ({"rates": 1}, "rates: unknown; did you mean 'rate'?"),
    ],
)
def test_what_is_no_question_is_refused_in_a_sentence(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Question.read(given)
    assert str(refused.value).startswith(sentence)


@pytest.mark.parametrize(
    "settings",
    [
        {"scheduler.policy": "mine.py:policy"},
        {"scheduler": {"policy": "mine.py:policy"}},
        {"router.policy": "mine.py:policy"},
        {"router": {"policy": "mine.py:policy"}},
    ],
)
def test_a_link_runs_no_code(settings: dict[str, Any]) -> None:
    plain = Question.of(Deployment.load(None))
    mine = plain.with_settings(settings)
    for each in (mine, Question.from_query(mine.query())):
        with pytest.raises(ConfigError, match="Python code"):
            guard(plain)(each)
    guard(mine)(mine)
    guard(plain)(plain.with_settings({"scheduler": "nothing"}))  # is not valid, and runs nothing

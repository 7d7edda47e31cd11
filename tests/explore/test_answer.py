"""Answers are results of ``fastsim.simulate``, to the bit, and better configurations are better."""

from dataclasses import replace

import pytest
from bokeh.models import ColumnDataSource

import fastsim
from fastsim.errors import InputError
from fastsim.explore import better, view
from fastsim.explore.answer import Answers, answer
from fastsim.explore.question import Question
from fastsim.report.page.picture import Picture

SMALL = Question.of(fastsim.Deployment(model="llama-3-8b", device="h100"), rate=4.0, num_requests=200)


@pytest.mark.parametrize(
    "question",
    [
        SMALL,
        replace(SMALL, workload="chat=70,code=30", objectives=("ttft:p90<500ms",)),
        replace(SMALL, rate=None, users=8).with_settings({"scheduler.max_num_seqs": 4, "tensor_parallel_size": 2}),
    ],
)
def test_an_answer_is_that_of_simulate(question: Question) -> None:
    requests = fastsim.load_workload(question.workload, rate=question.rate, users=question.users, num_requests=200)
    expected = fastsim.simulate(question.deployment, requests, objectives=question.objectives)
    found = answer(question)
    assert found.requests.equals(expected.requests)
    assert {**found.summary, "timing": None} == {**expected.summary, "timing": None}


def test_fixed_lengths_are_answered() -> None:
    found = answer(replace(SMALL, workload="", input_len=100, output_len=10))
    assert set(found.column("num_prompt_tokens").tolist()) == {100}


def test_an_answer_is_remembered() -> None:
    answers = Answers()
    assert answers.of(SMALL) is answers.of(replace(SMALL))
    assert answers.of(replace(SMALL, rate=5.0)) is not answers.of(SMALL)


def test_a_figure_that_is_drawn_takes_over_data_of_the_same_shape() -> None:
    """Another answer has pictures of the same shapes, whose data are columns that the drawn sources have."""
    shown = [view.sections(view.runs_of(answer(replace(SMALL, rate=rate)), None)) for rate in (4.0, 5.0)]
    pictures = [[figure.figure for tabs in each.values() for _, figure in tabs] for each in shown]
    assert len(pictures[0]) > 10
    for mine, theirs in zip(*pictures, strict=True):
        assert isinstance(mine, Picture) and isinstance(theirs, Picture)
        assert mine.shape == theirs.shape
        sources = {model.name: model for model in mine.draw().references() if isinstance(model, ColumnDataSource)}
        for number, columns in enumerate(theirs.columns):
            assert set(sources[f"layer{number}"].data) == set(columns)


@pytest.mark.parametrize("rate", [2.0, 40.0])
def test_what_is_offered_is_better(rate: float) -> None:
    question = replace(SMALL, rate=rate, objectives=("ttft:p90<200ms",)).with_settings({"num_replicas": 2})
    now = better.judge(question)
    assert now is not None
    tried = [(each, better.judge(question.with_settings(each.settings))) for each in better.neighbours(question)[:6]]
    offered = better.better(question, now, tried)
    assert offered
    for each in offered:
        found = better.judge(each.question)
        assert found is not None
        assert found.missed < now.missed or (
            found.missed == now.missed
            and (found.price < now.price or (found.price == now.price and found.e2e < now.e2e))
        )


def test_what_cannot_run_is_refused_as_by_simulate() -> None:
    with pytest.raises(InputError, match="tensor_parallel_size: 3 does not divide"):
        answer(SMALL.with_settings({"tensor_parallel_size": 3}))
    assert better.judge(SMALL.with_settings({"tensor_parallel_size": 3})) is None

"""Objectives: parsing and writing them, refusing text that is none, and judging a summary by them."""

import numpy as np
import pytest

from fastsim.errors import ConfigError
from fastsim.result.metrics.definitions import flatten
from fastsim.result.metrics.goodput import judge
from fastsim.result.metrics.objectives import DEFAULTS, Objective, met, parse, parse_all, value

SUMMARY = {
    "latency": {"ttft": {"p90": 1.5, "p99": None}},
    "totals": {"requests": 3},
    "objectives": {"ttft:p90<2s": {"met": True}},
    "warnings": ["text"],
    "timing": {"total_s": 1.0},
}


@pytest.mark.parametrize(
    ("text", "objective"),
    [
        ("ttft:p90<2s", Objective("ttft", "p90", 2.0)),
        ("tbt:p99<200ms", Objective("tbt", "p99", 0.2)),
        (" TBT : P99.9 <= 1.5 S ", Objective("tbt", "p999", 1.5)),
        ("itl:max<250us", Objective("tbt", "max", 250e-6)),
        ("e2e:mean<1e-1min", Objective("e2e", "mean", 6.0)),
    ],
)
def test_an_objective_is_read_and_written(text: str, objective: Objective) -> None:
    parsed = parse(text)
    assert (parsed.metric, parsed.statistic) == (objective.metric, objective.statistic)
    assert parsed.limit == pytest.approx(objective.limit)
    assert parse(str(parsed)) == parsed


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ttft:p90<2", "the limit has no unit; did you mean '2s'?"),
        ("tbt:p99<200", "did you mean '200ms'?"),
        ("tttf:p90<2s", "no metric 'tttf'; did you mean 'ttft'?"),
        ("ttft:p98<2s", "no statistic 'p98'; did you mean 'p99'?"),
        ("ttft:meen<2s", "did you mean 'mean'?"),
        ("ttft<2s", "did you mean 'ttft:p99<2s'?"),
        ("ttft:p90<2h", "no unit 'h'; valid: us, ms, s, min"),
        ("ttft:p90>2s", "write <"),
        ("ttft:p90<0s", "must be above 0"),
        ("ttft:p90<-1s", "must be above 0"),
        ("ttft:p90<1e999s", "must be above 0"),
        ("ttft:p90<--s", "'--' is not a number"),
        ("", "is not metric:statistic<limit"),
        ("ttft p90 2s", "is not metric:statistic<limit"),
    ],
)
def test_other_text_is_refused_with_a_hint(text: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text, "--slo")
    assert words in str(caught.value)
    assert str(caught.value).startswith("--slo: ")
    assert "\n" not in str(caught.value)


def test_an_objective_is_met_or_missed_or_not_measured() -> None:
    assert value(parse("ttft:p90<2s"), SUMMARY) == 1.5
    assert met(parse("ttft:p90<2s"), SUMMARY) is True
    assert met(parse("ttft:p90<1.5s"), SUMMARY) is False
    assert met(parse("ttft:p99<2s"), SUMMARY) is None
    assert met(parse("tbt:p99<2s"), SUMMARY) is None


def test_the_defaults_are_vidurs() -> None:
    assert [str(objective) for objective in DEFAULTS] == ["scheduling_delay:p99<5s", "ttft:p90<2s", "tbt:p99<200ms"]
    assert parse_all(["ttft:p90<2s", "ttft:p90<2000ms"]) == (DEFAULTS[1],)


def test_a_summary_is_flat_by_dotted_key() -> None:
    assert flatten(SUMMARY) == {
        "latency.ttft.p90": 1.5,
        "latency.ttft.p99": None,
        "totals.requests": 3,
        "objectives.ttft:p90<2s.met": 1,
    }


def test_goodput_counts_requests_that_meet_everything() -> None:
    nan = np.nan
    columns = {
        "arrived_at": np.array([0.0, 1, 2, 3, 4]),
        "finished_at": np.array([5.0, 6, 7, 8, nan]),
        "ttft": np.array([1.0, 1, 3, 1, nan]),
        "tpot": np.array([0.1, 0.3, 0.1, nan, nan]),
    }
    latency = {"ttft": {"p90": 2.4}, "tbt": {"p99": 0.1}}
    summary = {"latency": latency, "totals": {"span_s": 10.0}}
    judged = judge(parse_all(["ttft:p90<2s", "tbt:p99<200ms"]), columns, summary)
    assert judged["goodput"] == {"share": 0.4, "requests_per_s": 0.2}  # the first and the fourth, which has one token
    assert judged["objectives"]["ttft:p90<2s"] == {"value": 2.4, "limit": 2.0, "met": False, "share": 0.6}
    assert judged["objectives"]["tbt:p99<200ms"] == {"value": 0.1, "limit": 0.2, "met": True, "share": 0.8}
    windowed = {**summary, "excluded": {"warm_up_s": 1.0, "cool_down_s": 1.0}}
    assert judge(parse_all(["ttft:p90<2s"]), columns, windowed)["goodput"] == {"share": 2 / 3, "requests_per_s": 1.0}


def test_goodput_without_requests() -> None:
    columns = {name: np.zeros(0) for name in ("arrived_at", "finished_at", "ttft")}
    judged = judge(parse_all(["ttft:p90<2s"]), columns, {"latency": {}, "totals": {"span_s": 0.0}})
    assert judged["goodput"] == {"share": None, "requests_per_s": None}
    assert judged["objectives"]["ttft:p90<2s"]["met"] is None

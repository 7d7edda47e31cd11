"""The value, the presets, and what load makes of its arguments."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from streams import HEADER, SHARED, file, lengths, needs_shared

from fastsim.errors import InputError, WorkloadError
from fastsim.workload import Workload, presets
from fastsim.workload.loading import load, synthesise


def test_value_is_checked_and_frozen() -> None:
    stream = Workload(np.array([0, 1]), np.array([1.0, 2.0]), np.array([3, 4]))
    assert stream.num_prompt_tokens.dtype == np.int64
    columns = stream.arrived_at, stream.num_prompt_tokens, stream.num_output_tokens
    assert not any(column.flags.writeable for column in columns)
    with pytest.raises(WorkloadError, match="num_output_tokens has 1 values and arrived_at 2"):
        Workload(np.array([0.0, 1.0]), np.array([1, 2]), np.array([3]))
    with pytest.raises(WorkloadError, match="arrived_at holds no requests"):
        Workload(np.array([]), np.array([]), np.array([]))
    with pytest.raises(WorkloadError, match=r"of type .* not numbers"):
        Workload(np.array([0.0]), np.array(["1"]), np.array([3]))


def test_digest_tells_streams_apart() -> None:
    def stream(**changes: Any) -> Workload:
        base: dict[str, Any] = {
            "arrived_at": np.array([0.0, 1.0]),
            "num_prompt_tokens": np.array([1, 2]),
            "num_output_tokens": np.array([3, 4]),
        }
        return Workload(**(base | changes))

    assert stream().digest == stream(name="other").digest
    others = [
        stream(arrived_at=np.array([0.0, np.nextafter(1.0, 2)])),
        stream(num_prompt_tokens=np.array([3, 4]), num_output_tokens=np.array([1, 2])),
        stream(replica_id=np.array([0, 0])),
        stream(replica_id=np.array([0, 1])),
    ]
    assert len({stream().digest, *(other.digest for other in others)}) == 5


def test_first_requests_and_another_rate(tmp_path: Path) -> None:
    path = file(tmp_path, HEADER + "10,5,1\n11,6,1\n14,7,1\n20,8,1\n")
    head = load(path, num_requests=3)
    assert head.num_prompt_tokens.tolist() == [5, 6, 7]
    assert head.arrived_at.tolist() == [10, 11, 14]
    fast = load(path, num_requests=3, rate=1.0)
    assert fast.arrived_at.tolist() == [10, 10.5, 12]
    assert load(path, rate=7.0).rate == pytest.approx(7.0, rel=1e-12)
    assert load(head, rate=1.0).digest == fast.digest
    with pytest.raises(WorkloadError, match="num_requests: 5 cannot be taken from 4 requests"):
        load(path, num_requests=5)
    once = file(tmp_path, HEADER + "3,5,1\n3,6,1\n", "once.csv")
    with pytest.raises(WorkloadError, match=r"rate: 2 cannot be reached by stretching, as all requests .* \(3 s\)"):
        load(once, rate=2.0)


@pytest.mark.parametrize("spec", ["chat", lengths()])
@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"rate": -1.0}, "rate: -1.0 is not requests per second"),
        ({"rate": float("nan")}, "rate: nan is not"),
        ({"num_requests": 0}, "num_requests: 0 is not a whole number from 1"),
        ({"seed": -1}, "seed: -1 is not an integer from 0"),
    ],
)
def test_refused_wishes(spec: Any, asked: dict[str, Any], said: str) -> None:
    for draw in (load, synthesise):
        with pytest.raises(InputError, match=f"^{said}"):
            draw(spec, **asked)


def test_describe_figures() -> None:
    stream = Workload(np.array([1.0, 2.0, 5.0]), np.array([10, 20, 60]), np.array([5, 5, 5]), name="three")
    figures = stream.describe()
    assert json.loads(json.dumps(figures)) == figures
    assert (figures["num_requests"], figures["span_s"], figures["rate_per_s"]) == (3, 4.0, 0.5)
    assert figures["gap_cv"] == 0.5
    expected = {"mean": 30.0, "median": 20.0, "p90": 52.0, "max": 60, "total": 90}
    assert {key: figures["num_prompt_tokens"][key] for key in expected} == pytest.approx(expected)
    assert figures["num_tokens"]["total"] == 105
    assert figures["prompt_output_ratio"]["median"] == 4.0
    alone = Workload(np.array([1.0]), np.array([10]), np.array([5])).describe()
    assert alone["rate_per_s"] is None
    assert alone["gap_cv"] is None


# Published: Table 1 of the Vidur paper (arXiv 2405.05465v2); code: the Azure trace's own figures.

PUBLISHED = {
    "chat": ((686, 417, 1678), (197, 139, 484), 2.3),
    "summarisation": ((2588, 2730, 3702), (291, 167, 372), 15.7),
    "translation": ((1067, 1037, 1453), (1612, 1601, 2149), 0.65),
    "code": ((2047.848, 1469, 5187.6), (27.883, 13, 55), 91.8),
}


def figures_of(tokens: np.ndarray[Any, Any]) -> tuple[float, float, float]:
    return float(tokens.mean()), float(np.median(tokens)), float(np.quantile(tokens, 0.9))


@pytest.mark.parametrize("name", PUBLISHED)
def test_presets_match_the_published_figures(name: str) -> None:
    prompt, output, ratio = PUBLISHED[name]
    stream = load(name, num_requests=100_000)
    assert figures_of(stream.num_prompt_tokens) == pytest.approx(prompt, rel=0.03)
    assert figures_of(stream.num_output_tokens) == pytest.approx(output, rel=0.03)
    assert np.median(stream.num_prompt_tokens / stream.num_output_tokens) == pytest.approx(ratio, rel=0.15)
    if name != "code":
        assert (stream.num_prompt_tokens + stream.num_output_tokens).max() <= 4096


@pytest.mark.parametrize(
    ("name", "number", "figures"), [("agent", 23_608, (8596, 182, 0.59)), ("retrieval", 3993, (15_325, 149, 0.66))]
)
def test_presets_with_prefixes_match_the_published_figures(
    name: str, number: int, figures: tuple[float, float, float]
) -> None:
    """Table 2 of the Mooncake paper: mean prompt and output, and the share of tokens that a cache hits."""
    stream = load(name, num_requests=number)
    assert stream.hit_curve is not None
    means = stream.num_prompt_tokens.mean(), stream.num_output_tokens.mean()
    assert (*means, stream.hit_curve.share()) == pytest.approx(figures, rel=0.03)


def test_reasoning_has_the_lengths_of_a_benchmark() -> None:
    stream = load("reasoning", num_requests=20_000)
    assert (stream.num_prompt_tokens.min(), stream.num_prompt_tokens.max()) == (819, 1024)
    assert (stream.num_output_tokens.min(), stream.num_output_tokens.max()) == (6553, 8192)


def test_presets_by_default() -> None:
    assert presets() == ("agent", "chat", "code", "reasoning", "retrieval", "summarisation", "translation")
    stream = load("chat", rate=2.0, num_requests=5000, seed=1)
    assert (stream.num_requests, stream.name) == (5000, "chat")
    assert stream.rate == pytest.approx(2.0, rel=0.05)
    assert load("chat").num_requests == 1000
    assert load("chat", rate=2.0).digest == load("chat").digest


@needs_shared
def test_published_figures_are_those_of_the_paper() -> None:
    lines = (SHARED / "groundtruth" / "vidur_paper" / "workloads.csv").read_text().splitlines()
    for name, line in zip(("chat", "summarisation", "translation"), lines[1:], strict=True):
        figures = [float(cell) for cell in line.split(",")[2:9]]
        prompt, output, ratio = PUBLISHED[name]
        assert figures == [*prompt, *output, ratio]


@pytest.mark.parametrize(
    ("start", "unit", "factor"),
    [
        (1.7e12, "milliseconds", "1,000"),
        (1.7e15, "microseconds", "1,000,000"),
        (1.7e18, "nanoseconds", "1,000,000,000"),
    ],
)
def test_times_in_another_unit_are_refused_with_a_hint(start: float, unit: str, factor: str) -> None:
    """At such times float64 no longer tells two iterations apart, and every latency would be wrong."""
    with pytest.raises(
        WorkloadError, match=f"data row 1: .* {unit} since 1970, so divide them by {factor}, or say unit"
    ):
        Workload(start + np.arange(3.0), np.full(3, 100), np.full(3, 10))


def test_a_rate_whose_arrivals_no_run_could_reach_is_refused() -> None:
    with pytest.raises(WorkloadError, match=r"arrived_at: .* is not a time in seconds from 0 to 1e\+10"):
        load("chat", rate=1e-9, num_requests=20)

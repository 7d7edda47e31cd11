"""Workloads drawn from a description: their distributions, their random streams, and what is refused."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from streams import FIXED, HEADER, POISSON, ROWS, file, lengths

from fastsim.errors import ConfigError, TooLargeError, WorkloadError
from fastsim.files import memory
from fastsim.workload import Workload
from fastsim.workload.loading import load, synthesise

SPAN = {"min": 10, "max": 13}
KNOTS: dict[str, Any] = {"probability": [0.1, 0.5, 0.9], "tokens": [50, 400, 1600]}
DRAWN: dict[str, dict[str, Any]] = {
    "fixed": FIXED,
    "uniform": {"kind": "uniform", "num_prompt_tokens": SPAN, "num_output_tokens": {"min": 1, "max": 1}},
    "zipf": {"kind": "zipf", "num_prompt_tokens": SPAN, "num_output_tokens": SPAN, "exponent": 1.0},
    "quantiles": {"kind": "quantiles", "num_prompt_tokens": KNOTS, "num_output_tokens": KNOTS, "correlation": 0.6},
}


@pytest.mark.parametrize("gaps", [POISSON, {"kind": "gamma", "rate": 2.0, "cv": 2.5}, {"kind": "static", "rate": 2.0}])
@pytest.mark.parametrize("kind", DRAWN)
def test_common_random_numbers(kind: str, gaps: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Another rate keeps the lengths and stretches the gaps; a longer stream begins with the shorter one."""
    for module in ("tokens", "arrivals"):
        monkeypatch.setattr(f"fastsim.workload.{module}.SLICE", 64)
    spec = {"lengths": DRAWN[kind], "gaps": gaps, "num_requests": 300, "seed": 5}
    slow, fast, short = load(spec), load(spec, rate=8.0), load(spec, num_requests=77)
    np.testing.assert_allclose(slow.arrived_at, 4 * fast.arrived_at, rtol=1e-14)
    assert (slow.num_prompt_tokens == fast.num_prompt_tokens).all()
    assert (slow.num_output_tokens == fast.num_output_tokens).all()
    assert slow.head(77).digest == short.digest
    assert load(spec).digest == slow.digest
    if kind != "fixed" and gaps["kind"] != "static":
        assert synthesise(spec, seed=6).digest != slow.digest


def test_other_lengths_keep_the_gaps() -> None:
    times = [load({"lengths": DRAWN[kind], "gaps": POISSON}).arrived_at for kind in DRAWN]
    assert all((one == times[0]).all() for one in times)


def test_gaps_do_not_know_the_lengths() -> None:
    """From one random stream the first gap and the first length would rise together, seed by seed."""
    wide = {"min": 1, "max": 1000}
    spec = {"lengths": {"kind": "uniform", "num_prompt_tokens": wide, "num_output_tokens": wide}, "gaps": POISSON}
    first = [load(spec, num_requests=1, seed=seed) for seed in range(300)]
    columns = [[one.arrived_at[0], one.num_prompt_tokens[0], one.num_output_tokens[0]] for one in first]
    assert abs(np.corrcoef(np.array(columns).T) - np.eye(3)).max() < 0.2


def test_whose_seed_counts() -> None:
    own = lengths() | {"seed": 4}
    assert load(own, seed=9).digest == load(lengths(), seed=4).digest
    assert synthesise(own, seed=9).digest == load(lengths(), seed=9).digest
    assert synthesise(own).digest == load(own).digest
    assert load("chat").digest == load("chat", seed=0).digest != load("chat", seed=1).digest


def test_gaps_have_the_asked_moments() -> None:
    number = 200_000
    for gaps, spread in ((POISSON, 1.0), ({"kind": "gamma", "rate": 2.0, "cv": 2.5}, 2.5)):
        drawn = np.diff(load({"lengths": FIXED, "gaps": gaps, "num_requests": number}).arrived_at, prepend=0.0)
        assert drawn.mean() == pytest.approx(0.5, rel=0.02)
        assert drawn.std() / drawn.mean() == pytest.approx(spread, rel=0.03)
    poisson = np.diff(load({"lengths": FIXED, "gaps": POISSON, "num_requests": number}).arrived_at)
    # Not cut at 3/rate, as Vidur's are: a share of exp(-3) is longer, exp(-8) than 4 s.
    assert (poisson > 1.5).mean() == pytest.approx(np.exp(-3), rel=0.05)
    assert (poisson > 4.0).mean() == pytest.approx(np.exp(-8), rel=0.4)


def test_static_gaps() -> None:
    at_once = {"lengths": FIXED, "gaps": {"kind": "static"}, "num_requests": 3}
    assert load(at_once).arrived_at.tolist() == [0, 0, 0]
    assert load(at_once, rate=4.0).arrived_at.tolist() == [0.25, 0.5, 0.75]


def test_lengths_have_the_asked_distribution() -> None:
    def drawn(kind: str) -> Workload:
        return load({"lengths": DRAWN[kind], "gaps": POISSON, "num_requests": 100_000})

    uniform, zipf, quantiles = drawn("uniform"), drawn("zipf"), drawn("quantiles")
    shares = np.bincount(uniform.num_prompt_tokens)[10:] / 100_000
    np.testing.assert_allclose(shares, 0.25, atol=0.006)
    assert set(uniform.num_output_tokens) == {1}
    weights = 1 / np.arange(1, 5)
    np.testing.assert_allclose(np.bincount(zipf.num_output_tokens)[10:] / 100_000, weights / weights.sum(), atol=0.006)
    for tokens in (quantiles.num_prompt_tokens, quantiles.num_output_tokens):
        np.testing.assert_allclose(np.quantile(tokens, [0.11, 0.5, 0.89]), [53, 400, 1500], rtol=0.04)
        assert (tokens.min(), tokens.max()) == (50, 1600)
    prompts, outputs = (np.argsort(np.argsort(t)) for t in (quantiles.num_prompt_tokens, quantiles.num_output_tokens))
    assert np.corrcoef(prompts, outputs)[0, 1] == pytest.approx(
        0.58, abs=0.03
    )  # 6/pi asin(0.6/2), less at the flat ends


@given(prompt=st.integers(1, 10_000_000), output=st.integers(1, 10_000_000), most=st.integers(2, 20_000_000))
@settings(max_examples=200, deadline=None)
def test_long_requests_shrink_in_proportion(prompt: int, output: int, most: int) -> None:
    spec = lengths(num_prompt_tokens=prompt, num_output_tokens=output) | {"max_tokens": most, "num_requests": 2}
    stream = load(spec)
    new_prompt, new_output = int(stream.num_prompt_tokens[1]), int(stream.num_output_tokens[1])
    if prompt + output <= most:
        assert (new_prompt, new_output) == (prompt, output)
    else:
        assert new_prompt + new_output == most
        assert abs(new_output - output * most / (prompt + output)) <= 1


def test_more_requests_than_fit_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda: 20 * 2**30)
    said = (
        "^num_requests: 1,000,000,000 requests need about 45 GiB of memory, and 20 GiB are free for them; at most 440"
    )
    with pytest.raises(TooLargeError, match=said):
        load(lengths(), num_requests=10**9)
    with pytest.raises(TooLargeError, match=said):
        load(lengths() | {"num_requests": 10**9})


def test_lengths_and_gaps_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("tokens", "arrivals"):
        monkeypatch.setattr(f"fastsim.workload.{module}.SLICE", 4)
    file(tmp_path, "num_prefill_tokens,num_decode_tokens\n5,1\n6,2\n7,3\n", "lengths.csv")
    file(tmp_path, "arrived_at\n10\n11\n14\n", "times.csv")
    text = "lengths: {kind: trace, file: lengths.csv, order: file}\ngaps: {kind: trace, file: times.csv}\n"
    spec = file(tmp_path, text + "num_requests: 7\n", "spec.yaml")
    stream = load(spec)
    assert stream.num_prompt_tokens.tolist() == [5, 6, 7, 5, 6, 7, 5]
    assert stream.arrived_at.tolist() == [0, 1, 4, 6, 7, 10, 12]  # mean gap 2 before it begins again
    assert load(spec, rate=1.0).arrived_at.tolist() == [0, 0.5, 2, 3, 3.5, 5, 6]
    assert load(spec, num_requests=2).arrived_at.tolist() == [0, 1]
    shuffled = load(file(tmp_path, text.replace(", order: file", ""), "random.yaml"), num_requests=3000)
    pairs = set(zip(shuffled.num_prompt_tokens.tolist(), shuffled.num_output_tokens.tolist(), strict=True))
    assert pairs == {(5, 1), (6, 2), (7, 3)}
    assert (shuffled.num_prompt_tokens == 6).mean() == pytest.approx(1 / 3, abs=0.04)
    file(tmp_path, "arrived_at\n10\n", "times.csv")
    with pytest.raises(WorkloadError, match=r"times\.csv: all requests arrive at once"):
        load(spec)
    (tmp_path / "lengths.csv").unlink()
    with pytest.raises(WorkloadError, match=r"lengths\.csv: no such file"):
        load(spec)


def test_forms_of_a_description(tmp_path: Path) -> None:
    spec = lengths() | {"seed": 3, "num_requests": 20}
    digest = load(spec).digest
    toml = 'num_requests = 20\nseed = 3\n[lengths]\nkind = "fixed"\nnum_prompt_tokens = 512\nnum_output_tokens = 128\n'
    toml += '[gaps]\nkind = "poisson"\nrate = 2.0\n'
    assert load(file(tmp_path, json.dumps(spec), "spec.json")).digest == digest
    assert load(file(tmp_path, json.dumps(spec), "spec.yaml")).digest == digest
    assert load(file(tmp_path, toml, "spec.toml")).digest == digest
    assert load({"lengths": FIXED, "num_requests": 20, "seed": 3}, rate=2.0).digest == digest


REFUSED_SPECS: list[tuple[Callable[[dict[str, Any]], dict[str, Any]], str]] = [
    (lambda s: {"gaps": POISSON}, "lengths: missing (e.g. kind: fixed)"),
    (lambda s: s | {"lengths": "fixed"}, "lengths: 'fixed' is not a group of settings"),
    (lambda s: s | {"lengths": {}}, "lengths: kind is missing; valid: fixed, uniform"),
    (lambda s: s | {"lengths": FIXED | {"kind": "unifrom"}}, "lengths.kind: 'unifrom' is unknown; did you mean 'unif"),
    (lambda s: s | {"lengths": FIXED | {"kind": ["fixed"]}}, "lengths.kind: ['fixed'] is unknown"),
    (lambda s: s | {"gaps": {"kind": "poison", "rate": 1}}, "gaps.kind: 'poison' is unknown; did you mean 'poisson'?"),
    (lambda s: s | {"gaps": {"kind": "poisson"}}, "gaps.rate: missing (e.g. 2.0)"),
    (lambda s: {"lengths": FIXED}, "gaps.rate: missing (e.g. 2.0)"),
    (lambda s: s | {"gaps": {"kind": "poisson", "rate": 0}}, "gaps.rate: 0 is not requests per second"),
    (lambda s: s | {"gaps": {"kind": "gamma", "rate": 1, "cv": float("nan")}}, "gaps.cv: nan is not a number from"),
    (lambda s: s | {"gap": POISSON}, "gap: unknown key; did you mean 'gaps'?"),
    (lambda s: lengths(num_promt_tokens=5), "lengths.num_promt_tokens: unknown key; did you mean 'num_prompt_tokens'?"),
    (lambda s: lengths(num_prompt_tokens=0), "lengths.num_prompt_tokens: 0 is not a whole number from 1 to 10 million"),
    (lambda s: lengths(num_prompt_tokens="5"), "lengths.num_prompt_tokens: '5' is not a whole number"),
    (lambda s: lengths(num_prompt_tokens=True), "lengths.num_prompt_tokens: True is not a whole number"),
    (lambda s: s | {"num_requests": 1.5}, "num_requests: 1.5 is not a whole number from 1 to 1e9 (e.g. 1000)"),
    (lambda s: s | {"max_tokens": 1}, "max_tokens: 1 is not a whole number from 2"),
    (lambda s: s | {"seed": "x"}, "seed: 'x' is not an integer from 0 (e.g. 0)"),
    (
        lambda s: s | {"lengths": DRAWN["uniform"] | {"num_prompt_tokens": {"min": 9, "max": 3}}},
        "lengths.num_prompt_tokens: {'min': 9, 'max': 3} is not a range whose min is at most its max (e.g. {",
    ),
    (
        lambda s: s | {"lengths": DRAWN["quantiles"] | {"num_prompt_tokens": KNOTS | {"tokens": [5, 4, 3]}}},
        "lengths.num_prompt_tokens.tokens: [5, 4, 3] is not ascending whole numbers",
    ),
    (
        lambda s: s | {"lengths": DRAWN["quantiles"] | {"num_prompt_tokens": KNOTS | {"tokens": [5, 6]}}},
        "is not quantiles: as many tokens as different probabilities",
    ),
    (
        lambda s: s | {"lengths": DRAWN["quantiles"] | {"num_output_tokens": KNOTS | {"probability": ["a", 1]}}},
        "lengths.num_output_tokens.probability: ['a', 1] is not ascending probabilities",
    ),
]


@pytest.mark.parametrize(("spoil", "said"), REFUSED_SPECS)
def test_refused_descriptions(spoil: Callable[[dict[str, Any]], dict[str, Any]], said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)) as refused:
        load(spoil(lengths()))
    assert "\n" not in str(refused.value)


def test_refused_description_names_file_and_line(tmp_path: Path) -> None:
    path = file(tmp_path, "lengths:\n  kind: fixed\n  num_prompt_tokens: 0\n  num_output_tokens: 5\n", "spec.yaml")
    with pytest.raises(ConfigError, match=re.escape(f"{path}:3: lengths.num_prompt_tokens: 0 is not")):
        load(path, rate=1.0)
    with pytest.raises(ConfigError, match="neither a preset nor a description"):
        synthesise(file(tmp_path, HEADER + ROWS))

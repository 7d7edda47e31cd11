"""Lengths of prompts and outputs, each against its law; and what is refused."""

import re
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from laws import Floats, far, normal
from streams import POISSON, file

from fastsim.errors import ConfigError, WorkloadError
from fastsim.workload import Workload
from fastsim.workload.loading import load

NUMBER = 30_000
BELL: dict[str, Any] = {"mean": 100, "std": 80, "min": 20, "max": 150}
LOG: dict[str, Any] = {"median": 300, "sigma": 1.0, "max": 2000}
BINS: dict[str, Any] = {"edges": [1, 11, 101, 1001], "weights": [2, 0, 6]}


def drawn(kind: str, prompt: dict[str, Any], output: dict[str, Any] | None = None, **more: Any) -> Workload:
    lengths = {"kind": kind, "num_prompt_tokens": prompt, "num_output_tokens": output or prompt} | more
    return load({"lengths": lengths, "gaps": POISSON, "num_requests": NUMBER, "seed": 1})


def truncated(scores: Floats, low: float, high: float) -> Floats:
    """The cdf of the standard normal distribution between two limits."""
    first, last = normal(np.array([low, high]))
    law: Floats = (normal(scores) - first) / (last - first)
    return law


def test_normal_lengths() -> None:
    stream = drawn("normal", BELL)
    for tokens in (stream.num_prompt_tokens, stream.num_output_tokens):
        assert (tokens.min(), tokens.max()) == (20, 150)
        assert far(tokens, lambda k: truncated((k - 99.5) / 80, -80.5 / 80, 50.5 / 80)) < 1.95
        assert far(tokens, lambda k: truncated((k - 104.5) / 80, -85.5 / 80, 45.5 / 80)) > 1.95
    assert drawn("normal", {"mean": 100, "std": 5}).num_prompt_tokens.mean() == pytest.approx(100, rel=0.01)


@pytest.mark.parametrize("given", [{"median": 300}, {"mean": 300 * np.exp(0.5)}])
def test_lognormal_lengths(given: dict[str, Any]) -> None:
    tokens = drawn("lognormal", {"sigma": 1.0, "max": 2000} | given).num_output_tokens

    def law(k: Floats) -> Floats:
        return truncated(np.log(k + 0.5) - log(300), log(0.5 / 300), log(2000.5 / 300))

    assert far(tokens, law) < 1.95
    assert far(np.rint(tokens * 1.05), law) > 1.95
    assert drawn("lognormal", {"sigma": 0.5, "mean": 400}).num_prompt_tokens.mean() == pytest.approx(400, rel=0.02)


def test_a_histogram() -> None:
    stream = drawn("empirical", BINS)
    for tokens in (stream.num_prompt_tokens, stream.num_output_tokens):
        assert far(tokens, lambda k: np.interp(k, [0, 10, 100, 1000], [0, 0.25, 0.25, 1])) < 1.95
        assert not ((tokens > 10) & (tokens < 101)).any()
        assert (tokens.min(), tokens.max()) == (1, 1000)


@pytest.mark.parametrize(("kind", "law"), [("normal", BELL), ("lognormal", LOG), ("empirical", BINS)])
def test_correlation_joins_prompt_and_output(kind: str, law: dict[str, Any]) -> None:
    """Spearman's correlation of a Gaussian copula is 6/pi asin(r/2)."""
    for correlation in (-0.8, 0.0, 0.6):
        stream = drawn(kind, law, correlation=correlation)
        expected = 6 / np.pi * np.arcsin(correlation / 2)
        assert ranked(stream.num_prompt_tokens, stream.num_output_tokens) == pytest.approx(expected, abs=0.02)


def ranked(first: np.ndarray[Any, Any], second: np.ndarray[Any, Any]) -> float:
    """The correlation of ranks."""
    one, other = (np.argsort(np.argsort(values, kind="stable")) - (len(values) - 1) / 2 for values in (first, second))
    return float(one @ other / (one @ one))


def trace(folder: Path) -> tuple[str, np.ndarray[Any, Any]]:
    """A file of 500 requests whose outputs fall as their prompts rise, and its lengths, int64[2, 500]."""
    rng = np.random.default_rng(0)
    prompts = np.rint(np.exp(rng.normal(7, 1, 500))).astype(int)
    outputs = np.rint(100_000 / prompts * np.exp(rng.normal(0, 1, 500))).astype(int) + 1
    rows = "".join(f"{prompt},{output}\n" for prompt, output in zip(prompts, outputs, strict=True))
    name = file(folder, "num_prefill_tokens,num_decode_tokens\n" + rows, "lengths.csv")
    return name, np.array([prompts, outputs])


def test_a_copula_keeps_marginals_and_ranks_and_copies_no_row(tmp_path: Path) -> None:
    name, known = trace(tmp_path)
    spec = {"lengths": {"kind": "copula", "file": name}, "gaps": POISSON, "num_requests": NUMBER}
    stream = load(spec)
    both = np.array([stream.num_prompt_tokens, stream.num_output_tokens])
    for tokens, values in zip(both, known, strict=True):
        grid = np.sort(values)
        cdf = np.searchsorted(np.sort(tokens), grid, side="right") / NUMBER
        assert np.abs(cdf - np.arange(1, 501) / 500).max() < 0.02
        assert (tokens.min() >= grid[0]) and (tokens.max() <= grid[-1])
    then = ranked(*known)
    assert then < -0.5 and ranked(*both) == pytest.approx(then, abs=0.03)
    copied = set(map(tuple, both.T[:500].tolist())) & set(map(tuple, known.T.tolist()))
    assert len(copied) < 5  # by chance, where tokens are few


def test_columns_of_a_file_are_independent(tmp_path: Path) -> None:
    name, known = trace(tmp_path)
    stream = drawn("empirical", {"file": name}, BINS)
    assert set(stream.num_prompt_tokens) <= set(known[0])
    counts = np.bincount(np.searchsorted(np.sort(known[0]), stream.num_prompt_tokens), minlength=500)
    assert counts.max() < 4 * NUMBER / 500
    assert stream.num_output_tokens.max() <= 1000
    text = f"lengths: {{kind: empirical, num_prompt_tokens: {{file: {Path(name).name}}}, num_output_tokens: {BINS}}}\n"
    spec = file(tmp_path, text + f"gaps: {POISSON}\nnum_requests: {NUMBER}\nseed: 1\n", "spec.yaml")
    assert load(spec).digest == stream.digest  # names are relative to the description
    with pytest.raises(WorkloadError, match=r"none\.csv: no such file"):
        drawn("empirical", {"file": str(tmp_path / "none.csv")})


REFUSED = [
    ("normal", BELL | {"std": 0}, "lengths.num_prompt_tokens.std: 0 is not tokens above 0"),
    (
        "normal",
        BELL | {"min": 5000, "max": 9000},
        "num_prompt_tokens: less than a millionth of the distribution is with",
    ),
    (
        "normal",
        BELL | {"min": 200},
        "num_prompt_tokens: less than a millionth of the distribution is within 200 to 150",
    ),
    ("lognormal", {"sigma": 1}, "lengths.num_prompt_tokens: give either median or mean (e.g. median: 512)"),
    ("lognormal", LOG | {"mean": 5}, "lengths.num_prompt_tokens: give either median or mean"),
    ("lognormal", LOG | {"sigma": -1}, "lengths.num_prompt_tokens.sigma: -1 is not a number above 0"),
    ("empirical", {}, "lengths.num_prompt_tokens: give either edges and weights (e.g. edges: [1, 129, 513]"),
    ("empirical", BINS | {"weights": [0, 0, 0]}, "weights: give numbers from 0, not all of them 0"),
    ("empirical", BINS | {"weights": [1, -1, 2]}, "weights: give numbers from 0, not all of them 0"),
    ("empirical", BINS | {"weights": [1]}, "weights: 1 weights are given, and 4 edges need 3"),
    ("empirical", BINS | {"edges": [5, 2]}, "lengths.num_prompt_tokens.edges: [5, 2] is not ascending whole numbers"),
]


@pytest.mark.parametrize(("kind", "law", "said"), REFUSED)
def test_refused_lengths(kind: str, law: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)) as refused:
        drawn(kind, law)
    assert "\n" not in str(refused.value)

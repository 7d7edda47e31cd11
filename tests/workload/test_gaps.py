"""Gaps between arrivals, each against its law: drawn rates, their schedules, and what is refused."""

import re
from collections.abc import Callable
from math import gamma, pi
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from laws import Floats, exponential, far
from streams import FIXED, file

from fastsim.errors import ConfigError
from fastsim.workload.loading import load

STEPS = [{"duration": 10.0, "rate": 3.0}, {"duration": 5.0, "rate": 0.0}, {"duration": 20.0, "rate": 1.0}]
STATES = [{"rate": 4.0, "mean_dwell": 3.0}, {"rate": 0.0, "mean_dwell": 5.0}]
KINDS: dict[str, dict[str, Any]] = {
    "weibull": {"rate": 2.0, "shape": 0.6},
    "vllm_bench": {"rate": 2.0, "burstiness": 0.5},
    "piecewise": {"steps": STEPS},
    "diurnal": {"trough": 0.0, "peak": 4.0, "period": 600.0, "start": 100.0},
    "ramp": {"start_rate": 0.0, "end_rate": 8.0, "duration": 1000.0},
    "mmpp": {"states": STATES},
}


def drawn(kind: str, number: int = 20_000, seed: int = 3, **changes: Any) -> Floats:
    """Arrival times, float64[number], s."""
    gaps = KINDS[kind] | {"kind": kind} | changes
    arrived_at: Floats = load({"lengths": FIXED, "gaps": gaps, "num_requests": number, "seed": seed}).arrived_at
    return arrived_at


def test_weibull_gaps() -> None:
    for shape in (0.6, 1.0, 3.0):
        scaled = 2.0 * gamma(1 + 1 / shape)
        gaps = np.diff(drawn("weibull", shape=shape), prepend=0.0)
        assert far(gaps, lambda t, k=shape, s=scaled: 1 - np.exp(-((t * s) ** k))) < 1.95  # type: ignore[misc]
        assert far(gaps * 1.05, lambda t, k=shape, s=scaled: 1 - np.exp(-((t * s) ** k))) > 1.95  # type: ignore[misc]


def test_vllm_bench_gaps_end_at_the_number_over_the_rate() -> None:
    for burstiness in (0.5, 1.0, 4.0):
        arrived_at = drawn("vllm_bench", burstiness=burstiness)
        assert arrived_at[-1] == pytest.approx(10_000.0, rel=1e-14)
        gaps = np.diff(arrived_at, prepend=0.0)
        assert gaps[0] > 0
        assert gaps.std() / gaps.mean() == pytest.approx(burstiness**-0.5, rel=0.03)
    # Exponential gaps that are rescaled to a given end are as far apart as uniform times.
    assert far(drawn("vllm_bench", burstiness=1.0)[:-1], lambda t: t / 10_000) < 1.95
    assert drawn("vllm_bench", 1).tolist() == [0.5]


def steps(times: Floats) -> Floats:
    """The cumulative rate of STEPS, by its corners."""
    rounds, rest = np.divmod(times, 35.0)
    masses: Floats = rounds * 50 + np.interp(rest, [0, 10, 15, 35], [0, 30, 30, 50])
    return masses


def cosine(times: Floats) -> Floats:
    omega = 2 * pi / 600
    masses: Floats = 2 * times - 2 / omega * (np.sin(omega * (times + 100)) - np.sin(omega * 100))
    return masses


def ramp(times: Floats) -> Floats:
    masses: Floats = np.where(times < 1000, 0.004 * times**2, 4000 + 8 * (times - 1000))
    return masses


@pytest.mark.parametrize(("kind", "cumulative"), [("piecewise", steps), ("diurnal", cosine), ("ramp", ramp)])
def test_rates_that_change_over_time(kind: str, cumulative: Callable[[Floats], Floats]) -> None:
    """Where the cumulative rate is the clock, gaps are independent and exponential with mean 1."""
    times = drawn(kind)
    gaps = np.diff(cumulative(times), prepend=0.0)
    assert (np.diff(times) >= 0).all() and gaps.min() >= -1e-9
    assert far(np.maximum(gaps, 0), exponential) < 1.95
    assert far(np.diff(cumulative(times * 1.03 + 5)), exponential) > 1.95
    assert abs(np.corrcoef(gaps[1:], gaps[:-1])[0, 1]) < 0.03
    # The inverse is exact: the same random numbers at a rate of 1.
    poisson = {"lengths": FIXED, "gaps": {"kind": "poisson", "rate": 1.0}, "num_requests": 20_000, "seed": 3}
    np.testing.assert_allclose(cumulative(times), load(poisson).arrived_at, rtol=1e-10, atol=1e-9)


def test_steps_that_end() -> None:
    times = drawn("piecewise", repeat=False)
    assert far(np.diff(times[times > 35.0]), lambda t: 1 - np.exp(-t)) < 1.95
    assert (times < 35).sum() == pytest.approx(50, abs=25)
    assert not ((times > 10) & (times < 15)).any()


def test_interrupted_poisson_process_is_hyperexponential() -> None:
    """A process with a state of rate 0 has independent gaps that are a mixture of two exponential distributions."""
    gaps = np.diff(drawn("mmpp", 40_000))
    rate, leaves, comes = 4.0, 1 / 3.0, 1 / 5.0
    total = rate + leaves + comes
    root = (total**2 - 4 * rate * comes) ** 0.5
    fast, slow = (total + root) / 2, (total - root) / 2
    share = (rate - slow) / (fast - slow)
    assert far(gaps, lambda t: 1 - share * np.exp(-fast * t) - (1 - share) * np.exp(-slow * t)) < 1.95
    assert far(gaps, lambda t: 1 - np.exp(-1.5 * t)) > 10
    assert 1 / gaps.mean() == pytest.approx(1.5, rel=0.05)


def test_the_first_state_is_drawn() -> None:
    """By the share of time: 3 s of 8 s; requests arrive in the first second if the process is in its first state."""
    first = np.array([drawn("mmpp", 1, seed=seed, rate=1500.0)[0] for seed in range(400)])
    assert (first < 0.05).mean() == pytest.approx(3 / 8, abs=0.08)


@pytest.mark.parametrize("kind", KINDS)
def test_the_rate_is_the_mean(kind: str) -> None:
    """Over whole periods; and a longer workload begins with the shorter one."""
    times = drawn(kind, 40_000, rate=5.0)
    if kind == "ramp":
        assert (times < 1000).sum() == pytest.approx(5000, rel=0.05)
    else:
        assert len(times) / times[-1] == pytest.approx(5.0, rel=0.05)
    if kind != "vllm_bench":
        assert (drawn(kind, 500, rate=5.0) == times[:500]).all()


def test_scale_of_a_trace(tmp_path: Path) -> None:
    file(tmp_path, "arrived_at\n10\n11\n14\n", "times.csv")
    gaps: dict[str, Any] = {"kind": "trace", "file": str(tmp_path / "times.csv"), "scale": 0.5}
    assert load({"lengths": FIXED, "gaps": gaps, "num_requests": 4}).arrived_at.tolist() == [0, 0.5, 2, 3]
    assert load({"lengths": FIXED, "gaps": gaps, "num_requests": 2}).arrived_at.tolist() == [0, 0.5]
    assert load({"lengths": FIXED, "gaps": gaps, "num_requests": 2}, rate=1.0).arrived_at.tolist() == [0, 0.5]
    with pytest.raises(ConfigError, match=r"gaps: scale: 0\.5 and rate: 2 exclude each other"):
        load({"lengths": FIXED, "gaps": gaps | {"rate": 2.0}})


REFUSED = [
    ("weibull", {"shape": 0}, "gaps.shape: 0 is not a number from 0.1 to 100 (e.g. 0.7)"),
    ("weibull", {"rate": -1}, "gaps.rate: -1 is not requests per second from 1e-9 to 1e9 (e.g. 2.0)"),
    ("vllm_bench", {"burstiness": float("inf")}, "gaps.burstiness: inf is not a number from 0.01 to 1e6"),
    ("piecewise", {"steps": []}, "gaps.steps: [] is not a list of steps (e.g. ["),
    ("piecewise", {"steps": [{"duration": 5, "rate": 0}]}, "gaps: steps: every rate is 0, so no request would arrive"),
    ("piecewise", {"steps": [{"duration": 5, "rate": -1}]}, "gaps.steps[0].rate: -1 is not requests per second from 0"),
    ("piecewise", {"steps": [{"duration": 0, "rate": 1}]}, "gaps.steps[0].duration: 0 is not seconds from 0.001 to"),
    (
        "piecewise",
        {"steps": [{"durtion": 1, "rate": 1}]},
        "gaps.steps[0].durtion: unknown key; did you mean 'duration'?",
    ),
    ("piecewise", {"steps": STEPS[:2], "repeat": False}, "gaps: steps: the last rate is 0"),
    ("mmpp", {"rate": -1}, "gaps.rate: -1 is not requests per second from 1e-9 to 1e9 (e.g. 2.0)"),
    ("diurnal", {"trough": 5.0}, "gaps: trough: 5 is above the peak of 4; swap them"),
    ("diurnal", {"period": "day"}, "gaps.period: 'day' is not seconds from 0.001 to 1e9"),
    ("ramp", {"end_rate": 0}, "gaps.end_rate: 0 is not requests per second from 1e-9"),
    ("mmpp", {"states": [{"rate": 0, "mean_dwell": 5}]}, "gaps: states: every rate is 0"),
    ("mmpp", {"rate": 0.001}, "gaps: states: they change 250 times per request on average, and at most 10 times"),
]


@pytest.mark.parametrize(("kind", "changes", "said"), REFUSED)
def test_refused_gaps(kind: str, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)) as refused:
        drawn(kind, 10, **changes)
    assert "\n" not in str(refused.value)

"""The front end between clients and a scheduler: a stream that arrives later, with the times of clients in results."""

from dataclasses import replace

import numpy as np
import pytest

import fastsim
from fastsim.deployment.description import Deployment
from fastsim.deployment.resolve import resolve
from fastsim.errors import ConfigError
from fastsim.predictors.build import build_cost
from fastsim.result.columns import BREAKDOWN
from fastsim.result.metrics.objectives import parse
from fastsim.simulation.probe import Prober
from fastsim.workload import Workload

LATE = 0.007  # s, as the engine has it
RNG = np.random.default_rng(5)
NUMBER = 120
LENGTHS = RNG.integers(10, 700, NUMBER), RNG.integers(1, 40, NUMBER)
SPACED = np.sort(RNG.uniform(0, 4, NUMBER))
TURN = np.arange(NUMBER) % 4  # of sessions of four turns each
SESSION = np.arange(NUMBER) // 4

STREAMS = {
    "open": Workload(SPACED, *LENGTHS),
    "held back": Workload(SPACED, *LENGTHS, think_time=np.zeros(NUMBER), max_concurrency=6),
    "sessions": Workload(
        np.where(TURN == 0, SPACED, np.nan),
        *LENGTHS,
        session_id=SESSION,
        think_time=np.where(TURN == 0, np.nan, 0.05),
    ),
    "closed loop": fastsim.load_workload(
        {
            "lengths": {"kind": "fixed", "num_prompt_tokens": 300, "num_output_tokens": 20},
            "gaps": {"kind": "closed_loop", "concurrency": 12, "think_time": 0.02},
        },
        num_requests=NUMBER,
    ),
}


def deployment(*settings: str) -> Deployment:
    return Deployment.load(None, ["scheduler.max_num_seqs=8", *settings])


def late(workload: Workload) -> Workload:
    """The same requests as a scheduler behind a front end sees them."""
    think = workload.think_time
    return replace(workload, arrived_at=workload.arrived_at + LATE, think_time=None if think is None else think + LATE)


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("router", ["round_robin", "least_outstanding"])
def test_a_front_end_is_a_stream_that_arrives_later(stream: str, router: str) -> None:
    workload, settings = STREAMS[stream], ["num_replicas=2", f"router.policy={router}"]
    behind = fastsim.simulate(deployment(*settings), workload)
    alone = fastsim.simulate(deployment(*settings, "front_end_ms=0"), late(workload))
    for name in ("request_id", "replica_id", "scheduled_at", "first_token_at", "finished_at", "scheduling_delay"):
        np.testing.assert_array_equal(behind.column(name), alone.column(name), err_msg=name)
    for name in ("tpot", "queue_wait", "prefill_compute", "decode_wait", "host_overhead"):
        np.testing.assert_array_equal(behind.column(name), alone.column(name), err_msg=name)
    for name in ("ttft", "e2e"):
        np.testing.assert_allclose(behind.column(name), alone.column(name) + LATE, rtol=0, atol=1e-12, err_msg=name)
    assert (behind.column("front_end") == LATE).all() and not alone.column("front_end").any()
    parts = np.sum([behind.column(column.name) for column in BREAKDOWN], axis=0)
    np.testing.assert_allclose(parts, behind.column("e2e"), rtol=0, atol=1e-12)
    one, other = behind.summary, alone.summary
    assert one["totals"]["span_s"] == pytest.approx(other["totals"]["span_s"] + LATE)
    for name in ("peak_queue", "mean_running"):
        assert one["utilisation"][name] == pytest.approx(other["utilisation"][name], rel=0.01)


def test_clients_times_are_those_of_the_workload_and_of_the_ends_that_they_wait_for() -> None:
    arrived = fastsim.simulate(deployment(), STREAMS["open"]).column("arrived_at")
    np.testing.assert_array_equal(arrived, SPACED)
    result = fastsim.simulate(deployment(), STREAMS["sessions"])
    order = np.argsort(result.column("request_id"))
    arrived, finished = result.column("arrived_at")[order], result.column("finished_at")[order]
    np.testing.assert_array_equal(arrived[TURN == 0], SPACED[TURN == 0])
    np.testing.assert_array_equal(arrived[TURN > 0], finished[np.flatnonzero(TURN > 0) - 1] + 0.05)
    held = fastsim.simulate(deployment(), STREAMS["held back"])
    waited = held.column("arrived_at") > SPACED
    assert waited.sum() > 20 and np.isin(held.column("arrived_at")[waited], held.column("finished_at")).all()


def test_series_count_from_the_first_request_that_is_sent() -> None:
    result = fastsim.simulate(deployment(), STREAMS["closed loop"])
    series = result.summary["series"]
    assert series["time"][0] == result.column("arrived_at")[0]
    for name, column in (("prefill_tokens", "num_prompt_tokens"), ("completions", None)):
        last = result.summary["totals"]["span_s"] - series["time"][-1] + series["time"][0]
        widths = np.append(np.full(len(series["time"]) - 1, series["interval_s"]), last)
        total = NUMBER if column is None else result.column(column).sum()
        assert np.array(series[name]) @ widths == pytest.approx(total, rel=1e-4)


@pytest.mark.parametrize("stream", ["open", "sessions"])
def test_many_runs_and_probes_give_the_figures_of_one(stream: str) -> None:
    workload = STREAMS[stream]
    alone = fastsim.simulate(deployment(), workload)
    (run,) = fastsim.simulate_many([(deployment(), workload)], requests=True, detail=True)
    assert run.requests is not None and run.requests.column_names == alone.requests.column_names
    for name in run.requests.column_names:
        np.testing.assert_array_equal(run.requests[name].to_numpy(), alone.column(name), err_msg=name)
    resolved = resolve(deployment())
    objectives = [parse(f"{name}:p90<100s") for name in ("ttft", "e2e", "scheduling_delay")]
    probed = Prober(resolved, build_cost(resolved).cost, workload).at(1.0, objectives)
    for objective in objectives:
        assert probed.figures[str(objective)] == alone.summary["latency"][objective.metric]["p90"]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ([], 7.0),
        (["engine=sglang-0.5.23", "scheduler={}"], 7.0),
        (["front_end_ms=2.5"], 2.5),
        (["scheduler={policy: sarathi}"], 0.0),
        (["predictor={source: affine, affine: {constant_ns: 1000000}}"], 0.0),
        (["predictor={source: affine, affine: {constant_ns: 1000000}}", "front_end_ms=3.5"], 3.5),
        (["predictor.source=tables:t"], 0.0),
        (["predictor.compose=vidur"], 0.0),
    ],
)
def test_only_engines_with_times_of_fastsim_have_a_front_end_by_default(settings: list[str], expected: float) -> None:
    resolved = resolve(Deployment.load(None, settings))
    assert resolved.deployment.front_end_ms == expected and resolved.front_end_s == expected / 1e3


def test_a_front_end_that_is_no_time_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"front_end_ms: -1 is not a number from 0 up to 60000 \(e\.g\. 6\.0\)"):
        Deployment.load(None, ["front_end_ms=-1"])

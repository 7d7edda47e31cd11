"""The twin of ranks that step together: it is the engine's where there is one rank, and keeps the law of lockstep."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from reference.vllm_v1.engine import Engine
from reference.vllm_v1.ranks import Layout, StepClock, simulate
from reference.vllm_v1.recordings import Clock
from reference.vllm_v1.releases import V0_19
from reference.vllm_v1.state import Request, Settings
from vllm_v1_strategies import Case, cases

ROOMY = Settings(num_blocks=400, async_scheduling=False)
TEN_MS = StepClock(Clock(10_000_000))


@settings(deadline=None, max_examples=60)
@given(cases(stages=(1,)))
def test_one_rank_is_an_engine(case: Case) -> None:
    engine = Engine(case.requests, case.settings, case.release, case.clock)
    moments = engine.moments()
    for moment in moments:
        if moment.time == float("inf") or len(engine.decisions) > 2000:
            break
    if engine.scheduler.has_work:
        return  # requests that wait or preempt each other for ever
    requests, [replica], _ = simulate(
        case.requests, Layout(1, wave=1), case.settings, case.release, StepClock(case.clock)
    )
    assert requests == engine.requests
    assert [step.decisions[0] for step in replica.steps if step.has_tokens] == [
        d for d in engine.decisions if d.members
    ]


@settings(deadline=None, max_examples=40)
@given(cases(stages=(1,)))
def test_steps_of_a_replica_follow_one_another_and_all_its_ranks_take_part(case: Case) -> None:
    layout = Layout(3)
    _, [replica], _ = simulate(case.requests, layout, case.settings, case.release, StepClock(case.clock))
    steps = [step for step in replica.steps if step.has_tokens]
    assert all(one.ended_at <= other.started_at for one, other in pairwise(steps))
    for step in steps:
        alone = [case.clock(0, d.members) for d in step.decisions if d is not None and d.members]
        assert step.ended_at - step.started_at >= max(alone)


def test_a_rank_waits_for_the_slowest() -> None:
    """Beside a prompt of 2,000 tokens on the other rank, a decode takes as long as the prompt."""
    clock = StepClock(Clock(1_000_000, per_token=1000))
    stream = [Request(0, 10, 9), Request(1500, 2000, 1)]
    requests, _, _ = simulate(stream, Layout(2), ROOMY, V0_19, clock)
    assert [late - early for early, late in pairwise(requests[0].token_times)][:3] == [1001, 3000, 1001]


def test_experts_compute_the_tokens_of_all_ranks_padded_where_graphs_are_used() -> None:
    members = simulate([Request(0, 40, 1), Request(0, 8, 1)], Layout(2), ROOMY, V0_19, TEN_MS)[1][0].steps[0]
    batches = [decision.members for decision in members.decisions if decision is not None]
    shared = StepClock(Clock(0), per_shared_token=1000)
    assert shared(batches) == 24
    assert StepClock(Clock(0), per_shared_token=1000, graph_tokens=40)(batches) == 40
    assert shared([batches[0], (), ()]) == 14  # a dummy batch has a token


def test_the_internal_balancer_counts_what_waits_four_times_and_learns_late() -> None:
    """Of ten requests at once, each rank gets every second one; what has finished is known 100 ms later."""
    stream = [Request(0, 10, 1) for _ in range(10)] + [Request(50_000, 10, 1), Request(150_000, 10, 1)]
    _, [replica], _ = simulate(stream, Layout(2), ROOMY, V0_19, TEN_MS)
    assert [replica.rank_of[i] for i in range(12)] == [0, 1] * 5 + [0, 0]
    long = [Request(0, 10, 90), Request(1, 10, 1), Request(200_000, 10, 1), Request(200_001, 10, 1)]
    _, [replica], _ = simulate(long, Layout(2), ROOMY, V0_19, TEN_MS)
    assert [replica.rank_of[i] for i in range(4)] == [0, 1, 1, 0]  # a running request counts 1, one sent since 4


def test_ranks_step_on_to_the_end_of_a_wave() -> None:
    """A request that arrives while dummy batches run waits for the one that is running."""
    stream = [Request(0, 10, 1), Request(15_000, 10, 1), Request(900_000, 10, 1)]
    requests, _, _ = simulate(stream, Layout(2), ROOMY, V0_19, TEN_MS)
    assert [request.first_token_at for request in requests] == [10_000, 30_000, 910_000]

"""Runs of a real vLLM engine, replayed from the times at which requests were queued and from the times of steps."""

from pathlib import Path

import pytest
from fidelity.replayed_engine import NEAREST, SCHEDULERS, Scheduler, difference, read
from reference.vllm_v1.releases import RELEASES

RUNS = Path(__file__).resolve().parents[3] / "shared" / "groundtruth" / "vllm_cpu"


@pytest.mark.skipif(not RUNS.exists(), reason="needs the recorded runs of a real engine")
@pytest.mark.parametrize("scheduler", SCHEDULERS.values(), ids=list(SCHEDULERS))
@pytest.mark.parametrize("name", ["async_half", "nochunk_seqs8", "shared_rate", "tight_closed32"])
def test_takes_the_same_steps_as_a_real_engine(name: str, scheduler: Scheduler) -> None:
    run = read(RUNS / name)
    assert difference(run.steps, scheduler(run, RELEASES[NEAREST[run.version]])) == (len(run.steps), "")

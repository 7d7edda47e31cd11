"""Shares of what is known over a whole run: those of its iterations, added up."""

import pytest

import fastsim
from fastsim.predictors.explain import explain
from fastsim.predictors.times.iteration import Iteration

MODEL = {"model": "meta-llama/Llama-3.1-8B", "device": "h100"}


def run(prompt: int, output: int, **changes: object) -> tuple[dict[str, float], fastsim.Deployment]:
    """One request after the other."""
    lengths = {"kind": "fixed", "num_prompt_tokens": prompt, "num_output_tokens": output}
    described = {"lengths": lengths, "gaps": {"kind": "static", "rate": 0.01}, "num_requests": 3}
    deployment = fastsim.Deployment.load({**MODEL, **changes})
    return fastsim.simulate(deployment, described).summary["operator_times"], deployment


@pytest.mark.parametrize(("prompt", "output"), [(500, 100), (4000, 20), (30000, 2)])
def test_shares_are_those_of_the_iterations_of_the_run(prompt: int, output: int) -> None:
    known, deployment = run(prompt, output, max_model_len=32768, scheduler={"policy": "vllm"})
    resolved = fastsim.resolve(deployment)
    prefill = explain(resolved, Iteration(((prompt, 0),)))
    decode = explain(resolved, Iteration((), ((1, prompt + output // 2),)))
    total = prefill["total_ms"] + (output - 1) * decode["total_ms"]
    assert sum(known.values()) == pytest.approx(1, abs=1e-3)
    for kind, share in known.items():
        ms = prefill["shares"][kind] * prefill["total_ms"] + (output - 1) * decode["shares"][kind] * decode["total_ms"]
        assert share == pytest.approx(ms / total, abs=0.01)


def test_prompts_beyond_the_tables_and_their_chunks_are_marked() -> None:
    near, far = (run(prompt, 2, max_model_len=131072)[0] for prompt in (4000, 120000))
    assert near["outside"] < 0.1 and far["outside"] > 0.6
    whole, chunked = (
        run(8000, 2, scheduler={"max_num_batched_tokens": tokens}, max_model_len=8192)[0] for tokens in (8192, 1024)
    )
    assert chunked["modelled"] > whole["modelled"] + 0.05 and chunked["outside"] == pytest.approx(
        whole["outside"], abs=0.05
    )

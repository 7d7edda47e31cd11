"""Affine terms from the latencies of requests alone."""

import numpy as np

from fastsim.calibration.affine_steps import AffineFit
from fastsim.calibration.bounds import BOUNDS
from fastsim.calibration.by_replay import Coefficient, fitted
from fastsim.calibration.estimate import interval
from fastsim.calibration.observed import Mask
from fastsim.calibration.replays import Floats, Replay, Replayed
from fastsim.deployment.sections import Affine
from fastsim.measured.measured import Measured
from fastsim.predictors.affine import cost_of

TERMS = ("constant_ns", "per_token_ns", "per_sequence_ns", "per_context_token_ns", "per_attention_pair_ns")
FRONT_END = "front_end_ms"
NS, MS = 1e9, 1e3  # in a second
SEQUENCES = 8  # of a batch in which the terms of each make it as long again


def fitted_on(
    measured: Measured, replay: Replay, given: float | None, draws: int, chosen: Mask | None
) -> tuple[AffineFit, float, Floats]:
    """Fit affine terms and a front end, s, on the requests that are chosen; None: all.

    ``given``: the front end; None where it is fitted. Returns the terms, the front end, and draws of it.
    """
    coefficients = _coefficients(measured, given is None)
    stages = replay.resolved.pipeline_parallel_size

    def replayed(values: Floats) -> Replayed:
        terms = Affine.model_validate(dict(zip(TERMS, map(float, values[: len(TERMS)]), strict=True)))
        return replay.of(cost_of(terms, stages), float(values[-1]) / MS if given is None else given)

    values, drawn, left = fitted(measured, coefficients, replayed, draws, chosen)
    terms = dict(zip(TERMS, values.tolist(), strict=False))
    ends = {name: interval(drawn[:, at]) for at, name in enumerate(TERMS)}
    intervals = {name: pair for name, pair in ends.items() if pair is not None}
    fit = AffineFit(terms, (), intervals, (), left)
    return (fit, float(values[-1]) / MS, drawn[:, -1] / MS) if given is None else (fit, given, np.zeros(0))


def _coefficients(measured: Measured, has_front_end: bool) -> list[Coefficient]:
    """Terms, each in a unit that makes a step of this run as long again, and a first token as late again."""
    workload = measured.workload
    step = _middle(measured.tpot, 0.01)
    first = _middle(measured.ttft, 10 * step)
    prompt = max(1.0, float(np.mean(workload.num_prompt_tokens)))
    context = prompt + float(np.mean(workload.num_output_tokens)) / 2
    unit = {
        "constant_ns": step,
        "per_token_ns": first / prompt,
        "per_sequence_ns": step / SEQUENCES,
        "per_context_token_ns": step / (SEQUENCES * context),
        "per_attention_pair_ns": first / (prompt * prompt / 2),
    }
    start = {"constant_ns": 0.7 * step, "per_token_ns": 0.3 * first / prompt}
    found = [
        Coefficient(name, start.get(name, 0.0) * NS, one * NS, *BOUNDS[name][:2], is_kept=name == "constant_ns")
        for name, one in unit.items()
    ]
    if has_front_end:
        found.append(Coefficient(FRONT_END, 0.1 * first * MS, 0.3 * first * MS, *BOUNDS[FRONT_END][:2], is_kept=True))
    return found


def _middle(latencies: Floats, otherwise: float) -> float:
    known = latencies[~np.isnan(latencies)]
    return max(1e-6, float(np.median(known))) if len(known) else otherwise

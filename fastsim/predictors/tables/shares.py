"""How the time of a model's layers is divided among pipeline stages whose layers differ in number or kind."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache

import numpy as np

from fastsim.deployment.operators.decoder import Operators
from fastsim.deployment.operators.kinds import Attention, Elementwise, Experts, Gemm
from fastsim.deployment.resolved import Resolved
from fastsim.predictors.times.iteration import Iteration, typical
from fastsim.predictors.times.times import Floats

from .by_operator import ByOperator, layers_ms

Operator = Gemm | Elementwise | Experts | Attention


def stage_shares(resolved: Resolved, tables: ByOperator) -> Floats:
    """Time of the layers of each stage over the mean of all stages, float64[stages], in a typical iteration.

    Each operator's time is divided by the number of layers of each stage that have the operator, such as experts or
    windowed attention. Without ``tables`` by operator, and where all stages are alike, all shares are 1.
    """
    number = resolved.pipeline_parallel_size
    if number == 1 or not tables:
        return np.ones(number)
    on_stage = _on_stages(resolved.operators, tuple(resolved.stage_operators(stage) for stage in range(number)))
    return _weighted(tables, typical(resolved), on_stage, np.array(resolved.pipeline_layers, np.float64))


@lru_cache(maxsize=64)
def _on_stages(whole: Operators, stages: tuple[Operators, ...]) -> list[Counter[str]]:
    """How often each operator of the ``whole`` model runs on each stage. Shared: do not change it."""
    names = {_alike(one): one.name for one in _each(whole)}
    return [_counts(one, names) for one in stages]


def _weighted(tables: ByOperator, iteration: Iteration, on_stage: list[Counter[str]], layers: Floats) -> Floats:
    parts, total = np.zeros(len(layers)), 0.0
    for name, table in tables.items():
        ms = layers_ms(table, iteration)
        base = name.removesuffix("_decode").removesuffix("_prefill")
        count = np.array([counts[base] for counts in on_stage], np.float64)
        count = count if count.any() else layers
        parts += ms * (count / count.mean())
        total += ms
    return parts / total


def _counts(operators: Operators, names: dict[Operator, str]) -> Counter[str]:
    """How often each operator of the whole model runs on a stage in an iteration, by its name in the whole model."""
    counts = Counter({"all_reduce": operators.num_all_reduces, "moe_all_to_all": operators.num_all_to_alls})
    counts["linear"] = operators.recurrence.count if operators.recurrence else 0
    for one in _each(operators):
        counts[names.get(_alike(one), one.name)] += one.count
    return counts


def _each(operators: Operators) -> Iterator[Operator]:
    yield from operators.gemms
    yield from operators.elementwise
    yield from operators.all_experts
    yield from operators.attentions


def _alike(one: Operator) -> Operator:
    """The operator without what the other layers decide: how many layers have it, and the number behind its name."""
    if isinstance(one, Attention):
        return replace(one, count=1, label="")
    return replace(one, count=1, name=re.sub(r"_\d+$", "", one.name))

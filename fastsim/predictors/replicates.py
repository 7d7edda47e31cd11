"""Replicates of a deployment: what a simulation reads of it, drawn from the intervals of what is not known exactly."""

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from fastsim.predictors import affine
from fastsim.predictors.build import build_cost, built, compose, of_pools, operator_times
from fastsim.predictors.built import Built

if TYPE_CHECKING:
    from fastsim.deployment.resolved import Resolved
    from fastsim.predictors.tables.cache import Tables


class Replicate(NamedTuple):
    """A deployment with a drawn front end, and its drawn operator times."""

    resolved: "Resolved"
    built: Built


def replicates(resolved: "Resolved", number: int, seed: int) -> Iterator[Replicate]:
    """Draw a deployment ``number`` times from the intervals of its operators and of its front end.

    ``provenance["replicate"]`` holds the number of the draw and the seed. Times that are given or Vidur's have no
    interval: all their draws are alike. Raises what ``build_cost`` raises.
    """
    drawn_of_kinds = zip(*(_times(kind, number, seed) for kind in resolved.kinds), strict=True)
    for index, kinds in enumerate(drawn_of_kinds):
        drawn = of_pools(resolved, list(kinds)) if resolved.pools else kinds[0]
        yield Replicate(_with_front_end(resolved, index, seed), drawn)


def _times(resolved: "Resolved", number: int, seed: int) -> Iterator[Built]:
    from fastsim.predictors.tables.draws import drawn_operators, drawn_tables, drawn_times, factors

    known = build_cost(resolved)
    if affine.is_affine(resolved):
        yield from affine.draws(known, number, seed)
        return
    times = operator_times(resolved)[0] if resolved.predictor.compose == "vidur" else None
    for index, factor in enumerate(factors(known.spread, number, seed)):
        began = time.perf_counter()
        if times is None:
            tables: Tables = drawn_tables(known.cost.fastsim, known.operators, factor)
        else:
            tables = compose(resolved, drawn_times(times, factor))
        # Of ranks the experts and exchanges, which are those of all of them, are told apart by operator.
        operators = drawn_operators(known.operators, factor) if resolved.data_parallel_size > 1 else None
        about = {**known.provenance, "replicate": {"number": index, "of": number, "seed": seed}}
        yield built(resolved, tables, about, began, operators, shares=known.cost.shares)


def _with_front_end(resolved: "Resolved", index: int, seed: int) -> "Resolved":
    from fastsim.predictors.tables.draws import front_end_factor

    if not resolved.front_end_s:
        return resolved
    drawn = resolved.front_end_s * 1e3 * front_end_factor(seed, index)
    return replace(resolved, deployment=resolved.deployment.model_copy(update={"front_end_ms": drawn}))

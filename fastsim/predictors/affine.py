"""Times of batches as a sum of given terms, for engines without operator data and for certification."""

import math
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastsim.deployment.resolved import Resolved
    from fastsim.deployment.sections import Affine
    from fastsim.kernels.tables import Cost
    from fastsim.predictors.built import Built
    from fastsim.predictors.times.iteration import Iteration
    from fastsim.predictors.times.times import Floats

NS = (
    "constant_ns",
    "per_token_ns",
    "per_sequence_ns",
    "per_context_token_ns",
    "per_prefill_token_ns",
    "per_decode_ns",
    "per_attention_pair_ns",
)
COUNTED = ("batches", "tokens", "sequences", "context", "tokens", "decodes", "pairs")  # what each is multiplied by


def is_affine(resolved: "Resolved") -> bool:
    """Whether the times of a deployment's batches are a sum of given terms."""
    return resolved.predictor.source == "affine"


def has_ticks(resolved: "Resolved") -> bool:
    """Whether times are whole ticks, as on the clock of the recordings of vLLM's scheduler.

    On that clock, a batch of an asynchronous pipeline starts before the tokens that it computes have been sampled.
    """
    return is_affine(resolved) and terms_of(resolved).tick_s is not None


def terms_of(resolved: "Resolved") -> "Affine":
    """The terms of a deployment; resolve has refused source affine without them."""
    terms = resolved.predictor.affine
    assert terms is not None
    return terms


def build(resolved: "Resolved") -> "Built":
    """What the kernel reads, and where it comes from; no operator has a time of its own."""
    from fastsim.predictors.built import Built

    began = time.perf_counter()
    terms = terms_of(resolved)
    about: dict[str, Any] = {"source": "affine", "compose": "affine", "affine": terms.model_dump()}
    if (calibration := resolved.calibration) is not None:
        about["calibration"] = {"sha256": calibration.digest}
    return Built(cost_of(terms, resolved.pipeline_parallel_size), {}, {}, about, time.perf_counter() - began)


def cost_of(terms: "Affine", num_stages: int) -> "Cost":
    """Terms as the kernel reads them."""
    import numpy as np

    from fastsim.kernels.tables import COMPOSE_AFFINE, Cost
    from fastsim.predictors.tables.compose import NO_FASTSIM, NO_VIDUR

    values = np.array([*(getattr(terms, name) for name in NS), terms.tick_s or 0.0, *by_tokens(terms)], np.float64)
    return Cost(COMPOSE_AFFINE, num_stages, NO_VIDUR, NO_FASTSIM, np.ones(num_stages), values)


def by_tokens(terms: "Affine") -> "Floats":
    """What batches of 0, 1, 2 ... tokens take besides, float64[tokens], ns; those of more take as much as the last."""
    import numpy as np

    if terms.by_tokens_ns is None:
        return np.zeros(1)
    at, ns = zip(*terms.by_tokens_ns, strict=True)
    return np.asarray(np.interp(np.arange(at[-1] + 1), at, ns), np.float64)


def draws(built: "Built", number: int, seed: int) -> "list[Built]":
    """The same times ``number`` times: given terms have no intervals to draw from."""
    return [
        replace(built, provenance={**built.provenance, "replicate": {"number": one, "of": number, "seed": seed}})
        for one in range(number)
    ]


def explain(resolved: "Resolved", iteration: "Iteration") -> dict[str, Any]:
    """The part of ``explain`` about times: a row for each term, and what the kernel charges on all stages."""
    terms, stages = terms_of(resolved), resolved.pipeline_parallel_size
    chunks = sum(tokens for tokens, _ in iteration.chunks)
    context = chunks + sum(before for _, before in iteration.chunks) + sum(n * kv for n, kv in iteration.decodes)
    pairs = sum(tokens * before + tokens * (tokens + 1) // 2 for tokens, before in iteration.chunks)
    sizes = (1, iteration.num_tokens, iteration.num_seqs, context, chunks, iteration.num_decodes, pairs)
    given = [
        (name.removesuffix("_ns"), {what: size}, getattr(terms, name) * size)
        for name, what, size in zip(NS, COUNTED, sizes, strict=True)
    ]
    more = by_tokens(terms)
    given.append(("by_tokens", {"tokens": iteration.num_tokens}, float(more[min(iteration.num_tokens, more.size - 1)])))
    ns = [one for _, _, one in given]
    ms_of_ns = 1e-6 if terms.tick_s is None else terms.tick_s  # a tick stands for 1000 ns
    whole = math.fsum(ns)
    total = stages * (whole if terms.tick_s is None else whole // 1000 * 1000) * ms_of_ns
    rows = [_row(name, shape, one * stages * ms_of_ns, stages, one / whole) for name, shape, one in given if one]
    return {"operators": rows, "total_ms": total, "interval_ms": [total, total], "shares": {"given": 1.0}}


def _row(name: str, shape: dict[str, int], ms: float, count: int, share: float) -> dict[str, Any]:
    known = {"count": count, "precision": None, "shape": shape, "gflop": 0.0, "mb": 0.0}
    return {"name": name, **known, "ms": ms, "low_ms": ms, "high_ms": ms, "share": share, "how": "given"}

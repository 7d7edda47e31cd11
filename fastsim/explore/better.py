"""The nearest better configurations: deployments that differ in one setting, and serve cheaper or faster."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fastsim.catalog.load import names
from fastsim.deployment.resolve import resolve
from fastsim.errors import InputError
from fastsim.explore.answer import requests_of
from fastsim.explore.question import Question
from fastsim.result.metrics.objectives import DEFAULTS, missed, parse_all
from fastsim.simulation.run import simulate

MOST = 2  # better configurations that are shown
LEAST = 0.02  # gain that is worth a change
GPUS = ("h100", "h200", "b200", "a100", "l40s")  # that are tried in place of another
PRECISIONS = ("fp8", "none")


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A deployment that differs in one setting: what that is called, and the settings to change."""

    label: str
    settings: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Judged:
    """What counts of an answer.

    ``missed``: how many objectives are not met. ``price``: $ per hour of all GPUs, or their number where a price is
    not known. ``e2e`` and ``ttft``: the mean end-to-end time and the P90 of the time to the first token, s.
    """

    missed: int
    price: float
    is_dollars: bool
    e2e: float
    ttft: float


@dataclass(frozen=True, slots=True)
class Better:
    """A better configuration: what it gains in words, and the question about it."""

    text: str
    question: Question


def neighbours(question: Question) -> list[Neighbour]:
    """The deployments that differ in one setting, the likelier better ones first. Raises ConfigError."""
    resolved = resolve(question.deployment)
    deployment = resolved.deployment
    tp, replicas, device = deployment.tensor_parallel_size, deployment.num_replicas, deployment.device
    found: list[Neighbour] = []
    for size in (tp // 2, tp * 2):
        if 1 <= size <= 16:
            found.append(Neighbour(f"TP {size}", {"tensor_parallel_size": size}))
    for number in (replicas - 1, replicas + 1):
        if number >= 1:
            found.append(Neighbour(_replicas(number), {"num_replicas": number}))
    if tp > 1 and tp % 2 == 0:
        half = {"tensor_parallel_size": tp // 2, "num_replicas": 2 * replicas}
        found.append(Neighbour(f"TP {tp // 2} with {_replicas(2 * replicas)}", half))
    if replicas % 2 == 0:
        double = {"tensor_parallel_size": 2 * tp, "num_replicas": replicas // 2}
        found.append(Neighbour(f"TP {2 * tp} with {_replicas(replicas // 2)}", double))
    found += [
        Neighbour(f"GPU {name}", {"device": name}) for name in GPUS if name != device and name in names("devices")
    ]
    found += [
        Neighbour(f"weights {'of 16 bits' if name == 'none' else f'in {name}'}", {"quantization": name})
        for name in PRECISIONS
        if name != resolved.quantization
    ]
    if question.settings.get("kv_cache_dtype") != "fp8":
        found.append(Neighbour("KV cache in fp8", {"kv_cache_dtype": "fp8"}))
    if resolved.scheduler.sglang is None:
        for name, word in (("max_num_batched_tokens", "tokens"), ("max_num_seqs", "sequences")):
            value = getattr(deployment.scheduler, name)
            for other in (value // 2, value * 2) if isinstance(value, int) else ():
                if 16 <= other <= 65536:
                    found.append(Neighbour(f"{other:,} {word} in a batch", {f"scheduler.{name}": other}))
    return found


def judge(question: Question) -> Judged | None:
    """Simulate a question for what counts; None for one that cannot be simulated."""
    try:
        deployment = question.deployment
        objectives = parse_all(question.objectives) or DEFAULTS
        result = simulate(
            deployment,
            requests_of(question, deployment.seed),
            objectives=objectives,
            detail=False,
            too_long=question.too_long,
        )
    except InputError:
        return None
    summary = result.summary
    gpus = summary["cost"]["gpus"]
    price = result.config["price"]
    return Judged(
        len(missed(objectives, summary)),
        float(gpus) if price is None else gpus * price["dollars"],
        price is not None,
        summary["latency"]["e2e"]["mean"] or 0.0,
        summary["latency"]["ttft"]["p90"] or 0.0,
    )


def better(question: Question, now: Judged, tried: Iterable[tuple[Neighbour, Judged | None]]) -> list[Better]:
    """The best of the neighbours in two ways, of those that are better than ``now``.

    Where all objectives are met, the cheapest that meets them too, and the fastest that costs no more. Where some are
    missed, the cheapest and the fastest of those that miss fewest; or where all miss as many, the fastest.
    """
    known = [(each, found) for each, found in tried if found is not None and found.is_dollars == now.is_dollars]
    chosen: list[tuple[Neighbour, str]] = []
    fewest = min((found.missed for _, found in known), default=now.missed)
    if fewest < now.missed:
        meets = "misses " + str(fewest) if fewest else "meets all objectives"
        best = [pair for pair in known if pair[1].missed == fewest]
        for each, found in (min(best, key=lambda pair: (pair[1].price, pair[1].e2e)), min(best, key=_e2e)):
            chosen.append((each, f"{meets}, {_cost(found.price, now.price)}"))
    elif now.missed:
        faster = [pair for pair in known if pair[1].missed == now.missed and pair[1].e2e < now.e2e * (1 - LEAST)]
        for each, found in sorted(faster, key=_e2e):
            gain = f"faster by {_percent(1 - found.e2e / now.e2e)}, {_cost(found.price, now.price)}"
            chosen.append((each, f"{gain}, still misses {now.missed}"))
    else:
        cheaper = [pair for pair in known if not pair[1].missed and pair[1].price < now.price * (1 - LEAST)]
        for each, found in sorted(cheaper, key=lambda pair: (pair[1].price, pair[1].e2e))[:1]:
            chosen.append((each, f"cheaper by {_percent(1 - found.price / now.price)}"))
        allowed = [pair for pair in known if not pair[1].missed and pair[1].price <= now.price]
        for each, found in sorted((pair for pair in allowed if pair[1].e2e < now.e2e * (1 - LEAST)), key=_e2e):
            chosen.append((each, f"faster by {_percent(1 - found.e2e / now.e2e)}, {_cost(found.price, now.price)}"))
    made: dict[str, Better] = {}
    for each, gain in chosen:
        made.setdefault(each.label, Better(f"{gain}: {each.label}", question.with_settings(each.settings)))
    return list(made.values())[:MOST]


def nearby(questions: Question, keys: Sequence[tuple[str, Sequence[Any]]]) -> list[Question]:
    """The questions with one setting changed to each of these values, whose tables are built ahead."""
    return [
        replace(questions.with_settings({key: value}), num_requests=1)
        for key, values in keys
        for value in values
        if questions.settings.get(key) != value
    ]


def _replicas(number: int) -> str:
    return "1 replica" if number == 1 else f"{number} replicas"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _cost(price: float, now: float) -> str:
    if price > now:
        return f"costs {_percent(price / now - 1)} more"
    return "at the same cost" if price == now else f"cheaper by {_percent(1 - price / now)}"


def _e2e(pair: tuple[Neighbour, Judged]) -> float:
    return pair[1].e2e

"""The time of communication between GPUs: measured curves where the links allow them, else what the links take."""

import math
from typing import Any

import numpy as np

from fastsim.catalog.hardware import Node
from fastsim.deployment.operators.kinds import BYTES, INPUT_BYTES
from fastsim.predictors.forests import forest as shipped

from .device_forests import Sources
from .scaled import slowed
from .times import Floats, monotone

PCIE_GB_S = 32.0  # between GPUs without a pairwise link


def link_gb_s(node: Node, num_gpus: int) -> float:
    """GB/s of the slowest link between the GPUs of a stage."""
    if num_gpus > node.num_devices:
        return min(node.link_gb_s, node.network_gb_s)
    return min(node.link_gb_s, PCIE_GB_S) if node.pairwise and num_gpus > 2 else node.link_gb_s


def all_reduce_ms(sources: Sources, node: Node, tp: int, num_tokens: np.ndarray, cap: int) -> Floats:
    """Times of an all-reduce, ms, by the measured curve: with CUDA graphs up to ``cap`` tokens, eager beyond.

    Where the node's links are slower than those of the measured machine, they bound the time. Through the link between
    two CPUs a curve is as many times as slow as it was measured there with two GPUs. The curve of a GPU that
    was not measured is scaled from the machine with the nearest link. Between several nodes,
    the GPUs at the same position in each node then add up their shares over the network, in a ring.
    """
    card = all_reduce_card(sources, node, tp)
    elements = np.maximum(1, num_tokens) * sources.operators.hidden_size
    inside, nodes = min(tp, node.num_devices), -(-tp // node.num_devices)
    link = link_gb_s(node, inside)
    ring = 2 * (inside - 1) / inside * BYTES * elements / (link * 1e6) + node.link_latency_us * 1e-3
    ms = ring
    if card is not None:
        modes = [_curve(card["curves"][mode], inside, elements) for mode in ("graph", "eager")]
        if node.between_sockets and "slower_link" in card:
            modes = [ms * slower for ms, slower in zip(modes, _slower(card, elements), strict=True)]
        ms = np.where(num_tokens <= cap, *modes)
        if link < card["link_gb_s"]:
            ms = np.maximum(ms, ring)
    if nodes > 1:
        share = 2 * (nodes - 1) / nodes * BYTES * elements / inside
        ms = ms + share / (node.network_gb_s * 1e6) + 2 * (nodes - 1) * node.link_latency_us * 1e-3
    return np.asarray(ms)


def all_reduce_card(sources: Sources, node: Node, tp: int) -> dict[str, Any] | None:
    """The curves of an all-reduce: the device's own, or else those measured over the nearest link, scaled to this link.

    What a curve takes at its fastest is latency, which stays; the rest goes with the link.
    """
    if sources.origin.kinship == "own":
        own = sources.card("all_reduce")
        return None if own is None else _of_release(own, *sources.kernels)
    link = link_gb_s(node, min(tp, node.num_devices))
    cards = [shipped.card(system, "all_reduce") for system in shipped.systems()]
    card = _of_release(min(cards, key=lambda one: abs(math.log(one["link_gb_s"] / link))), *sources.kernels)
    slower = card["link_gb_s"] / link
    curves = {
        mode: {gpus: slowed(curve, slower) for gpus, curve in by_gpus.items()}
        for mode, by_gpus in card["curves"].items()
    }
    return card | {"curves": curves, "link_gb_s": link}


def _of_release(card: dict[str, Any], framework: str, release: tuple[int, ...]) -> dict[str, Any]:
    """The card with the curves that a release of a framework takes: the newest that it has, or the oldest of all.

    Without a release they are the framework's newest. vLLM's, where the framework was not measured.
    """
    others = [one for one in card.get("others", []) if one["framework"] == framework]
    if framework == "vllm":
        others = [one for one in others if release and list(release) < one["before"]]
    known = [one for one in others if not release or one.get("since", [0]) <= list(release)] or others[:1]
    return card | {"curves": known[-1]["curves"]} if known else card


def _slower(card: dict[str, Any], elements: np.ndarray) -> list[Floats]:
    """How many times as slow an all-reduce of two GPUs is through the link between two CPUs, by mode: 1 or more."""
    slower, curves = card["slower_link"]["curves"], card["curves"]
    return [
        np.maximum(1.0, _curve(slower[mode], 2, elements) / _curve(curves[mode], 2, elements))
        for mode in ("graph", "eager")
    ]


def _curve(curves: dict[str, list[list[float]]], num_gpus: int, elements: np.ndarray) -> Floats:
    """Interpolate the measured points, those of the next larger number of GPUs that was measured."""
    sizes = sorted(map(int, curves))
    size, ms = np.array(curves[str(min([known for known in sizes if known >= num_gpus], default=sizes[-1]))]).T
    return np.asarray(np.exp(np.interp(np.log(elements), np.log(size), np.log(monotone(ms)))))


def gather_scatter_ms(sources: Sources, node: Node, tp: int, num_tokens: np.ndarray) -> Floats:
    """Times of one all-gather among data-parallel ranks, or of one reduce-scatter, ms: the mean of both.

    ``num_tokens``: of each rank, whose GPUs at the same position exchange them. NCCL's measured curves hold, slower
    through the link between two CPUs as an all-reduce is. Where the node's links are slower than those of the measured
    machine, or a device was not measured, or ranks are on several nodes, links bound the time: each GPU receives the
    tokens of all other ranks.
    """
    ranks = sources.operators.ranks
    elements = np.maximum(1, num_tokens) * ranks * sources.operators.hidden_size
    inside = ranks * tp <= node.num_devices
    link = link_gb_s(node, ranks * tp) if inside else min(node.link_gb_s, node.network_gb_s)
    received: Floats = (ranks - 1) / ranks * BYTES * elements / (link * 1e6) + node.link_latency_us * 1e-3
    card = sources.card("gather_scatter") if sources.origin.kinship == "own" and inside else None
    if card is None:
        return received
    ms = np.mean([_curve(curve, ranks, elements) for curve in card["curves"].values()], axis=0)
    reduced = all_reduce_card(sources, node, ranks)
    if node.between_sockets and reduced is not None and "slower_link" in reduced:
        ms = ms * _slower(reduced, elements)[1]
    return np.asarray(np.maximum(ms, received) if link < card["link_gb_s"] else ms)


def gather_curve(sources: Sources, node: Node, tp: int) -> Floats | None:
    """The elements of all ranks at which an all-gather was measured for as many GPUs; None where it was not."""
    ranks = sources.operators.ranks
    card = (
        sources.card("gather_scatter") if sources.origin.kinship == "own" and ranks * tp <= node.num_devices else None
    )
    if (
        card is None
        or link_gb_s(node, ranks * tp) < card["link_gb_s"]
        or str(ranks) not in card["curves"]["all_gather"]
    ):
        return None
    return np.array(card["curves"]["all_gather"][str(ranks)])[:, 0]


def all_to_all_rows(sources: Sources, tp: int, kind: str) -> dict[str, Floats] | None:
    """Measured [tokens of one GPU, ms] of a dispatch and a combine, for this number of GPUs and this model's width."""
    ops = sources.operators
    card = sources.card("moe_a2a") if sources.origin.kinship != "other" else None
    if ops.experts is None or card is None or card["gpus"] != tp:
        return None
    ms = {}
    for phase, rows in card["curves"][kind].items():
        table = np.array([row for row in rows if row[1:3] == [ops.hidden_size, ops.experts.top_k]])
        if not table.size:
            return None
        tokens = np.unique(table[:, 0])
        ms[phase] = np.array([[n, np.exp(np.log(table[table[:, 0] == n, 3]).mean())] for n in tokens])
    return ms


def all_to_all_ms(sources: Sources, node: Node, num_tokens: np.ndarray, cap: int) -> Floats:
    """Times of one exchange of tokens, ms: the mean of dispatch and combine.

    Some models were measured on eight GPUs, with low-latency kernels up to ``cap`` tokens. Otherwise each GPU sends
    its share of the tokens over its link to the GPUs of their experts. ``num_tokens``: of each data-parallel rank.
    """
    ops = sources.operators
    assert ops.experts
    tp, num_tokens = ops.experts.ep, ops.ranks * num_tokens
    width = min(BYTES, INPUT_BYTES[ops.experts.precision]) * ops.hidden_size
    moved = num_tokens / tp * ops.experts.top_k * width * (tp - 1) / tp * ops.experts.imbalance
    formula: Floats = moved / (link_gb_s(node, tp) * 1e6) + node.link_latency_us * 1e-3
    measured = {}
    for kind in ("decode", "prefill"):
        rows = all_to_all_rows(sources, tp, kind)
        if rows is None:
            return formula
        each = np.maximum(1, num_tokens / tp)
        curves = [(table[:, 0], monotone(table[:, 1])) for table in rows.values()]
        ms = [np.interp(each, n, ms) * np.maximum(1, each / n[-1]) for n, ms in curves]
        measured[kind] = np.mean(ms, axis=0) * ops.experts.imbalance
    ms = np.where(num_tokens <= cap, measured["decode"], measured["prefill"])
    return np.asarray(ms if sources.origin.kinship == "own" else np.maximum(ms, formula))


def send_ms(sources: Sources, node: Node, num_gpus: int, num_tokens: np.ndarray) -> Floats:
    """Times to send activations to the next stage, ms: as measured on this node, or else by the link.

    Stages on several nodes are joined by the network.
    """
    inside = num_gpus <= node.num_devices
    link = node.link_gb_s if inside else node.network_gb_s
    moved = BYTES * sources.operators.hidden_size * num_tokens
    if (curve := send_curve(sources, node, inside)) is not None:
        size, ms = curve
        return np.asarray(np.interp(moved, size, monotone(ms)) * np.maximum(1, moved / size[-1]))
    return np.asarray(moved / (link * 1e6) + node.link_latency_us * 1e-3)


def send_curve(sources: Sources, node: Node, inside: bool) -> tuple[Floats, Floats] | None:
    """Bytes and ms of sends between two GPUs of a node, or of two nodes; None where none was measured."""
    card = sources.card("send_recv")
    curve = card["curves"].get(node.name, {}).get("inside" if inside else "between") if card else None
    return None if curve is None else tuple(np.array(curve).T)

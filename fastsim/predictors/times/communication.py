"""What GPUs send each other: measured curves, bounded by the links of the node, and links alone beyond them."""

import numpy as np

from fastsim.catalog.hardware import Node
from fastsim.deployment.operators.decoder import Operators
from fastsim.deployment.operators.kinds import BYTES, INPUT_BYTES

from .device_forests import Sources
from .times import Floats, monotone

PCIE_GB_S = 32.0  # between GPUs that a pairwise link does not join


def link_gb_s(node: Node, num_gpus: int) -> float:
    """Between the GPUs of a stage: the slowest link there is."""
    if num_gpus > node.num_devices:
        return min(node.link_gb_s, node.network_gb_s)
    return min(node.link_gb_s, PCIE_GB_S) if node.pairwise and num_gpus > 2 else node.link_gb_s


def all_reduce_ms(sources: Sources, node: Node, tp: int, num_tokens: np.ndarray, cap: int) -> Floats:
    """The measured curve, of a CUDA graph up to ``cap`` tokens and eager beyond; slower links bound it.

    Among several nodes, the GPUs of the same place in each then add up their shares over the network, in a ring.
    """
    card = sources.card("all_reduce")
    elements = np.maximum(1, num_tokens) * sources.operators.hidden_size
    inside, nodes = min(tp, node.num_devices), -(-tp // node.num_devices)
    link = link_gb_s(node, inside)
    ring = 2 * (inside - 1) / inside * BYTES * elements / (link * 1e6) + node.link_latency_us * 1e-3
    found = ring
    if card is not None:
        modes = [_curve(card["curves"][mode], inside, elements) for mode in ("graph", "eager")]
        found = np.where(num_tokens <= cap, *modes)
        if link < card["link_gb_s"]:
            found = np.maximum(found, ring)
    if nodes > 1:
        share = 2 * (nodes - 1) / nodes * BYTES * elements / inside
        found = found + share / (node.network_gb_s * 1e6) + 2 * (nodes - 1) * node.link_latency_us * 1e-3
    return np.asarray(found)


def _curve(curves: dict[str, list[list[float]]], num_gpus: int, elements: np.ndarray) -> Floats:
    """A line through the measured points, of the next number of GPUs that was measured."""
    sizes = sorted(map(int, curves))
    size, ms = np.array(curves[str(min([known for known in sizes if known >= num_gpus], default=sizes[-1]))]).T
    return np.asarray(np.exp(np.interp(np.log(elements), np.log(size), np.log(monotone(ms)))))


def all_to_all_rows(sources: Sources, tp: int, kind: str) -> dict[str, Floats] | None:
    """Measured [tokens of one GPU, ms] of a dispatch and a combine, for this many GPUs and this model's width."""
    ops = sources.operators
    card = sources.card("moe_a2a")
    if ops.experts is None or card is None or card["gpus"] != tp:
        return None
    found = {}
    for phase, rows in card["curves"][kind].items():
        table = np.array([row for row in rows if row[1:3] == [ops.hidden_size, ops.experts.top_k]])
        if not table.size:
            return None
        tokens = np.unique(table[:, 0])
        found[phase] = np.array([[n, np.exp(np.log(table[table[:, 0] == n, 3]).mean())] for n in tokens])
    return found


def all_to_all_ms(sources: Sources, node: Node, num_tokens: np.ndarray, cap: int) -> Floats:
    """One exchange, the mean of dispatch and combine.

    Measured for some models on eight GPUs, low-latency kernels up to ``cap`` tokens; else each GPU sends its share of
    the tokens to the GPUs of their experts over its link.
    """
    ops = sources.operators
    assert ops.experts
    tp = ops.experts.ep
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
        found = [np.interp(each, n, ms) * np.maximum(1, each / n[-1]) for n, ms in curves]
        measured[kind] = np.mean(found, axis=0) * ops.experts.imbalance
    return np.asarray(np.where(num_tokens <= cap, measured["decode"], measured["prefill"]))


def send_ms(ops: Operators, node: Node, num_gpus: int, num_tokens: np.ndarray) -> Floats:
    """Activations to the next stage; stages on several nodes meet over the network."""
    link = node.link_gb_s if num_gpus <= node.num_devices else node.network_gb_s
    return np.asarray(BYTES * ops.hidden_size * num_tokens / (link * 1e6) + node.link_latency_us * 1e-3)

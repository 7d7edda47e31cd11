"""The operators of one iteration of a decoder, with their shapes, FLOPs and bytes on each GPU.

``count`` is the number of layers that have an operator: layers of one model differ in their experts and windows.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from fastsim.catalog.quantization import Quantization, uniform

from .kinds import BYTES, Attention, Elementwise, Experts, Gemm, Recurrence

if TYPE_CHECKING:
    from fastsim.catalog.model import Model


@dataclass(frozen=True, slots=True)
class Operators:
    """Operators of the layers, named as in Vidur's profiles, and those that run once per iteration.

    Each all-reduce moves ``hidden_size`` elements per token (``num_all_reduces`` in all), and so does the send to the
    next stage. ``num_all_to_alls`` counts the exchanges of tokens among the GPUs that share the experts, and
    ``num_gathers`` the all-gathers and reduce-scatters among ``ranks`` data-parallel ranks.
    """

    hidden_size: int
    num_layers: int
    gemms: tuple[Gemm, ...]
    attentions: tuple[Attention, ...]
    all_experts: tuple[Experts, ...]  # routed; several where layers differ in their precision
    elementwise: tuple[Elementwise, ...]
    num_all_reduces: int
    num_all_to_alls: int
    embedding: Elementwise
    final_norm: Elementwise
    lm_head: Gemm
    recurrence: Recurrence | None = None  # of layers with a linear mixer
    num_gathers: int = 0
    ranks: int = 1

    @property
    def attention(self) -> Attention:
        """The attention that most layers have."""
        return max(self.attentions, key=lambda attention: attention.count)

    @property
    def experts(self) -> Experts | None:
        """The routed experts that most layers have; None for a dense model."""
        return max(self.all_experts, key=lambda experts: experts.count, default=None)

    def weight_bytes(self) -> int:
        """Bytes of the layers' weights on one GPU, without embedding, final norm and LM head."""
        total = math.fsum(gemm.count * gemm.weight_bytes() for gemm in self.gemms)
        total += math.fsum(BYTES * kernel.count * kernel.weights for kernel in self.elementwise)
        return int(total + math.fsum(experts.count * experts.weight_bytes() for experts in self.all_experts))

    def kv_bytes_per_token(self) -> int:
        """Bytes that one token takes in the KV cache of all layers, on one GPU."""
        return sum(attention.count * attention.kept_bytes_per_token() for attention in self.attentions)

    def state_bytes_per_sequence(self) -> int:
        """Bytes that the linear mixers of all layers keep of one sequence, on one GPU."""
        return self.recurrence.count * self.recurrence.state_bytes() if self.recurrence else 0


def operators(
    model: "Model",
    tensor_parallel_size: int,
    *,
    precision: str | Quantization = "bf16",
    kv_precision: str = "bf16",
    expert_parallel: bool = False,
    all_to_all: bool = False,
    imbalance: float = 1.0,
    skew: float = 0.0,
    layers: Sequence[int] | None = None,
    data_parallel_size: int = 1,
    redundant: int = 0,
) -> Operators:
    """Operators of ``model`` on one of ``tensor_parallel_size`` GPUs.

    ``layers`` selects layers, counted from 0; None takes all. KV heads are copied where there are fewer of them than
    GPUs; MLP and vocabulary are rounded up. ``precision`` is that of each module, or the name of one for all of them;
    embedding and router stay in 16 bits, as serving engines leave them. A GEMM that some layers have in one precision
    and some in another becomes two operators.

    With ``expert_parallel`` the GPUs share the experts instead of splitting each one; every GPU has all tokens already,
    so that the all-reduce adds up their outputs. With ``all_to_all`` each GPU keeps its share of the tokens between
    attention and experts, and exchanges them (a dispatch and a combine) with the GPUs that hold their experts; the
    all-reduce behind attention is then split around the exchange into a reduce-scatter and an all-gather.

    Of ``data_parallel_size`` ranks each has all but the routed experts, which the GPUs of all ranks split or share:
    the tokens of all ranks are gathered on all GPUs, and the outputs scattered, or both are exchanged. ``redundant``
    copies of experts are beside the model's own.
    """
    chosen = range(model.num_layers) if layers is None else layers if isinstance(layers, range) else tuple(layers)
    weights = uniform(precision, model.num_experts > 0) if isinstance(precision, str) else precision
    return _operators(
        model,
        tensor_parallel_size,
        weights,
        kv_precision,
        expert_parallel,
        all_to_all,
        imbalance,
        skew,
        chosen,
        data_parallel_size,
        redundant,
    )


@lru_cache(maxsize=1024)  # a plan asks for those of every stage several times
def _operators(
    model: "Model",
    tp: int,
    weights: Quantization,
    kv_precision: str,
    expert_parallel: bool,
    all_to_all: bool,
    imbalance: float,
    skew: float,
    chosen: range | tuple[int, ...],
    ranks: int,
    redundant: int,
) -> Operators:
    from .layers import dense_parts, expert_parts, gemms_of, norms, routed_experts, told_apart
    from .mixers import attention_parts, linear_parts

    hidden = model.hidden_size
    kinds = model.kinds(chosen)
    mixing = sum(len(alike) for kind, alike in kinds.items() if kind.mixer != "none")
    mlps = sum(len(alike) for kind, alike in kinds.items() if kind.mlp != "none")
    routed = [layer for kind, alike in kinds.items() if kind.mlp == "experts" for layer in alike]
    gemms, small, attentions = attention_parts(model, tp, kinds, weights, kv_precision)
    (more, kernels), recurrence = linear_parts(model, tp, kinds, weights)
    gemms, small = gemms + more, small + kernels + norms(model, mixing, mlps)
    more, kernels = dense_parts(model, tp, kinds, weights)
    gemms, small = gemms + more, small + kernels
    experts: tuple[Experts, ...] = ()
    gpus = tp * ranks
    if routed:
        shared = (imbalance, skew, ranks, redundant)
        experts = routed_experts(model, gpus, gpus if expert_parallel else 1, routed, weights, *shared)
        more, kernels = expert_parts(model, tp, routed, weights)
        gemms, small = gemms + more, small + kernels
    exchanged = len(routed) if all_to_all and expert_parallel and gpus > 1 else 0
    return Operators(
        hidden_size=hidden,
        num_layers=len(chosen),
        gemms=tuple(told_apart(gemms)),
        attentions=attentions,
        all_experts=experts,
        elementwise=tuple(told_apart(small)),
        num_all_reduces=(mixing + mlps - exchanged) if tp > 1 else 0,
        num_all_to_alls=2 * exchanged,
        embedding=Elementwise(
            "embedding", BYTES * hidden, BYTES * hidden, 1, weights=-(-model.vocab_size // tp) * hidden
        ),
        final_norm=Elementwise("final_norm", 2 * BYTES * hidden, 2 * BYTES * hidden, 1, weights=hidden),
        lm_head=gemms_of("lm_head", -(-model.vocab_size // tp), hidden, (0,), weights)[0],
        recurrence=recurrence,
        num_gathers=2 * (len(routed) - exchanged) if ranks > 1 else 0,
        ranks=ranks,
    )

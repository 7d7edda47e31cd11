"""The number of weights of a model, counted from its operators."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .decoder import operators

if TYPE_CHECKING:
    from fastsim.catalog.model import Model


@dataclass(frozen=True, slots=True)
class Parameters:
    """Weights of a model, towers included; ``active`` are those that one token passes through."""

    total: int
    active: int


def parameters(model: "Model") -> Parameters:
    """Count the weights of a model. Biases of MLPs and of LayerNorms are left out: at most 1 in 1000."""
    ops = operators(model, 1)
    weights = sum(gemm.count * (gemm.n * gemm.k + gemm.n * gemm.bias) for gemm in ops.gemms)
    weights += sum(kernel.count * kernel.weights for kernel in ops.elementwise)
    vocabulary = (1 if model.tie_word_embeddings else 2) * model.vocab_size * model.hidden_size
    weights += vocabulary + ops.final_norm.weights + model.position_embeddings * model.hidden_size
    weights += model.tower_parameters + model.layer_embeddings
    routed = sum(experts.count * experts.weights() for experts in ops.all_experts)
    chosen = routed * model.num_experts_per_tok // model.num_experts if routed else 0
    return Parameters(weights + routed, weights + chosen)

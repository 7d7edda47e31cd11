"""What one iteration of a decoder is made of: operators, their shapes, FLOPs and bytes, per GPU.

``count`` is the number of layers that have an operator: layers of one model differ in their experts and windows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastsim.catalog.model import Model

BYTES = 2  # bf16 activations
# Bytes of a weight with its scales: a float32 per 128 x 128 block, a bf16 per 128 weights, an fp8 per 16.
WEIGHT_BYTES = {"bf16": 2.0, "fp8": 1.0, "fp8_block": 1 + 4 / 128**2, "int8_wo": 1 + 2 / 128, "int4_wo": 0.5 + 2 / 128}
WEIGHT_BYTES |= {"nvfp4": 0.5 + 1 / 16}
INPUT_BYTES = {"bf16": 2.0, "fp8": 1.0, "fp8_block": 1.0, "int8_wo": 2.0, "int4_wo": 2.0, "nvfp4": 0.5}
KV_BYTES = {"bf16": 2, "fp8": 1}


@dataclass(frozen=True, slots=True)
class Gemm:
    """Tokens x k times k x n."""

    name: str
    n: int
    k: int
    count: int = 1
    precision: str = "bf16"
    bias: bool = False

    def flops(self, num_tokens: int) -> int:
        """Multiplications and additions."""
        return 2 * num_tokens * self.n * self.k

    def bytes_read(self, num_tokens: int) -> float:
        """Weights and input, each once."""
        return self.n * self.k * WEIGHT_BYTES[self.precision] + num_tokens * self.k * INPUT_BYTES[self.precision]

    def bytes_written(self, num_tokens: int) -> int:
        """The output, in 16 bits."""
        return BYTES * num_tokens * self.n

    def bytes_moved(self, num_tokens: int) -> float:
        """Read and written."""
        return self.bytes_read(num_tokens) + self.bytes_written(num_tokens)

    def weight_bytes(self) -> float:
        """Of one layer; the bias is in 16 bits."""
        return self.n * self.k * WEIGHT_BYTES[self.precision] + BYTES * self.n * self.bias


@dataclass(frozen=True, slots=True)
class Elementwise:
    """Kernels whose time is the bytes they move, and their launch."""

    name: str
    bytes_read: float  # per token
    bytes_written: float  # per token
    num_kernels: int
    count: int = 1
    weights: int = 0  # elements, in 16 bits

    @property
    def bytes_per_token(self) -> float:
        """Read and written."""
        return self.bytes_read + self.bytes_written


@dataclass(frozen=True, slots=True)
class Attention:
    """Heads of one GPU; the KV cache is written by the attention kernels. ``window``: tokens it looks back."""

    heads: int
    kv_heads: int
    head_dim: int
    count: int = 1
    window: int | None = None
    precision: str = "bf16"  # of the KV cache
    latent_dim: int = 0  # width of the compressed KV that all heads share, with its rope part; 0: plain heads
    value_dim: int = 0  # of a head, where it is not head_dim

    @property
    def name(self) -> str:
        """What sets it apart from the other attention of a model."""
        return "attn" if self.window is None else "attn_window"

    def kv_bytes_per_token(self) -> int:
        """Keys and values of one token in one layer."""
        return KV_BYTES[self.precision] * (self.latent_dim or 2 * self.kv_heads * self.head_dim)

    def flops(self, processed: int, chunk: int) -> int:
        """Of ``chunk`` tokens after ``processed`` ones, causal, the window left out."""
        dims = self.head_dim + (self.value_dim or self.head_dim)
        return 2 * self.heads * dims * (chunk * processed + chunk * (chunk + 1) // 2)


@dataclass(frozen=True, slots=True)
class Experts:
    """The routed experts of a layer on one GPU: gate and up, activation and down of the tokens that each gets.

    ``intermediate`` is the model's; ``tp`` GPUs share an expert and ``ep`` GPUs share the experts. The busiest of
    these gets ``imbalance`` times the mean number of tokens.
    """

    hidden: int
    intermediate: int
    num_experts: int
    top_k: int
    tp: int
    ep: int
    count: int
    precision: str = "bf16"
    imbalance: float = 1.0

    def width(self) -> int:
        """Elements of an expert's intermediate result on this GPU."""
        return -(-self.intermediate // self.tp)

    def rows(self, num_tokens: float) -> float:
        """Tokens times the experts of each, on the busiest GPU."""
        return num_tokens * self.top_k / self.ep * (self.imbalance if self.ep > 1 else 1.0)

    def flops(self, num_tokens: float) -> float:
        """Of the busiest GPU."""
        return 6 * self.rows(num_tokens) * self.hidden * self.width()

    def bytes_read(self, num_tokens: float) -> float:
        """Weights of the experts that get a token when all are as likely, and the input of each."""
        idle = float((1 - self.top_k / self.num_experts) ** num_tokens)
        weights = self.weight_bytes() * (1 - idle)
        return weights + self.rows(num_tokens) * (self.hidden + self.width()) * INPUT_BYTES[self.precision]

    def bytes_written(self, num_tokens: float) -> float:
        """Intermediate results and outputs."""
        return BYTES * self.rows(num_tokens) * (2 * self.width() + self.hidden)

    def weight_bytes(self) -> float:
        """Of one layer."""
        return 3 * self.hidden * self.width() * -(-self.num_experts // self.ep) * WEIGHT_BYTES[self.precision]


@dataclass(frozen=True, slots=True)
class Operators:
    """Operators of the layers (names as in Vidur's profiles), and those that run once.

    ``hidden_size`` elements per token go into each all-reduce (``num_all_reduces`` in all) and to the next stage.
    ``num_all_to_alls``: exchanges of tokens among the GPUs that share the experts.
    """

    hidden_size: int
    num_layers: int
    gemms: tuple[Gemm, ...]
    attentions: tuple[Attention, ...]
    experts: Experts | None
    elementwise: tuple[Elementwise, ...]
    num_all_reduces: int
    num_all_to_alls: int
    embedding: Elementwise
    final_norm: Elementwise
    lm_head: Gemm

    @property
    def attention(self) -> Attention:
        """What most layers do."""
        return max(self.attentions, key=lambda one: one.count)

    def layer_flops(self, num_tokens: int) -> int:
        """FLOPs of the GEMMs and experts of all layers for a batch of ``num_tokens``, per layer."""
        total = sum(gemm.count * gemm.flops(num_tokens) for gemm in self.gemms)
        if self.experts:
            total += int(self.experts.count * self.experts.flops(num_tokens))
        return total // self.num_layers

    def attention_flops(self, processed: int, chunk: int) -> int:
        """FLOPs of a layer's attention for ``chunk`` tokens after ``processed`` ones, causal."""
        return self.attention.flops(processed, chunk)

    def weight_bytes(self) -> int:
        """Weights of the layers on one GPU: embedding, final norm and LM head are not among them."""
        total = sum(gemm.count * gemm.weight_bytes() for gemm in self.gemms)
        total += sum(BYTES * kernel.count * kernel.weights for kernel in self.elementwise)
        return int(total + (self.experts.count * self.experts.weight_bytes() if self.experts else 0))

    def kv_bytes_per_token(self) -> int:
        """KV cache of one token in all layers, on one GPU."""
        return sum(one.count * one.kv_bytes_per_token() for one in self.attentions)


def operators(
    model: "Model",
    tensor_parallel_size: int,
    *,
    precision: str = "bf16",
    kv_precision: str = "bf16",
    expert_parallel: bool = False,
    all_to_all: bool = False,
    imbalance: float = 1.0,
    layers: Sequence[int] | None = None,
) -> Operators:
    """Operators of ``model`` on one of ``tensor_parallel_size`` GPUs.

    ``layers``: which of them, from 0; all if None. KV heads are copied where there are fewer of them than GPUs; MLP
    and vocabulary are rounded up. Embedding, router and LM head stay in 16 bits, as serving engines leave them.
    ``expert_parallel``: the GPUs share the experts instead of each expert; every GPU has all tokens already, so that
    the all-reduce joins their outputs. With ``all_to_all`` each GPU keeps its share of the tokens between attention
    and experts and exchanges them (a dispatch and a combine) with those that hold their experts; the all-reduce
    behind attention is then split around them into a reduce-scatter and an all-gather.
    """
    from .parts import attention_parts, dense_parts, expert_parts, norms

    tp, hidden = tensor_parallel_size, model.hidden_size
    chosen = range(model.num_layers) if layers is None else layers
    count, routed = len(chosen), sum(model.has_experts(layer) for layer in chosen)
    gemms, small, attentions = attention_parts(model, tp, count, precision, kv_precision)
    small += norms(model, count)
    if count > routed:
        more, kernels = dense_parts(model, tp, count - routed, precision)
        gemms, small = gemms + more, small + kernels
    experts = None
    if routed:
        ep = tp if expert_parallel else 1
        experts = Experts(
            hidden,
            model.moe_intermediate_size,
            model.num_experts,
            model.num_experts_per_tok,
            tp // ep,
            ep,
            routed,
            precision,
            imbalance,
        )
        more, kernels = expert_parts(model, tp, routed, precision)
        gemms, small = gemms + more, small + kernels
    exchanged = routed if all_to_all and expert_parallel and tp > 1 else 0
    return Operators(
        hidden_size=hidden,
        num_layers=count,
        gemms=tuple(gemms),
        attentions=attentions,
        experts=experts,
        elementwise=tuple(small),
        num_all_reduces=(2 * count - exchanged) if tp > 1 else 0,
        num_all_to_alls=2 * exchanged,
        embedding=Elementwise(
            "embedding", BYTES * hidden, BYTES * hidden, 1, weights=-(-model.vocab_size // tp) * hidden
        ),
        final_norm=Elementwise("final_norm", 2 * BYTES * hidden, 2 * BYTES * hidden, 1, weights=hidden),
        lm_head=Gemm("lm_head", -(-model.vocab_size // tp), hidden),
    )

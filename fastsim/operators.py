"""What one iteration of a dense decoder is made of: operators, their shapes, FLOPs and bytes, per GPU."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .catalog import Model

BYTES = 2  # bf16 weights, activations and KV cache


@dataclass(frozen=True, slots=True)
class Gemm:
    """Tokens x k times k x n."""

    name: str
    n: int
    k: int

    def flops(self, num_tokens: int) -> int:
        """Multiplications and additions."""
        return 2 * num_tokens * self.n * self.k

    def bytes_moved(self, num_tokens: int) -> int:
        """Weights and input read, output written, each once."""
        return BYTES * (self.n * self.k + num_tokens * (self.n + self.k))


@dataclass(frozen=True, slots=True)
class Elementwise:
    """Kernels whose time is the bytes they move, and their launch."""

    name: str
    bytes_per_token: int
    num_kernels: int


@dataclass(frozen=True, slots=True)
class Attention:
    """Heads of one GPU; the KV cache is written by the attention kernels."""

    heads: int
    kv_heads: int
    head_dim: int

    def kv_bytes_per_token(self) -> int:
        """Keys and values of one token in one layer."""
        return 2 * BYTES * self.kv_heads * self.head_dim


@dataclass(frozen=True, slots=True)
class Operators:
    """Operators of one layer (names as in Vidur's profiles), and those that run once.

    ``hidden_size`` elements per token go into each all-reduce (two per layer) and to the next stage.
    """

    hidden_size: int
    gemms: tuple[Gemm, ...]
    attention: Attention
    elementwise: tuple[Elementwise, ...]
    embedding: Elementwise
    final_norm: Elementwise
    lm_head: Gemm

    def layer_flops(self, num_tokens: int) -> int:
        """FLOPs of a layer's GEMMs for a batch of ``num_tokens``."""
        return sum(gemm.flops(num_tokens) for gemm in self.gemms)

    def attention_flops(self, processed: int, chunk: int) -> int:
        """FLOPs of a layer's attention for ``chunk`` tokens after ``processed`` ones, causal."""
        heads = self.attention.heads * self.attention.head_dim
        return 4 * heads * (chunk * processed + chunk * (chunk + 1) // 2)


def operators(model: "Model", tensor_parallel_size: int) -> Operators:
    """Operators of ``model`` on one of ``tensor_parallel_size`` GPUs.

    KV heads are copied where there are fewer of them than GPUs; MLP and vocabulary are rounded up. Norms read
    and write both the activation and the residual (fused addition), as serving engines do; with attention and
    MLP in parallel the sum of both is a kernel of its own.
    """
    tp, hidden, dim = tensor_parallel_size, model.hidden_size, model.head_dim
    heads = -(-model.num_attention_heads // tp)
    kv_heads = max(1, model.num_key_value_heads // tp)
    ffn = -(-model.intermediate_size // tp)
    projections = 2 if model.gated_mlp else 1
    rotated = 2 * BYTES * (heads + kv_heads) * dim
    norm = 4 * BYTES * hidden
    small = [
        Elementwise("attn_rope", rotated * (3 if model.qk_norm else 1), 3 if model.qk_norm else 1),
        Elementwise("mlp_act", BYTES * (projections + 1) * ffn, 1),
    ]
    if model.post_attention_norm:
        small += [Elementwise("input_layernorm", norm, 1), Elementwise("post_attention_layernorm", norm, 1)]
    else:
        small += [Elementwise("input_layernorm", norm // 2, 1), Elementwise("add", norm, 1)]
    return Operators(
        hidden_size=hidden,
        gemms=(
            Gemm("attn_pre_proj", (heads + 2 * kv_heads) * dim, hidden),
            Gemm("attn_post_proj", hidden, heads * dim),
            Gemm("mlp_up_proj", projections * ffn, hidden),
            Gemm("mlp_down_proj", hidden, ffn),
        ),
        attention=Attention(heads, kv_heads, dim),
        elementwise=tuple(small),
        embedding=Elementwise("embedding", 2 * BYTES * hidden, 1),
        final_norm=Elementwise("final_norm", norm, 1),
        lm_head=Gemm("lm_head", -(-model.vocab_size // tp), hidden),
    )

"""Kinds of operators, and the widths of their precisions."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


BYTES = 2  # bf16 activations


# Bytes of a weight with its scales: a float32 per 128 x 128 block, a bf16 per 128 weights, an fp8 per 16.
WEIGHT_BYTES = {"bf16": 2.0, "fp8": 1.0, "fp8_block": 1 + 4 / 128**2, "int8_wo": 1 + 2 / 128, "int4_wo": 0.5 + 2 / 128}


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

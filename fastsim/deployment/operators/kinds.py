"""The kinds of operators, and the bytes that each precision takes."""

from dataclasses import dataclass

from fastsim.catalog.precisions import FORMATS

from .placement import loads

BYTES = 2  # bf16 activations


# Bytes of a weight with its share of the scales, and of an input of a GEMM, by precision.
WEIGHT_BYTES = {name: kind.bits / 8 for name, kind in FORMATS.items()}
INPUT_BYTES = {name: kind.input_bits / 8 for name, kind in FORMATS.items()}
KV_BYTES = {"bf16": 2, "fp8": 1}


@dataclass(frozen=True, slots=True)
class Gemm:
    """A matrix product on one GPU: (tokens x k) times (k x n)."""

    name: str
    n: int
    k: int
    count: int = 1
    precision: str = "bf16"
    bias: bool = False
    bits: float | None = None  # of a stored weight with its scales; None: as the precision usually has

    def flops(self, num_tokens: int) -> int:
        """Multiplications and additions for ``num_tokens`` tokens."""
        return 2 * num_tokens * self.n * self.k

    def bytes_read(self, num_tokens: int) -> float:
        """Bytes of the weights and of the input, each read once."""
        return self.n * self.k * self._weight() + num_tokens * self.k * INPUT_BYTES[self.precision]

    def bytes_written(self, num_tokens: int) -> int:
        """Bytes of the output, in 16 bits."""
        return BYTES * num_tokens * self.n

    def bytes_moved(self, num_tokens: int) -> float:
        """Bytes read and written."""
        return self.bytes_read(num_tokens) + self.bytes_written(num_tokens)

    def weight_bytes(self) -> float:
        """Bytes of the weights of one layer; the bias is in 16 bits."""
        return self.n * self.k * self._weight() + BYTES * self.n * self.bias

    def _weight(self) -> float:
        """Bytes of a weight."""
        return WEIGHT_BYTES[self.precision] if self.bits is None else self.bits / 8


@dataclass(frozen=True, slots=True)
class Elementwise:
    """Small kernels whose time is that of the bytes they move, and of their launches."""

    name: str
    bytes_read: float  # per token
    bytes_written: float  # per token
    num_kernels: int
    count: int = 1
    weights: int = 0  # elements, in 16 bits

    @property
    def bytes_per_token(self) -> float:
        """Bytes read and written per token."""
        return self.bytes_read + self.bytes_written


@dataclass(frozen=True, slots=True)
class Attention:
    """Attention on one GPU, whose kernels also write the KV cache. ``window``: tokens that it looks back."""

    heads: int
    kv_heads: int
    head_dim: int
    count: int = 1
    window: int | None = None
    precision: str = "bf16"  # of the KV cache
    latent_dim: int = 0  # width of the compressed KV that all heads share, with its rope part; 0: plain heads
    value_dim: int = 0  # of a head, where it is not head_dim
    index_bytes: int = 0  # of a token, that sparse attention keeps beside the compressed KV: of its indexer, scales
    shares_kv: bool = False  # whether it reads the KV cache of another layer, and keeps none
    label: str = ""  # ends the name where layers with one kind of window differ in their heads

    @property
    def name(self) -> str:
        """A name that tells windowed attention from full attention in one model."""
        return ("attn" if self.window is None else "attn_window") + self.label

    def kept_bytes_per_token(self) -> int:
        """Bytes that one token takes in the KV cache of one layer."""
        return 0 if self.shares_kv else self.kv_bytes_per_token()

    def kv_bytes_per_token(self) -> int:
        """Bytes of the keys and values of one token that one layer reads."""
        width = self.latent_dim or self.kv_heads * (self.head_dim + (self.value_dim or self.head_dim))
        return KV_BYTES[self.precision] * width + self.index_bytes

    def flops(self, processed: int, chunk: int) -> int:
        """Causal attention of ``chunk`` tokens after ``processed`` ones, as if there were no window."""
        dims = self.head_dim + (self.value_dim or self.head_dim)
        return 2 * self.heads * dims * (chunk * processed + chunk * (chunk + 1) // 2)


@dataclass(frozen=True, slots=True)
class Experts:
    """The routed experts of a layer on one GPU: gate and up, activation, and down for the tokens that each expert gets.

    ``intermediate`` is the model's width; ``tp`` GPUs split each expert and ``ep`` GPUs share the experts. The busiest
    of these gets ``imbalance`` times the mean number of tokens. Where ``ranks`` data-parallel ranks share the experts,
    numbers of tokens are those of one rank, and each has as many. ``skew``: how much more popular some experts are than
    others; the one of popularity rank r is chosen in proportion to r ** -skew. ``redundant``: copies of experts beside
    the model's own.
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
    bits: float | None = None  # of a stored weight with its scales; None: as the precision usually has
    bias: bool = False
    name: str = "moe_experts"
    projections: int = 3  # 2: there is no gate
    skew: float = 0.0
    ranks: int = 1
    redundant: int = 0

    @property
    def num_copies(self) -> int:
        """Experts of all GPUs together, each copy counted."""
        return self.num_experts + self.redundant

    def width(self) -> int:
        """Elements of an expert's intermediate result on this GPU."""
        return -(-self.intermediate // self.tp)

    def rows(self, num_tokens: float) -> float:
        """Rows of the experts' inputs on the busiest GPU: tokens times the experts that each is sent to."""
        return self.ranks * num_tokens * self.top_k / self.ep * (self.imbalance if self.ep > 1 else 1.0)

    def reached(self, num_tokens: float) -> float:
        """Share of the experts that get a token, as expected where tokens choose independently of each other.

        An expert that a token chooses with probability q stays idle with probability (1 - q) ** num_tokens; with all
        equally likely, q is top_k / num_experts.
        """
        chosen = loads(self.num_experts, self.top_k, self.skew, self.redundant)
        return 1 - sum(float((1 - q) ** (self.ranks * num_tokens)) for q in chosen) / len(chosen)

    def flops(self, num_tokens: float) -> float:
        """Multiplications and additions on the busiest GPU."""
        return 2 * self.projections * self.rows(num_tokens) * self.hidden * self.width()

    def bytes_read(self, num_tokens: float) -> float:
        """Bytes of the input, and of the weights of the experts that get a token."""
        weights = self.weight_bytes() * self.reached(num_tokens)
        return weights + self.rows(num_tokens) * (self.hidden + self.width()) * INPUT_BYTES[self.precision]

    def bytes_written(self, num_tokens: float) -> float:
        """Bytes of intermediate results and outputs."""
        return BYTES * self.rows(num_tokens) * ((self.projections - 1) * self.width() + self.hidden)

    def weight_bytes(self) -> float:
        """Bytes of the weights of one layer on this GPU."""
        hidden, width = self.hidden, self.width()
        bytes_each = WEIGHT_BYTES[self.precision] if self.bits is None else self.bits / 8
        size = self.projections * hidden * width * bytes_each
        size += BYTES * ((self.projections - 1) * width + hidden) * self.bias
        return size * -(-self.num_copies // self.ep)

    def weights(self) -> int:
        """Elements of the weights of one layer on this GPU, with their biases."""
        each = self.projections * self.hidden * self.width()
        each += ((self.projections - 1) * self.width() + self.hidden) * self.bias
        return each * -(-self.num_copies // self.ep)


@dataclass(frozen=True, slots=True)
class Recurrence:
    """The recurrence of a linear mixer on one GPU, which reads and writes a state of constant size."""

    state: int  # elements of one sequence in one layer
    state_width: int  # bytes of one of them
    conv: int  # elements that the short convolution keeps of one sequence
    width: int  # elements that come in and go out per token
    count: int = 1

    def state_bytes(self) -> int:
        """Bytes that one sequence keeps in one layer."""
        return self.state * self.state_width + BYTES * self.conv

    def flops(self, num_tokens: float) -> float:
        """Multiplications and additions: each token decays the state, adds a product to it, and is read out of it."""
        return 6.0 * num_tokens * self.state

    def bytes_moved(self, num_tokens: float, num_sequences: float) -> float:
        """Bytes of the tokens, and of each sequence's state, which is read and written once."""
        return BYTES * num_tokens * self.width + 2 * num_sequences * self.state_bytes()

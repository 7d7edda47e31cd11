"""A model: the shapes of a decoder."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

from fastsim.catalog.linear import Linear
from fastsim.catalog.quantization import Quantization

Mixer = Literal["attention", "linear", "none"]


@dataclass(frozen=True, slots=True)
class Heads:
    """The heads of a layer's attention."""

    query: int
    kv: int
    dim: int  # of queries and keys
    value_dim: int  # of values
    has_values: bool = True  # False: keys serve as values too, so that there is no projection to values


@dataclass(frozen=True, slots=True)
class Layer:
    """What a layer consists of: what mixes its tokens, and what follows.

    A linear mixer keeps a state of constant size for each sequence instead of a KV cache, as Mamba-2 and gated delta
    nets do.
    """

    mixer: Mixer = "attention"
    window: int | None = None  # tokens that attention looks back; None: all of them
    mlp: Literal["dense", "experts", "none"] = "dense"
    heads: Heads | None = None  # None: those of the model
    intermediate_size: int = 0  # of a dense MLP; 0: that of the model
    linear_beside: bool = False  # whether a linear mixer runs beside attention, as in Falcon-H1
    shares_kv: bool = False  # whether attention reads the KV cache of another layer, as in Gemma-3n
    indexed: bool = False  # whether an indexer of its own chooses the tokens of sparse attention

    @property
    def has_state(self) -> bool:
        """Whether it keeps the state of a linear mixer for each sequence."""
        return self.mixer == "linear" or self.linear_beside


@dataclass(frozen=True, slots=True)
class Model:
    """The shapes of a decoder. Names are those of Hugging Face configurations; widths are in elements."""

    name: str
    num_layers: int
    hidden_size: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    intermediate_size: int  # width of the gate projection, and of the up projection
    gated_mlp: bool  # whether the MLP has gate, up and down projections, or only up and down
    vocab_size: int
    max_position_embeddings: int  # tokens
    tie_word_embeddings: bool  # whether the LM head shares the weights of the embedding
    qk_norm: bool
    attention_bias: bool  # whether the QKV projection has a bias
    post_attention_norm: bool  # False: attention and MLP run in parallel behind one norm, as in Phi-2
    sliding_window: int | None  # tokens, of the layers that have a window; None: all layers have full attention
    source: str
    layers: tuple[Layer, ...] = ()  # one for each layer where layers differ; empty: all are alike
    sandwich_norm: bool = False  # whether norms follow attention and MLP too, as in Gemma-2
    attention_gate: bool = False  # whether the output of attention is gated, which widens the query projection
    quantization: Quantization | None = None  # precision of each module as it is published; None: all in 16 bits
    kv_cache_dtype: str | None = None  # of the KV cache that the checkpoint is calibrated for: fp8; None: 16 bits
    num_experts: int = 0  # routed experts of a layer; 0: the model is dense
    num_experts_per_tok: int = 0
    moe_intermediate_size: int = 0  # of one expert
    moe_hidden_size: int = 0  # that tokens are projected to before routed experts, and back behind them; 0: none
    shared_expert_intermediate_size: int = 0  # of all shared experts together
    expert_bias: bool = False  # whether the matrices of the routed experts have a bias, as in gpt-oss
    kv_lora_rank: int = 0  # multi-head latent attention: width of the compressed KV; 0: there is none
    q_lora_rank: int = 0  # 0: queries are not compressed
    qk_nope_head_dim: int = 0
    qk_rope_head_dim: int = 0
    v_head_dim: int = 0
    index_heads: int = 0  # of the indexer that chooses the tokens of sparse attention; 0: there is none
    index_head_dim: int = 0
    o_lora_rank: int = 0  # width of each group that the output of attention is compressed to; 0: it is not compressed
    o_groups: int = 0
    generates: bool = True  # False: an encoder, which has no KV cache
    compressed_kv: bool = (
        False  # whether the KV cache of plain attention is compressed over tokens: its size is unknown
    )
    linear: Linear | None = None  # of the layers with a linear mixer
    position_embeddings: int = 0  # learned positions
    layer_embeddings: int = 0  # weights of the embeddings that each layer has of its own, as in Gemma-3n
    tower_parameters: int = 0  # weights of the encoders of images and sound, an estimate
    asks_top_k_top_p: bool = False  # whether its generation_config.json has tokens drawn by top-k or top-p
    notes: tuple[str, ...] = ()  # what was assumed when the model was read, and what is left out
    refused: str = ""  # why its times cannot be predicted; empty: they can

    def layer(self, number: int) -> Layer:
        """The layer with this number, counted from 0."""
        return self.layers[number] if self.layers else _alike(self.sliding_window, self.num_experts > 0)

    def kinds(self, layers: Sequence[int]) -> dict[Layer, Sequence[int]]:
        """The kinds of some layers, and which of the layers, counted from 0, are of each kind."""
        if not self.layers:
            return {self.layer(0): layers} if layers else {}
        found: dict[Layer, list[int]] = {}
        for number in layers:
            found.setdefault(self.layers[number], []).append(number)
        return dict(found)

    def has_experts(self, layer: int) -> bool:
        """Whether a layer, counted from 0, routes its tokens to experts."""
        return self.layer(layer).mlp == "experts"

    def has_mlp(self, layer: int) -> bool:
        """Whether a layer, counted from 0, has an MLP or experts behind its attention."""
        return self.layer(layer).mlp != "none"

    def mixer(self, layer: int) -> Mixer:
        """What mixes the tokens of a layer, counted from 0: attention, a linear recurrence, or nothing."""
        return self.layer(layer).mixer

    def has_state(self, layer: int) -> bool:
        """Whether a layer, counted from 0, keeps the state of a linear mixer for each sequence."""
        return self.layer(layer).has_state

    def window(self, layer: int) -> int | None:
        """Tokens that the attention of a layer, counted from 0, looks back; None: all of them."""
        return self.layer(layer).window

    @property
    def num_full_attention_layers(self) -> int:
        """Layers whose attention looks back to all tokens."""
        return sum(len(layers) for kind, layers in self.layer_kinds() if kind.mixer == "attention" and not kind.window)

    def layer_kinds(self) -> list[tuple[Layer, tuple[int, ...]]]:
        """Each kind of layer, with the layers, counted from 0, that are of this kind."""
        return [(kind, tuple(layers)) for kind, layers in self.kinds(range(self.num_layers)).items()]

    def heads(self, layer: int) -> Heads:
        """The heads of a layer's attention; the layer is counted from 0."""
        return self.heads_of(self.layer(layer))

    def heads_of(self, layer: Layer) -> Heads:
        """The heads of the attention of a kind of layer."""
        value_dim = self.v_head_dim or self.head_dim
        return layer.heads or Heads(self.num_attention_heads, self.num_key_value_heads, self.head_dim, value_dim)


@cache
def _alike(window: int | None, experts: bool) -> Layer:
    return Layer("attention", window, "experts" if experts else "dense")

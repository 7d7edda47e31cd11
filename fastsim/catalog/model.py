"""A model: the shapes of a decoder."""

from dataclasses import dataclass
from typing import Literal

from fastsim.catalog.quantization import Quantization

Mixer = Literal["attention", "linear", "none"]


@dataclass(frozen=True, slots=True)
class Layer:
    """What a layer consists of: what mixes its tokens, and what follows.

    ``window`` is the number of tokens that its attention looks back; None: all of them. A linear mixer keeps a state
    of constant size for each sequence instead of a KV cache, as Mamba-2 and gated delta nets do.
    """

    mixer: Mixer = "attention"
    window: int | None = None
    mlp: Literal["dense", "experts", "none"] = "dense"


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
    quantization: Quantization | None = None  # precision of each module as it is published; None: all in 16 bits
    kv_cache_dtype: str | None = None  # of the KV cache that the checkpoint is calibrated for: fp8; None: 16 bits
    num_experts: int = 0  # routed experts of a layer; 0: the model is dense
    num_experts_per_tok: int = 0
    moe_intermediate_size: int = 0  # of one expert
    shared_expert_intermediate_size: int = 0  # of all shared experts together
    expert_bias: bool = False  # whether the matrices of the routed experts have a bias, as in gpt-oss
    kv_lora_rank: int = 0  # multi-head latent attention: width of the compressed KV; 0: there is none
    q_lora_rank: int = 0  # 0: queries are not compressed
    qk_nope_head_dim: int = 0
    qk_rope_head_dim: int = 0
    v_head_dim: int = 0

    def layer(self, number: int) -> Layer:
        """The layer with this number, counted from 0."""
        if self.layers:
            return self.layers[number]
        return Layer("attention", self.sliding_window, "experts" if self.num_experts else "dense")

    def has_experts(self, layer: int) -> bool:
        """Whether a layer, counted from 0, routes its tokens to experts."""
        return self.layer(layer).mlp == "experts"

    def has_mlp(self, layer: int) -> bool:
        """Whether a layer, counted from 0, has an MLP or experts behind its attention."""
        return self.layer(layer).mlp != "none"

    def mixer(self, layer: int) -> Mixer:
        """What mixes the tokens of a layer, counted from 0: attention, a linear recurrence, or nothing."""
        return self.layer(layer).mixer

    def window(self, layer: int) -> int | None:
        """Tokens that the attention of a layer, counted from 0, looks back; None: all of them."""
        return self.layer(layer).window

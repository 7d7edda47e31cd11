"""A model: the shapes of a decoder."""

from dataclasses import dataclass


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
    sliding_window: int | None  # tokens; None: all layers have full attention
    source: str
    num_full_attention_layers: int = 0  # of a model with a sliding window: layers without the window
    sandwich_norm: bool = False  # whether norms follow attention and MLP too, as in Gemma-2
    quantization: str | None = None  # precision of the published weights; None: 16 bits
    num_experts: int = 0  # routed experts of a layer; 0: the model is dense
    num_experts_per_tok: int = 0
    moe_intermediate_size: int = 0  # of one expert
    shared_expert_intermediate_size: int = 0  # of all shared experts together
    first_dense_layers: int = 0  # layers before the first one with experts
    moe_layer_step: int = 1  # from there on, one layer in this many has experts
    kv_lora_rank: int = 0  # multi-head latent attention: width of the compressed KV; 0: there is none
    q_lora_rank: int = 0  # 0: queries are not compressed
    qk_nope_head_dim: int = 0
    qk_rope_head_dim: int = 0
    v_head_dim: int = 0

    def has_experts(self, layer: int) -> bool:
        """Whether a layer, counted from 0, routes its tokens to experts."""
        return self.num_experts > 0 and layer >= self.first_dense_layers and (layer + 1) % self.moe_layer_step == 0

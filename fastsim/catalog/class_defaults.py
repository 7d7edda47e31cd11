"""What a model's class in transformers says where its config.json does not.

Field names are those of config.json, and some of fastsim's own: ``gated`` (whether the MLP has a gate projection),
``parallel`` (attention and MLP run behind one norm), ``sandwich`` (norms follow attention and MLP too), ``qk_norm``,
``qkv_bias``, and ``learned_positions`` (rows that the embedding of positions has beyond the longest sequence). A field
that a configuration states replaces the default of its class.
"""

from typing import Any

Defaults = dict[str, Any]

TIED: Defaults = {"tie_word_embeddings": True}
BIAS: Defaults = {"qkv_bias": True}
PLAIN: Defaults = {"gated": False}
GATED: Defaults = {"gated": True}
GPT2: Defaults = TIED | BIAS | PLAIN
GEMMA: Defaults = TIED | GATED | {"head_dim": 256}
GEMMA2: Defaults = GEMMA | {"sandwich": True, "sliding_window": 4096, "sliding_window_pattern": 2}
GEMMA3: Defaults = GEMMA2 | {"qk_norm": True, "sliding_window_pattern": 6}
QWEN2: Defaults = {"use_sliding_window": False, "max_window_layers": 28}
QWEN3: Defaults = QWEN2 | {"qk_norm": True, "head_dim": 128}
QWEN3_NEXT: Defaults = QWEN3 | {"head_dim": 256, "attn_output_gate": True, "full_attention_interval": 4}
FALCON: Defaults = TIED | PLAIN | {"parallel_attn": True, "max_position_embeddings": 2048}
COHERE: Defaults = TIED | GATED | {"parallel": True}
EXAONE4: Defaults = {"qk_norm": True, "sliding_window_pattern": 4}

# Classes that a configuration describes in full: the activation tells whether the MLP is gated, and norms, biases and
# tied embeddings are those of Llama.
LIKE_LLAMA = (
    "aquila arctic baichuan bailing_moe bailing_moe_v2 bamba dbrx deepseek deepseek_v2 deepseek_v3 deepseek_v32 dots1 "
    "ernie4_5_moe exaone falcon_h1 glm glm4_moe glm_moe_dsa granite granitemoe granitemoehybrid granitemoeshared "
    "hunyuan hunyuan_v1_dense hunyuan_v1_moe internlm2 internlm3 jamba kimi_k2 kimi_linear llama llama4_text mimo "
    "mimo_v2_flash minimax_m2 ministral mistral mixtral nemotron-nas olmo orion phi3 phimoe seed_oss solar "
    "deepseek_v4 falcon_mamba glm4v_moe_text hymba mamba2 minimax_m3 minimax_text_01 stablelm step3p5 step3p7 xverse yi"
)
CLASS_DEFAULTS: dict[str, Defaults] = {
    **{kind: {} for kind in LIKE_LLAMA.split()},
    **dict.fromkeys(("internlm", "qwen"), GATED | BIAS),
    **dict.fromkeys(("qwen2", "qwen2_vl", "qwen2_5_vl", "qwen2_moe"), QWEN2 | BIAS),
    **dict.fromkeys(("qwen2_5_omni_text", "qwen2_5_vl_text", "qwen2_vl_text"), QWEN2 | BIAS),
    **dict.fromkeys(("qwen3", "qwen3_moe", "qwen3_vl_text", "qwen3_vl_moe_text", "qwen3_omni_moe_text"), QWEN3),
    **dict.fromkeys(("qwen3_next", "qwen3_5_text", "qwen3_5_moe_text"), QWEN3_NEXT),
    **dict.fromkeys(
        ("smollm3", "ernie4_5", "mamba", "minicpm", "minicpm3", "zamba2", "lfm2", "lfm2_moe"), TIED | GATED
    ),
    **dict.fromkeys(("opt", "biogpt"), GPT2 | {"learned_positions": 2}),
    **dict.fromkeys(("gptj", "codegen"), PLAIN | {"parallel": True}),
    **dict.fromkeys(("nemotron", "nemotron_h", "arcee"), PLAIN),
    **dict.fromkeys(("xglm", "starcoder2"), GPT2),
    "gemma": GEMMA,
    "gemma2": GEMMA2,
    "gemma3_text": GEMMA3,
    "gemma3n_text": GEMMA3 | {"sliding_window": 512, "sliding_window_pattern": 5},
    "gemma4_text": GEMMA3,
    "phi": PLAIN | BIAS | {"parallel": True},
    "gpt2": GPT2 | {"learned_positions": 0},
    **dict.fromkeys(("bert", "roberta", "xlm-roberta", "camembert", "electra"), GPT2 | {"learned_positions": 0}),
    "modernbert": TIED | GATED,
    "gpt_bigcode": GPT2 | {"learned_positions": 0, "multi_query": True},
    "gpt_neo": TIED | PLAIN | {"learned_positions": 0, "window_size": 256},
    "gpt_neox": PLAIN | BIAS,
    "persimmon": PLAIN | BIAS | {"qk_norm": True},
    "bloom": GPT2 | {"max_position_embeddings": 2048},
    "mpt": TIED | PLAIN,
    **dict.fromkeys(("falcon", "refinedweb", "refinedwebmodel"), FALCON),
    "apertus": PLAIN | {"qk_norm": True},
    "cohere": COHERE,
    "cohere2": COHERE | {"sliding_window": 4096, "sliding_window_pattern": 4},
    "exaone4": EXAONE4,
    "exaone_moe": EXAONE4,
    "chatglm": GATED | BIAS,
    **dict.fromkeys(("glm4", "glm4v_text"), GATED | {"sandwich": True}),
    "olmo2": {"qk_norm": True},
    "olmo3": {"qk_norm": True, "sliding_window_pattern": 4},
    "olmoe": {"qk_norm": True},
    "gpt_oss": BIAS | {"sliding_window": 128, "sliding_window_pattern": 2},
}


def _sizes(hidden: int, ffn: int, layers: int, heads: int, kv_heads: int, vocabulary: int, positions: int) -> Defaults:
    return {
        "hidden_size": hidden,
        "intermediate_size": ffn,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "vocab_size": vocabulary,
        "max_position_embeddings": positions,
    }


# Sizes of classes, which the decoder of a multimodal configuration leaves out where it has them.
CLASS_SIZES: dict[str, Defaults] = {
    "llama": _sizes(4096, 11008, 32, 32, 32, 32000, 2048),
    "mistral": _sizes(4096, 14336, 32, 32, 8, 32000, 131072),
    "qwen2": _sizes(4096, 22016, 32, 32, 32, 151936, 32768),
    "qwen3": _sizes(4096, 22016, 32, 32, 32, 151936, 32768),
    "gemma": _sizes(3072, 24576, 28, 16, 16, 256000, 8192),
    "gemma2": _sizes(2304, 9216, 26, 8, 4, 256000, 8192),
    "gemma3_text": _sizes(2304, 9216, 26, 8, 4, 262208, 131072),
    "gemma4_text": _sizes(2304, 9216, 30, 8, 4, 262144, 131072),
    "phi": _sizes(2048, 8192, 24, 32, 32, 51200, 2048),
    "opt": _sizes(768, 3072, 12, 12, 12, 50272, 2048),
}

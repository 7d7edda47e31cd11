"""Public facts of published models, rewritten from their config.json: fields, and parameters in 10^9.

The numbers of parameters are those that the model cards state; where embeddings are tied, the LM head is not counted
again, and layers of multi-token prediction are left out, as serving engines do not load them.
"""

from typing import Any

from fastsim.catalog.load import _entries

# Models of the catalog whose shapes are typed in, plain decoders for which tests have formulas of their own.
TYPED = [name for name, values in _entries("models").items() if "config" not in values]


def sizes(
    hidden: int, ffn: int, layers: int, heads: int, kv_heads: int, vocabulary: int, positions: int
) -> dict[str, Any]:
    """Fields in the words of Llama."""
    return {
        "hidden_size": hidden,
        "intermediate_size": ffn,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "vocab_size": vocabulary,
        "max_position_embeddings": positions,
    }


UNTIED = {"tie_word_embeddings": False}
SILU = {"hidden_act": "silu"}
SIGLIP = {"hidden_size": 1152, "intermediate_size": 4304, "num_attention_heads": 16, "num_hidden_layers": 27}

OLDER: dict[str, tuple[float, dict[str, Any]]] = {
    "falcon-7b": (
        6.92,
        {"model_type": "falcon", "hidden_size": 4544, "multi_query": True, "num_attention_heads": 71}
        | {"num_kv_heads": 71, "num_hidden_layers": 32, "parallel_attn": True, "vocab_size": 65024},
    ),
    "falcon-40b": (
        41.3,
        {"model_type": "falcon", "hidden_size": 8192, "multi_query": True, "new_decoder_architecture": True}
        | {"num_attention_heads": 128, "num_kv_heads": 8, "num_hidden_layers": 60, "vocab_size": 65024},
    ),
    "bloom-7b1": (
        7.07,
        {"model_type": "bloom", "n_embed": 4096, "n_layer": 30, "num_attention_heads": 32, "seq_length": 2048}
        | {"vocab_size": 250880},
    ),
    "codegen-6b": (
        7.06,
        {"model_type": "codegen", "n_embd": 4096, "n_head": 16, "n_inner": None, "n_layer": 33, "n_positions": 2048}
        | {"vocab_size": 51200, **UNTIED},
    ),
    "glm-4-9b": (
        9.40,
        {"model_type": "chatglm", "add_qkv_bias": True, "ffn_hidden_size": 13696, "hidden_size": 4096}
        | {"kv_channels": 128, "multi_query_attention": True, "multi_query_group_num": 2, "num_attention_heads": 32}
        | {"num_layers": 40, "padded_vocab_size": 151552, "seq_length": 131072, **UNTIED},
    ),
    "minitron-8b": (
        8.27,
        sizes(4096, 16384, 32, 48, 8, 256000, 4096)
        | {"model_type": "nemotron", "head_dim": 128, "hidden_act": "relu2", **UNTIED},
    ),
    "gpt-j-6b": (
        6.05,
        {"model_type": "gptj", "n_embd": 4096, "n_head": 16, "n_layer": 28, "n_positions": 2048, "vocab_size": 50400}
        | UNTIED,
    ),
    "gpt-neo-2.7b": (
        2.65,
        {"model_type": "gpt_neo", "attention_types": [[["global", "local"], 16]], "hidden_size": 2560}
        | {"intermediate_size": None, "max_position_embeddings": 2048, "num_heads": 20, "num_layers": 32}
        | {"vocab_size": 50257, "window_size": 256},
    ),
    "opt-6.7b": (
        6.66,
        {"model_type": "opt", "ffn_dim": 16384, "hidden_size": 4096, "num_attention_heads": 32}
        | {"num_hidden_layers": 32, "max_position_embeddings": 2048, "vocab_size": 50272},
    ),
    "mpt-7b": (
        6.65,
        {"model_type": "mpt", "d_model": 4096, "n_heads": 32, "n_layers": 32, "expansion_ratio": 4}
        | {"max_seq_len": 2048, "vocab_size": 50432, "attn_config": {"alibi": True}},
    ),
    "starcoder": (
        15.52,
        {"model_type": "gpt_bigcode", "n_embd": 6144, "n_head": 48, "n_inner": 24576, "n_layer": 40}
        | {"n_positions": 8192, "multi_query": True, "vocab_size": 49152},
    ),
    "gpt2": (
        0.1244,
        {"model_type": "gpt2", "n_embd": 768, "n_head": 12, "n_layer": 12, "n_positions": 1024, "vocab_size": 50257},
    ),
    "minicpm3-4b": (
        4.07,
        sizes(2560, 6400, 62, 40, 40, 73448, 32768)
        | {"model_type": "minicpm3", "kv_lora_rank": 256, "q_lora_rank": 768, "qk_nope_head_dim": 64, **SILU}
        | {"qk_rope_head_dim": 32},
    ),
    "phi-3-small": (
        7.39,
        sizes(4096, 1, 32, 32, 8, 100352, 8192)
        | {"model_type": "phi3small", "intermediate_size": None, "ff_intermediate_size": 14336, "hidden_act": "gegelu"}
        | {"blocksparse_block_size": 64, "tie_word_embeddings": True},
    ),
    "command-r7b": (
        8.03,
        sizes(4096, 14336, 32, 32, 8, 256000, 8192)
        | {"model_type": "cohere2", "head_dim": 128, "sliding_window": 4096, "sliding_window_pattern": 4, **SILU},
    ),
    "exaone-4-32b": (
        32.0,
        sizes(5120, 27392, 64, 40, 8, 102400, 131072)
        | {"model_type": "exaone4", "head_dim": 128, "sliding_window": 4096, "sliding_window_pattern": "LLLG"}
        | {**SILU, **UNTIED},
    ),
    "gemma-3-27b-text": (
        27.0,
        sizes(5376, 21504, 62, 32, 16, 262208, 131072)
        | {"model_type": "gemma3_text", "head_dim": 128, "sliding_window": 1024, "sliding_window_pattern": 6},
    ),
}

EXPERTS: dict[str, tuple[float, dict[str, Any]]] = {
    "glm-4.5-air": (
        106.85,
        sizes(4096, 10944, 46, 96, 8, 151552, 131072)
        | {"model_type": "glm4_moe", "attention_bias": True, "first_k_dense_replace": 1, "head_dim": 128, **SILU}
        | {"moe_intermediate_size": 1408, "n_routed_experts": 128, "n_shared_experts": 1, "num_experts_per_tok": 8}
        | UNTIED,
    ),
    "minimax-m2.5": (
        228.7,
        sizes(3072, 1536, 62, 48, 8, 200064, 196608)
        | {"model_type": "minimax_m2", "head_dim": 128, "num_experts_per_tok": 8, "num_local_experts": 256}
        | {"shared_intermediate_size": 0, "use_qk_norm": True, "attn_type_list": [1] * 62, **SILU, **UNTIED},
    ),
    "dbrx": (
        131.6,
        {"model_type": "dbrx", "d_model": 6144, "n_heads": 48, "n_layers": 40, "max_seq_len": 32768}
        | {"vocab_size": 100352, "attn_config": {"kv_n_heads": 8}, **UNTIED}
        | {"ffn_config": {"ffn_hidden_size": 10752, "moe_num_experts": 16, "moe_top_k": 4}},
    ),
    "ernie-4.5-21b-a3b": (
        21.83,
        sizes(2560, 12288, 28, 20, 4, 103424, 131072)
        | {"model_type": "ernie4_5_moe", "moe_num_experts": 64, "moe_k": 6, "moe_intermediate_size": 1536, **SILU}
        | {"moe_num_shared_experts": 2, "moe_layer_start_index": 1, "moe_layer_end_index": 27, "moe_layer_interval": 1}
        | {"tie_word_embeddings": True},
    ),
    "hunyuan-a13b": (
        80.4,
        sizes(4096, 3072, 32, 32, 8, 128167, 32768)
        | {"model_type": "hunyuan_v1_moe", "head_dim": 128, "moe_intermediate_size": [3072] * 32, "num_experts": 64}
        | {"moe_topk": [8] * 32, "num_shared_expert": [1] * 32, "tie_word_embeddings": True, **SILU},
    ),
    "arctic": (
        478.6,
        sizes(7168, 4864, 35, 56, 8, 32000, 4096)
        | {"model_type": "arctic", "num_local_experts": 128, "num_experts_per_tok": 2, "moe_layer_frequency": 1}
        | {"use_residual": True, **SILU, **UNTIED},
    ),
    "llama-4-scout-text": (
        107.77,
        sizes(5120, 8192, 48, 40, 8, 202048, 10485760)
        | {"model_type": "llama4_text", "attention_chunk_size": 8192, "head_dim": 128, "interleave_moe_layer_step": 1}
        | {"intermediate_size_mlp": 16384, "num_experts_per_tok": 1, "num_local_experts": 16, **SILU},
    ),
    "gpt-oss-20b": (
        20.91,
        sizes(2880, 2880, 24, 64, 8, 201088, 131072)
        | {"model_type": "gpt_oss", "attention_bias": True, "head_dim": 64, "num_experts_per_tok": 4}
        | {"num_local_experts": 32, "sliding_window": 128, **SILU, **UNTIED},
    ),
    "step-3.5-flash": (
        196.9,
        sizes(4096, 11264, 45, 64, 8, 128896, 262144)
        | {"model_type": "step3p5", "head_dim": 128, "moe_layers_enum": ",".join(map(str, range(3, 45)))}
        | {"moe_num_experts": 288, "moe_top_k": 8, "moe_intermediate_size": 1280, "share_expert_dim": 1280}
        | {"sliding_window": 512, "layer_types": ["full_attention", *["sliding_attention"] * 3] * 12}
        | {"attention_other_setting": {"num_attention_heads": 96, "num_attention_groups": 8, "head_dim": 128}},
    ),
}

HYBRIDS: dict[str, tuple[float, dict[str, Any]]] = {
    "qwen3-next-80b-a3b": (
        79.67,
        sizes(2048, 5120, 48, 16, 2, 151936, 262144)
        | {"model_type": "qwen3_next", "head_dim": 256, "decoder_sparse_step": 1, "full_attention_interval": 4, **SILU}
        | {"linear_conv_kernel_dim": 4, "linear_key_head_dim": 128, "linear_num_key_heads": 16}
        | {"linear_num_value_heads": 32, "linear_value_head_dim": 128, "moe_intermediate_size": 512}
        | {"num_experts": 512, "num_experts_per_tok": 10, "shared_expert_intermediate_size": 512, **UNTIED},
    ),
    "kimi-linear-48b-a3b": (
        49.1,
        sizes(2304, 9216, 27, 32, 32, 163840, 1048576)
        | {"model_type": "kimi_linear", "kv_lora_rank": 512, "q_lora_rank": None, "qk_nope_head_dim": 128, **SILU}
        | {"qk_rope_head_dim": 64, "v_head_dim": 128, "first_k_dense_replace": 1, "moe_layer_freq": 1}
        | {"moe_intermediate_size": 1024, "num_experts": 256, "num_experts_per_token": 8, "num_shared_experts": 1}
        | {"linear_attn_config": {"full_attn_layers": [4, 8, 12, 16, 20, 24, 27], "head_dim": 128, "num_heads": 32}},
    ),
    "nemotron-3-nano-30b-a3b": (
        31.58,
        sizes(2688, 1856, 52, 32, 2, 131072, 262144)
        | {"model_type": "nemotron_h", "head_dim": 128, "mlp_hidden_act": "relu2", "mamba_num_heads": 64, **UNTIED}
        | {"hybrid_override_pattern": "MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME", "mamba_head_dim": 64}
        | {"ssm_state_size": 128, "n_groups": 8, "conv_kernel": 4, "moe_intermediate_size": 1856}
        | {"moe_shared_expert_intermediate_size": 3712, "n_routed_experts": 128, "n_shared_experts": 1}
        | {"num_experts_per_tok": 6, "mamba_ssm_cache_dtype": "float32"},
    ),
    "granite-4-h-small": (
        32.2,
        sizes(4096, 768, 40, 32, 8, 100352, 131072)
        | {"model_type": "granitemoehybrid", "tie_word_embeddings": True, "mamba_n_heads": 128, "mamba_d_head": 64}
        | {"layer_types": ["attention" if i in (5, 15, 25, 35) else "mamba" for i in range(40)], **SILU}
        | {"mamba_d_state": 128, "mamba_n_groups": 1, "num_local_experts": 72, "num_experts_per_tok": 10}
        | {"shared_intermediate_size": 1536},
    ),
    "jamba-v0.1": (
        51.57,
        sizes(4096, 14336, 32, 32, 8, 65536, 262144)
        | {"model_type": "jamba", "attn_layer_period": 8, "attn_layer_offset": 4, "expert_layer_period": 2, **SILU}
        | {"expert_layer_offset": 1, "num_experts": 16, "num_experts_per_tok": 2, "mamba_d_state": 16}
        | {"mamba_d_conv": 4, "mamba_expand": 2, "mamba_dt_rank": 256, **UNTIED},
    ),
    "falcon-h1-7b": (
        7.59,
        sizes(3072, 12288, 44, 12, 2, 130048, 262144)
        | {"model_type": "falcon_h1", "head_dim": 128, "mamba_d_ssm": 3072, "mamba_n_heads": 24, "mamba_d_head": 128}
        | {"mamba_d_state": 256, "mamba_n_groups": 1, **SILU, **UNTIED},
    ),
    "minimax-text-01": (
        456.1,
        sizes(6144, 9216, 80, 64, 8, 200064, 10240000)
        | {"model_type": "minimax_text_01", "head_dim": 128, "attn_type_list": [*[0] * 7, 1] * 10, **SILU}
        | {"num_local_experts": 32, "num_experts_per_tok": 2, "shared_intermediate_size": 0, **UNTIED},
    ),
    "lfm2-8b-a1b": (
        8.34,
        sizes(2048, 7168, 24, 32, 8, 65536, 128000)
        | {"model_type": "lfm2_moe", "num_dense_layers": 2, "num_experts": 32, "num_experts_per_tok": 4}
        | {"layer_types": ["full_attention" if i in (2, 6, 10, 14, 18, 21) else "conv" for i in range(24)]}
        | {"moe_intermediate_size": 1792, "conv_L_cache": 3},
    ),
    "lfm2-1.2b": (
        1.17,
        sizes(2048, 12288, 16, 32, 8, 65536, 128000)
        | {"model_type": "lfm2", "block_auto_adjust_ff_dim": True, "block_multiple_of": 256, "conv_L_cache": 3}
        | {"full_attn_idxs": [2, 5, 8, 10, 12, 14]},
    ),
    "mamba-2.8b": (
        2.77,
        {"model_type": "mamba", "hidden_size": 2560, "num_hidden_layers": 64, "state_size": 16, "expand": 2}
        | {"time_step_rank": 160, "conv_kernel": 4, "vocab_size": 50280},
    ),
}

NESTED: dict[str, tuple[float, dict[str, Any]]] = {
    "gemma-3-4b": (
        4.30,
        {
            "model_type": "gemma3",
            "text_config": {"hidden_size": 2560, "intermediate_size": 10240, "model_type": "gemma3_text"}
            | {"num_hidden_layers": 34, "sliding_window": 1024},
            "vision_config": {**SIGLIP, "patch_size": 14},
        },
    ),
    "llava-1.5-7b": (
        7.06,
        {
            "model_type": "llava",
            "text_config": {"model_type": "llama", "max_position_embeddings": 4096, "vocab_size": 32064},
            "vision_config": {
                "hidden_size": 1024,
                "intermediate_size": 4096,
                "num_hidden_layers": 24,
                "patch_size": 14,
            },
        },
    ),
    "qwen2.5-vl-7b": (
        8.29,
        sizes(3584, 18944, 28, 28, 4, 152064, 128000)
        | {"model_type": "qwen2_5_vl", "use_sliding_window": False, "sliding_window": 32768, **SILU, **UNTIED}
        | {
            "vision_config": {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "in_chans": 3, **SILU}
            | {"patch_size": 14, "spatial_merge_size": 2, "temporal_patch_size": 2}
        },
    ),
    "qwen3-vl-8b": (
        8.77,
        {
            "model_type": "qwen3_vl",
            **UNTIED,
            "text_config": sizes(4096, 12288, 36, 32, 8, 151936, 262144)
            | {"model_type": "qwen3_vl_text", "head_dim": 128, **SILU},
            "vision_config": {"depth": 27, "hidden_size": 1152, "intermediate_size": 4304, "patch_size": 16}
            | {"deepstack_visual_indexes": [8, 16, 24], "num_position_embeddings": 2304, "spatial_merge_size": 2}
            | {"temporal_patch_size": 2},
        },
    ),
    "mistral-small-3.1-24b": (
        24.01,
        {
            "model_type": "mistral3",
            "text_config": sizes(5120, 32768, 40, 32, 8, 131072, 131072)
            | {"model_type": "mistral", "head_dim": 128, "sliding_window": None, **SILU},
            "vision_config": {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, **SILU},
        },
    ),
    "internvl2.5-8b": (
        8.08,
        {
            "model_type": "internvl_chat",
            "llm_config": sizes(4096, 14336, 32, 32, 8, 92553, 32768) | {"model_type": "internlm2", **SILU, **UNTIED},
            "vision_config": {
                "hidden_size": 1024,
                "intermediate_size": 4096,
                "num_hidden_layers": 24,
                "patch_size": 14,
            },
        },
    ),
}

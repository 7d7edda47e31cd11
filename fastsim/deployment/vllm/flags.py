"""The flags of vLLM (``vllm serve --help``, releases 0.6 to 0.19) by what they mean here; names with underscores."""

from collections.abc import Mapping

SHORT = {
    "tp": "tensor_parallel_size",
    "pp": "pipeline_parallel_size",
    "dp": "data_parallel_size",
    "ep": "enable_expert_parallel",
    "dcp": "decode_context_parallel_size",
    "pcp": "prefill_context_parallel_size",
    "q": "quantization",
    "cc": "compilation_config",
    "o": "optimization_level",
    "n": "nnodes",
    "r": "node_rank",
    "ac": "attention_config",
    "asc": "api_server_count",
    "dpn": "data_parallel_rank",
    "dpr": "data_parallel_start_rank",
    "dpl": "data_parallel_size_local",
    "dpa": "data_parallel_address",
    "dpp": "data_parallel_rpc_port",
    "dpb": "data_parallel_backend",
    "dph": "data_parallel_hybrid_lb",
    "dpe": "data_parallel_external_lb",
}

# Flags that say what a setting of a deployment says.
TAKEN: Mapping[str, tuple[str, ...]] = {
    "model": ("model",),
    "model_id": ("model",),  # of charts that start vLLM
    "dtype": ("dtype",),
    "quantization": ("quantization",),
    "kv_cache_dtype": ("kv_cache_dtype",),
    "tensor_parallel_size": ("tensor_parallel_size",),
    "pipeline_parallel_size": ("pipeline_parallel_size",),
    "data_parallel_size": ("data_parallel_size",),  # of a model without experts: num_replicas
    "data_parallel_balancer": ("data_parallel_balancer",),
    "data_parallel_external_lb": ("data_parallel_balancer",),
    "enable_expert_parallel": ("enable_expert_parallel",),
    "all2all_backend": ("all2all_backend",),
    "enable_eplb": ("enable_eplb",),
    "eplb_config": ("num_redundant_experts",),
    "num_redundant_experts": ("num_redundant_experts",),  # before eplb_config
    "max_model_len": ("max_model_len",),
    "gpu_memory_utilization": ("gpu_memory_utilization",),
    "seed": ("seed",),
    "enforce_eager": ("enforce_eager",),
    "generation_config": ("sampling",),
    "override_generation_config": ("sampling",),
    "max_num_seqs": ("scheduler.max_num_seqs",),
    # Each policy has one of these two limits.
    "max_num_batched_tokens": ("scheduler.max_num_batched_tokens", "scheduler.chunk_size"),
    "block_size": ("scheduler.block_size",),
    "num_gpu_blocks_override": ("scheduler.num_blocks",),
    "enable_chunked_prefill": ("scheduler.enable_chunked_prefill",),
    "enable_prefix_caching": ("scheduler.enable_prefix_caching",),
    "scheduling_policy": ("scheduler.scheduling_policy",),
    "async_scheduling": ("scheduler.async_scheduling",),
    "long_prefill_token_threshold": ("scheduler.long_prefill_token_threshold",),
    "scheduler_reserve_full_isl": ("scheduler.scheduler_reserve_full_isl",),
}

# Flags of what is not simulated: the values that leave it out, beside null, and a sentence about it.
LOST: Mapping[str, tuple[tuple[object, ...], str]] = {
    "speculative_config": ((), "speculative decoding is not simulated"),
    "speculative_model": ((), "speculative decoding is not simulated"),
    "num_speculative_tokens": ((0,), "speculative decoding is not simulated"),
    "enable_lora": ((False,), "LoRA adapters are not simulated"),
    "cpu_offload_gb": ((0,), "weights in the memory of the CPU are not simulated"),
    "kv_offloading_size": ((0,), "a KV cache in the memory of the CPU is not simulated"),
    "kv_transfer_config": ((), "transfers of the KV cache are not simulated"),
    "ec_transfer_config": ((), "transfers of encoder outputs are not simulated"),
    "kv_cache_memory_bytes": ((), "the KV cache is not given in bytes; scheduler.num_blocks sets its blocks"),
    "decode_context_parallel_size": ((1,), "context parallelism is not simulated"),
    "prefill_context_parallel_size": ((1,), "context parallelism is not simulated"),
    "enable_dbo": ((False,), "overlapping two halves of a batch is not simulated"),
    "num_scheduler_steps": ((1,), "several steps for one call of the scheduler are not simulated"),
    "scheduler_delay_factor": ((0,), "delaying prompts on purpose is not simulated"),
    "preemption_mode": (("recompute",), "swapping is not simulated: a preempted request is computed again"),
    "max_num_partial_prefills": ((1,), "several prompts in chunks at once are not simulated"),
    "max_long_partial_prefills": ((1,), "several prompts in chunks at once are not simulated"),
    "scheduler_cls": ((), "a scheduler of your own is scheduler.policy, file.py:function"),
    "disable_sliding_window": ((False,), "the sliding window of a model cannot be switched off"),
    "disable_hybrid_kv_cache_manager": ((False,), "the KV cache of windowed layers is planned as vLLM does by default"),
    "disable_custom_all_reduce": ((False,), "the all-reduce is the one that was measured"),
    "performance_mode": (("balanced",), "its limits are max_num_seqs and max_num_batched_tokens; set these"),
    "config": ((), "the file that it names is not read; import that file"),
    "hf_overrides": (({},), "the model is taken as published; write a config.json with these values, and name it"),
    "rope_scaling": ((), "positions are those of the published model; max_model_len sets the longest request"),
    "rope_theta": ((), "positions are those of the published model; max_model_len sets the longest request"),
}

# Flags of the server, of loading and of logging, and of what the measured operators already are.
_UNCHANGED = """
additional_config aggregate_engine_logging allow_deprecated_quantization api_key api_server_count attention_backend
attention_config calculate_kv_scales chat_template chat_template_content_format code_revision collect_detailed_traces
compilation_config config_format cp_kv_cache_interleave_size cudagraph_capture_sizes cudagraph_metrics
dbo_decode_token_threshold dbo_prefill_token_threshold dcp_kv_cache_interleave_size default_chat_template_kwargs
default_mm_loras device disable_async_output_proc disable_cascade_attn disable_chunked_mm_input disable_fastapi_docs
disable_frontend_multiprocessing disable_log_requests disable_log_stats disable_mm_preprocessor_cache
disable_nccl_for_dp_synchronization disable_uvicorn_access_log distributed_executor_backend download_dir
enable_auto_tool_choice enable_force_include_usage enable_log_outputs enable_log_requests enable_lora_bias
enable_mm_embeds enable_prompt_embeds enable_prompt_tokens_details enable_reasoning enable_request_id_headers
enable_server_load_tracking enable_sleep_mode enable_ssl_refresh enable_tokenizer_info_endpoint engine_use_ray
expert_placement_strategy fully_sharded_loras guided_decoding_backend
guided_decoding_disable_fallback h11_max_header_count h11_max_incomplete_event_size headless hf_config_path hf_token
host ignore_patterns interleave_mm_strings io_processor_plugin kv_cache_metrics kv_cache_metrics_sample
kv_events_config kv_offloading_backend kv_sharing_fast_prefill limit_mm_per_prompt load_format log_config_file
logits_processor_pattern logits_processors logprobs_mode long_lora_scaling_factors lora_dtype lora_extra_vocab_size
lora_modules master_addr master_port max_context_len_to_capture max_cpu_loras max_cudagraph_capture_size max_log_len
max_logprobs max_lora_rank max_loras max_parallel_loading_workers max_prompt_adapter_token max_prompt_adapters
max_seq_len_to_capture media_io_kwargs middleware model_impl model_loader_extra_config multi_step_stream_outputs
nnodes node_rank num_lookahead_slots optimization_level otlp_traces_endpoint
override_neuron_config override_pooler_config pooler_config port prefix_caching_hash_algo
profiler_config prompt_adapters pt_load_map_location quantization_param_path ray_workers_use_nsight reasoning_parser
reasoning_parser_plugin response_role return_tokens_as_token_ids revision root_path runner safetensors_load_strategy
served_model_name show_hidden_metrics_for_version skip_mm_profiling skip_tokenizer_init
stream_interval structured_outputs_config swap_space task tokenizer tokenizer_mode tokenizer_revision tool_call_parser
tool_parser_plugin tool_server trust_remote_code ubatch_size uds use_tqdm_on_load use_v2_block_manager
uvicorn_log_level video_pruning_rate worker_cls worker_extension_cls worker_use_ray
"""
UNCHANGED = frozenset(_UNCHANGED.split())
UNCHANGED_PREFIXES = (
    "allowed_",
    "cors_",
    "data_parallel_",
    "mamba_",
    "mm_",
    "ssl_",
    "tokenizer_pool_",
    "weight_transfer_",
)

# Switches whose names do not say so.
_SWITCHES = """
aggregate_engine_logging allow_credentials allow_deprecated_quantization async_scheduling calculate_kv_scales
cudagraph_metrics data_parallel_external_lb data_parallel_hybrid_lb enforce_eager engine_use_ray fully_sharded_loras
headless interleave_mm_strings kv_cache_metrics kv_sharing_fast_prefill mm_encoder_only multi_step_stream_outputs
ray_workers_use_nsight return_tokens_as_token_ids scheduler_reserve_full_isl skip_mm_profiling skip_tokenizer_init
trust_remote_code use_tqdm_on_load use_v2_block_manager worker_use_ray
"""
SWITCHES = frozenset(_SWITCHES.split())
# Flags that take several words.
LISTS = frozenset({"served_model_name", "lora_modules", "prompt_adapters", "cudagraph_capture_sizes", "api_key"})

# What other engines and tools call a setting, by its name here.
ELSEWHERE = {
    "attn_dp_size": "num_replicas",
    "chunked_prefill_size": "scheduler.chunked_prefill_size",
    "context_length": "max_model_len",
    "dp_size": "num_replicas",
    "ep_size": "enable_expert_parallel",
    "expert_parallel_size": "enable_expert_parallel",
    "gpu": "device",
    "gpu_type": "device",
    "gpus": "tensor_parallel_size",
    "kv_cache_free_gpu_memory_fraction": "gpu_memory_utilization",
    "max_batch_size": "scheduler.max_num_seqs",
    "max_num_tokens": "scheduler.chunk_size",
    "max_prefill_tokens": "scheduler.max_prefill_tokens",
    "max_running_requests": "scheduler.max_running_requests",
    "max_seq_len": "max_model_len",
    "max_total_tokens": "scheduler.max_total_num_tokens",
    "mem_fraction_static": "gpu_memory_utilization",
    "model_path": "model",
    "moe_a2a_backend": "all2all_backend",
    "num_gpus": "tensor_parallel_size",
    "page_size": "scheduler.page_size",
    "pp_size": "pipeline_parallel_size",
    "random_seed": "seed",
    "replicas": "num_replicas",
    "schedule_conservativeness": "scheduler.schedule_conservativeness",
    "schedule_policy": "scheduler.schedule_policy",
    "tensor_parallel": "tensor_parallel_size",
    "tokens_per_block": "scheduler.block_size",
    "tp_size": "tensor_parallel_size",
}

NAMES = frozenset({*TAKEN, *LOST, *UNCHANGED})


def spelled(name: str) -> str:
    """A flag or a key as the tables have it: underscores, no dashes in front, and no short form."""
    plain = name.strip().lstrip("-").replace("-", "_")
    return SHORT.get(plain.lower(), plain) if len(plain) <= 3 else plain


def is_unchanged(name: str) -> bool:
    """Whether a flag changes nothing that is simulated."""
    return name in UNCHANGED or (name.startswith(UNCHANGED_PREFIXES) and name not in TAKEN)


def is_switch(name: str) -> bool:
    """Whether a flag takes no value, or at most true or false."""
    return name in SWITCHES or name.startswith(("enable_", "disable_", "no_"))

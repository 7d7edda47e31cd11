"""The flags of SGLang (``sglang.launch_server --help``, releases 0.5.10 to 0.5.23) by what they mean here."""

from collections.abc import Mapping

# Other spellings of a flag, its own dashes as underscores.
ALIASES: Mapping[str, str] = {
    "model_path": "model",
    "tp": "tensor_parallel_size",
    "tp_size": "tensor_parallel_size",
    "pp": "pipeline_parallel_size",
    "pp_size": "pipeline_parallel_size",
    "dp": "data_parallel_size",
    "dp_size": "data_parallel_size",
    "ep": "expert_parallel_size",
    "ep_size": "expert_parallel_size",
    "attention_context_parallel_size": "attn_cp_size",
    "attention_data_parallel_size": "attn_dp_size",
    "decode_context_parallel_size": "dcp_size",
    "moe_data_parallel_size": "moe_dp_size",
    "enable_hicache": "enable_hierarchical_cache",
}

# Flags that say what a setting of a deployment says.
TAKEN: Mapping[str, tuple[str, ...]] = {
    "model": ("model",),
    "dtype": ("dtype",),
    "quantization": ("quantization",),
    "torchao_config": ("quantization",),
    "kv_cache_dtype": ("kv_cache_dtype",),
    "tensor_parallel_size": ("tensor_parallel_size",),
    "pipeline_parallel_size": ("pipeline_parallel_size",),
    "data_parallel_size": ("num_replicas",),
    "expert_parallel_size": ("enable_expert_parallel",),
    "moe_a2a_backend": ("all2all_backend",),
    "enable_eplb": ("enable_eplb",),
    "ep_num_redundant_experts": ("num_redundant_experts",),
    "context_length": ("max_model_len",),
    "mem_fraction_static": ("gpu_memory_utilization",),
    "disable_cuda_graph": ("enforce_eager",),
    "random_seed": ("seed",),
    "schedule_policy": ("scheduler.schedule_policy",),
    "chunked_prefill_size": ("scheduler.chunked_prefill_size",),
    "max_prefill_tokens": ("scheduler.max_prefill_tokens",),
    "page_size": ("scheduler.page_size",),
    "max_total_tokens": ("scheduler.max_total_num_tokens",),
    "max_running_requests": ("scheduler.max_running_requests",),
    "schedule_conservativeness": ("scheduler.schedule_conservativeness",),
    "enable_mixed_chunk": ("scheduler.enable_mixed_chunk",),
    "disable_radix_cache": ("scheduler.disable_radix_cache",),
    "disable_overlap_schedule": ("scheduler.disable_overlap_schedule",),
    "load_balance_method": ("router.policy",),
    # Of sglang_router.launch_server, which starts the servers and a router before them.
    "router_policy": ("router.policy",),
    "router_cache_threshold": ("router.cache_threshold",),
    "router_balance_abs_threshold": ("router.balance_abs_threshold",),
    "router_balance_rel_threshold": ("router.balance_rel_threshold",),
}

EAGER = "decodes without CUDA graphs are not simulated: CUDA graphs are always on"
GRAPHS = "CUDA graphs have the sizes that SGLang gives them by default"
GRAPHS_OF_PREFILLS = "prefills keep their CUDA graphs, and so does the memory that is left for them"
CONTEXT = "context parallelism is not simulated"
SLOWER_CACHE = "a second cache in the memory of the CPU or on disk is not simulated"
# Flags of what is not simulated: the values that leave it out, beside null, and a sentence about it.
LOST: Mapping[str, tuple[tuple[object, ...], str]] = {
    "disable_decode_cuda_graph": ((False,), EAGER),
    "cuda_graph_backend_decode": (("full", "breakable"), EAGER),
    "disable_prefill_cuda_graph": ((False,), GRAPHS_OF_PREFILLS),
    "disable_piecewise_cuda_graph": ((False,), GRAPHS_OF_PREFILLS),
    "cuda_graph_backend_prefill": (("full", "breakable"), GRAPHS_OF_PREFILLS),
    "cuda_graph_max_bs": ((), GRAPHS),
    "cuda_graph_max_bs_decode": ((), GRAPHS),
    "cuda_graph_bs": ((), GRAPHS),
    "cuda_graph_bs_decode": ((), GRAPHS),
    "speculative_algorithm": ((), "speculative decoding is not simulated"),
    "dllm_algorithm": ((), "language models that decode by diffusion are not simulated"),
    "enable_lora": ((False,), "LoRA adapters are not simulated"),
    "lora_paths": ((), "LoRA adapters are not simulated"),
    "cpu_offload_gb": ((0,), "weights in the memory of the CPU are not simulated"),
    "kt_weight_path": ((), "experts in the memory of the CPU are not simulated"),
    "enable_paged_experts": ((False,), "experts in the memory of the CPU are not simulated"),
    "enable_hierarchical_cache": ((False,), SLOWER_CACHE),
    "enable_lmcache": ((False,), SLOWER_CACHE),
    "enable_flexkv": ((False,), SLOWER_CACHE),
    "enable_hisparse": ((False,), "sparse attention is not simulated"),
    "enable_double_sparsity": ((False,), "sparse attention is not simulated"),
    "disaggregation_mode": (("null",), "prefill and decode on different servers are not simulated"),
    "enable_pdmux": ((False,), "sharing a GPU between prefill and decode is not simulated"),
    "encoder_only": ((False,), "a server of encoders alone is not simulated"),
    "enable_two_batch_overlap": ((False,), "overlapping two halves of a batch is not simulated"),
    "enable_single_batch_overlap": ((False,), "overlapping the parts of a batch is not simulated"),
    "attn_cp_size": ((1,), CONTEXT),
    "dcp_size": ((1,), CONTEXT),
    "enable_prefill_cp": ((False,), CONTEXT),
    "enable_prefill_context_parallel": ((False,), CONTEXT),
    "enable_nsa_prefill_context_parallel": ((False,), CONTEXT),
    "moe_dp_size": ((1,), "experts on some of the GPUs of a layer are not simulated"),
    "moe_dense_tp_size": ((), "the dense layers of a mixture of experts have the GPUs of its other layers"),
    "dwdp_size": ((1,), "data parallelism with weights on other GPUs is not simulated"),
    "enable_kv_cache_sharding": ((False,), "a KV cache that data-parallel ranks share is not simulated"),
    "num_continuous_decode_steps": ((1,), "several decodes for one call of the scheduler are not simulated"),
    "prefill_max_requests": ((), "a limit for the requests of a prefill batch is not simulated"),
    "prefill_decode_interval": ((), "delaying prompts on purpose is not simulated"),
    "enable_prefill_delayer": ((False,), "delaying prompts on purpose is not simulated"),
    "enable_dynamic_chunking": ((False,), "chunks have one size; sizes that follow their times are not simulated"),
    "max_queued_requests": ((), "no request is turned away: the queue has no limit"),
    "enable_priority_scheduling": ((False,), "priorities are not simulated: requests are admitted as they arrive"),
    "radix_eviction_policy": (("lru",), "the radix cache gives up what was used least recently"),
    "retraction_policy": (("length",), "requests are retracted by their lengths"),
    "enable_unified_memory": ((False,), "the KV cache is planned as SGLang does by default"),
    "disable_hybrid_swa_memory": ((False,), "the KV cache of windowed layers is planned as SGLang does by default"),
    "swa_full_tokens_ratio": ((), "the KV cache of windowed layers is planned as SGLang does by default"),
    "prefill_only_disable_kv_cache": ((False,), "requests without a KV cache are not simulated"),
    "disable_custom_all_reduce": ((False,), "the all-reduce is the one that was measured"),
    "enable_deterministic_inference": ((False,), "kernels that do not depend on the batch are not simulated"),
    "modelopt_quant": (
        (),
        "quantising a checkpoint when the server starts is not simulated; quantization sets a precision",
    ),
    "config": ((), "the file that it names is not read; import that file"),
    "json_model_override_args": (
        ({},),
        "the model is taken as published; write a config.json with these values, and name it",
    ),
}

# Flags of the server, of loading and of logging, and of what the measured operators already are.
_UNCHANGED = """
abort_on_priority_when_disabled admin_api_key allow_auto_truncate allowed_media_domains api_key attention_backend
base_gpu_id batch_notify_size bf16_gemm_backend boundary_reduction c128_page_size chat_template
checkpoint_engine_wait_weights_before_ready collect_tokens_histogram completion_template context_bucket cp_strategy
crash_dump_folder cuda_graph_bs_prefill cuda_graph_config cuda_graph_max_bs_prefill cuda_graph_max_seq_len_prefill
cuda_graph_prefill_max_context custom_sigquit_handler custom_weight_loader dcp_comm_backend dcp_replicate_q_proj
decode_attention_backend decode_log_interval decrypted_config_file decrypted_draft_config_file
default_chat_template_kwargs default_priority_value delete_ckpt_after_loading detokenizer_worker_num device
disable_aiter_allreduce_fusion_in_decode disable_aiter_allreduce_fusion_in_prefill disable_attn_tp_gather
disable_chunked_prefix_cache disable_cuda_graph_padding disable_fast_image_processor disable_flashinfer_autotune
disable_flashinfer_cutlass_moe_fp4_allgather disable_outlines_disk_cache disable_priority_preemption
disable_shared_experts_fusion disable_tokenizer_batch_decode dist_init_addr dist_timeout dllm_algorithm_config
dllm_fdfo download_dir enable_adaptive_dispatch_to_encoder enable_aiter_allreduce_fusion enable_amd_monokernel
enable_attn_tp_input_scattered enable_broadcast_mm_inputs_process enable_cache_report enable_cp_decode_attn_tp
enable_cudagraph_gc enable_custom_logit_processor enable_decoder_swa_bounded_replay enable_deepseek_v4_fp4_indexer
enable_dense_mlp_attn_tp enable_dp_attention_local_control_broadcast enable_dp_lm_head
enable_draft_weights_cpu_backup enable_dsa_cache_layer_split enable_dsa_fused_indexer
enable_dynamic_batch_tokenizer enable_elastic_expert_backup enable_encoder_swa_bounded_replay
enable_expert_distribution_metrics enable_flashinfer_allreduce_fusion enable_forward_pass_metrics
enable_fp32_lm_head enable_fused_moe_sum_all_reduce enable_fused_qk_norm_rope enable_http2
enable_http_worker_reuseport enable_int8_mamba_checkpoint enable_layernorm_sp enable_layerwise_nvtx_marker
enable_lean_attention enable_linear_replayssm enable_linear_replayssm_spec enable_linker_mla_dedup
enable_lora_overlap_loading enable_mamba_cache_stochastic_rounding enable_megamoe_for_layernorm_sp
enable_memory_saver enable_metrics enable_metrics_for_all_schedulers enable_mfu_metrics enable_mis
enable_mm_global_cache enable_mscclpp enable_multi_layer_eagle enable_multimodal enable_nan_detection
enable_nccl_nvls enable_nvidia_megakernel enable_p2p_check enable_page_major_kv_layout enable_pd_role_switch
enable_piecewise_cuda_graph enable_precise_embedding_interpolation enable_prefix_mm_cache
enable_profile_cuda_graph enable_quant_communications enable_request_time_stats_logging enable_response_store
enable_return_aux_hidden_states enable_return_hidden_states enable_return_indexer_topk
enable_return_routed_experts enable_scattered_sconv enable_session_radix_cache enable_shared_experts_attn_tp
enable_ssl_refresh enable_streaming_session enable_strict_thinking enable_symm_mem enable_tf32_matmul
enable_tokenizer_batch_encode enable_torch_compile enable_torch_compile_debug_mode enable_torch_symm_mem
enable_tp_lm_head_all_to_all enable_trace enable_unified_cache_external_linker enable_w4a4_mxfp4_megamoe
enable_waterfill enable_watermark enable_weights_cpu_backup enforce_disable_flashinfer_allreduce_fusion
enforce_piecewise_cuda_graph enforce_shared_experts_fusion engine_info_bootstrap_port ep_dispatch_algorithm
experts_shared_outer_loras extra_metric_labels fastapi_root_path file_storage_path flexkv_config_file forward_hooks
fp4_gemm_backend fp8_gemm_backend fuseep_mode gated_launch_port gc_threshold gc_warning_threshold_secs
generation_tokens_buckets gpu_id_step grammar_backend hf_chat_template_name hierarchical_sparse_attention_extra_config
hisparse_config host hybrid_kvcache_ratio image_processor_backend incremental_streaming_output init_expert_location
int8_mamba_ckpt_size keep_mm_feature_on_device kv_events_config language_model_only language_only
limit_mm_data_per_request linear_replayssm_cache_len lmcache_config_file load_format load_publish_endpoint
load_snapshot_publish_interval max_ep_size max_loaded_loras max_lora_chunk_size max_lora_rank max_loras_per_batch
max_mamba_cache_size media_url_max_file_size_mb min_free_slots_delay mlx_enable_sampling model_checksum
model_config_parser model_impl model_loader_extra_config model_type modelexpress_config moe_runner_backend
monokernel_backend mooncake_ib_device msprobe_dump_config multi_item_scoring_delimiter nccl_init_addr nccl_port nnodes
node_rank num_reserved_decode_tokens numa_node optimistic_prefill_attempts otlp_service_name otlp_traces_endpoint
paged_experts_num_resident pdmux_config_path piecewise_cuda_graph_compiler piecewise_cuda_graph_max_tokens
piecewise_cuda_graph_tokens port pp_async_batch_depth pp_max_micro_batch_size pre_warm_nccl
preferred_sampling_params prefill_attention_backend prefill_cp_mode prefill_decode_interval_min_bs
prefill_kv_cache_dequant_dtype prefill_round_robin_balance priority_scheduling_preemption_threshold
prompt_tokens_buckets qsa_indexer_dtype quantization_param_path quantize_and_serve radix_cache_backend
radix_eviction_policy_config reasoning_parser revision rl_on_policy_target rl_quant_profile sampling_backend
sampling_defaults sampling_mask_max_tokens schedule_low_priority_values_first scheduler_recv_interval
served_model_name shared_experts_tp_size show_time_cost skip_server_warmup skip_tokenizer_init sleep_on_idle
sm_group_num soft_watchdog_timeout spec_trace_dir startup_weight_load_mode stat_loggers stream_interval
stream_output stream_response_default_include_usage strip_thinking_cache swa_prefix_tails
tbo_token_distribution_threshold tool_call_parser tool_server torch_compile_max_bs trace_modules
trust_mm_content_hashes trust_remote_code trust_request_chat_template uno_lora_path use_ray
uvicorn_access_log_exclude_prefixes warmups watchdog_timeout watermark_config
"""
UNCHANGED = frozenset(_UNCHANGED.split())
UNCHANGED_PREFIXES = (
    "asr_",
    "bucket_",
    "constrained_json_",
    "debug_",
    "decoupled_spec_",
    "deepep_",
    "disaggregation_",
    "ds_",
    "dsa_",
    "dsv4_",
    "dynamic_batch_tokenizer_",
    "elastic_ep_",
    "encoder_",
    "eplb_",
    "expert_balancedness_",
    "expert_distribution_",
    "export_metrics_",
    "flashinfer_",
    "forward_pass_metrics_",
    "grpc_",
    "hicache_",
    "http2_",
    "kt_",
    "kv_canary",
    "linear_attn_",
    "log_",
    "lora_",
    "mamba_",
    "mm_",
    "modelopt_",
    "nsa_",
    "offload_",
    "ple_offload_",
    "prefill_delayer_",
    "remote_instance_",
    "return_",
    "router_",
    "sidecar",
    "smg_",
    "speculative_",
    "ssl_",
    "tokenizer_",
    "triton_attention_",
    "unified_cache_",
    "weight_",
)
# Flags that ask for attention with data parallelism, which is refused where it has more than one rank.
ATTENTION_RANKS = ("enable_dp_attention", "attn_dp_size")

# Switches whose names do not say so.
_SWITCHES = """
abort_on_priority_when_disabled allow_auto_truncate checkpoint_engine_wait_weights_before_ready
collect_tokens_histogram constrained_json_disable_any_whitespace dcp_replicate_q_proj debug_cuda_graph
delete_ckpt_after_loading disaggregation_decode_enable_offload_kvcache disaggregation_decode_enable_radix_cache
disaggregation_enable_kv_checksum dllm_fdfo encoder_only enforce_disable_flashinfer_allreduce_fusion
enforce_piecewise_cuda_graph enforce_shared_experts_fusion experts_shared_outer_loras export_metrics_to_file
flashinfer_mla_disable_ragged grpc_mode incremental_streaming_output is_embedding keep_mm_feature_on_device
language_model_only language_only log_requests lora_strict_loading lora_use_virtual_experts mlx_enable_sampling
mm_enable_dp_encoder ple_offload_embedding pre_warm_nccl prefill_only_disable_kv_cache prefill_round_robin_balance
quantize_and_serve remote_instance_weight_loader_start_seed_via_transfer_engine return_input_ids return_output_ids
schedule_low_priority_values_first show_time_cost skip_server_warmup skip_tokenizer_init sleep_on_idle smg_grpc_mode
speculative_adaptive speculative_dspark_align_verify_tokens_to_graph_tier speculative_enable_w4a4_mxfp4_megamoe
speculative_use_block_verification speculative_use_rejection_sampling stream_output
stream_response_default_include_usage strip_thinking_cache triton_attention_reduce_in_fp32 trust_mm_content_hashes
trust_remote_code trust_request_chat_template use_ray weight_loader_disable_mmap weight_loader_drop_cache_after_load
weight_loader_prefetch_checkpoints
"""
SWITCHES = frozenset(_SWITCHES.split())
# Flags that take several words.
_LISTS = """
allowed_media_domains bucket_e2e_request_latency bucket_inter_token_latency bucket_time_to_first_token cuda_graph_bs
cuda_graph_bs_decode cuda_graph_bs_prefill custom_weight_loader debug_tensor_dump_layers
decoupled_spec_connect_endpoints encoder_register_urls encoder_urls flashinfer_autotune_skip_ops forward_hooks
gc_threshold generation_tokens_buckets log_requests_target lora_paths lora_target_modules numa_node
piecewise_cuda_graph_tokens prefill_delayer_forward_passes_buckets prefill_delayer_wait_seconds_buckets
prompt_tokens_buckets remote_instance_weight_loader_send_weights_group_ports return_aux_hidden_state_layer_ids
sidecar_args tokenizer_metrics_allowed_custom_labels uvicorn_access_log_exclude_prefixes
"""
LISTS = frozenset(_LISTS.split())

NAMES = frozenset({*ALIASES, *TAKEN, *LOST, *UNCHANGED, *ATTENTION_RANKS, "is_embedding"})


def spelled(name: str) -> str:
    """A flag or a key as the tables have it: underscores, no dashes in front, and one of several spellings."""
    plain = name.strip().lstrip("-").replace("-", "_")
    return ALIASES.get(plain, plain)


def is_unchanged(name: str) -> bool:
    """Whether a flag changes nothing that is simulated."""
    return name in UNCHANGED or (name.startswith(UNCHANGED_PREFIXES) and name not in TAKEN and name not in LOST)


def is_switch(name: str) -> bool:
    """Whether a flag takes no value, or at most true or false."""
    return name in SWITCHES or name.startswith(("enable_", "disable_"))

"""Physical bounds that coefficients are fitted within, from the fastest GPU to one core of a CPU."""

from fastsim.deployment.calibration import HIGH, LOW

MS, US = 1e6, 1e3  # ns
# The least and the most of each coefficient, and where the most comes from.
BOUNDS: dict[str, tuple[float, float, str]] = {
    "constant_ns": (0.0, 1000 * MS, "reading the weights of a model once a second"),
    "per_token_ns": (0.0, 100 * MS, "a token of a large model on one core of a CPU"),
    "per_sequence_ns": (0.0, 10 * MS, "a scheduler in Python and a sort of its vocabulary on a CPU"),
    "per_context_token_ns": (0.0, 1 * MS, "reading 1 MB of KV cache at 1 GB/s"),
    "per_prefill_token_ns": (0.0, 100 * MS, "as per_token_ns"),
    "per_decode_ns": (0.0, 100 * MS, "as per_token_ns"),
    "per_attention_pair_ns": (0.0, 100 * US, "10 MFLOP at 100 GFLOP/s"),
    "by_tokens_ns": (-1000 * MS, 1000 * MS, "as constant_ns, which it is added to"),
    "host_ms_per_step": (0.0, 20.0, "a scheduler in Python that builds all its tensors anew"),
    "host_ms_per_sequence": (0.0, 0.5, "the same for each request"),
    "front_end_ms": (0.0, 1000.0, "an HTTP server and a tokenizer beside the engine"),
    "factor": (LOW, HIGH, "what forests are off by on shapes that they have not seen"),
}

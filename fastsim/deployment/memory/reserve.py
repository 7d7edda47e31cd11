"""The memory of a GPU that can hold neither weights nor KV cache, as an engine's profile run finds it.

The constants were fitted to the logs of vLLM 0.9 to 0.19 in tests/deployment/test_reserve.py, which prints the error of
each log, and that of each when the constants are fitted to the others.
"""

from fastsim.catalog.model import Model
from fastsim.deployment.operators.decoder import Operators

BYTES = 2  # of a bf16 or fp16 element

CONTEXT_GIB = 0.1  # what CUDA's libraries take once the engine has measured the free memory
COMMUNICATION_GIB = 0.5  # buffers of NCCL and of the custom all-reduce
# Of float32[max_num_seqs, vocab_size] in a sampler with top-k and top-p: logits in 16 and in 32 bits, sorted values and
# their int64 indices, probabilities, cumulated probabilities, masks, scattered logits, noise.
LOGIT_COPIES = 9.6
STATE_COPIES = 1.4  # of the hidden states of the largest batch, which are kept while the sampler runs
# Experts in block fp8 were seen to hold more beside the sampler, in the one log that is known of them (vLLM 0.9,
# Qwen3-235B on 4 H100). It is counted in logits, since SGLang with a quarter of the sequences held little of it.
BLOCK_FP8_COPIES = 3.0
BLOCK_FP8 = "fp8_block"


def sampler_bytes(model: Model, ops: Operators, max_num_seqs: int, max_iteration_tokens: int) -> int:
    """Bytes at the peak of the sampler, which runs on the last stage; ``ops``: of the stage."""
    experts = any(each.precision == BLOCK_FP8 for each in ops.all_experts)
    copies = LOGIT_COPIES + (BLOCK_FP8_COPIES if experts else 0)
    logits = 4 * max_num_seqs * model.vocab_size
    return int(copies * logits + STATE_COPIES * BYTES * max_iteration_tokens * model.hidden_size)


def layer_bytes(model: Model, ops: Operators, max_iteration_tokens: int) -> int:
    """Bytes at the peak of a stage's layers: hidden states and residual, and what the widest of the layers computes.

    That is the output of the gate and up projections and of the activation behind them; of a layer of experts, for
    every expert that a token is sent to, and the outputs of the experts as well.
    """
    widths = [0.0]
    widths += [1.5 * gemm.n for gemm in ops.gemms if gemm.name.startswith("mlp_up")]
    for experts in ops.all_experts:
        each = 3 * experts.width() + model.hidden_size
        widths.append(experts.top_k * each)
    return int(BYTES * max_iteration_tokens * (2 * model.hidden_size + max(widths)))

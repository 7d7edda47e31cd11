"""Offline throughput as NVIDIA publishes it for TensorRT-LLM 1.0: all requests at once, output tokens per second.

The figures are those of docs/source/performance/perf-overview.md of NVIDIA/TensorRT-LLM (Apache License 2.0), release
1.0, for models, GPUs and precisions that are in the catalog.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from fastsim.deployment.description import Deployment
from fastsim.deployment.resolve import resolve
from fastsim.errors import FastsimError
from fastsim.workload.loading import load

from .runs import THROUGHPUT, Row, Run, RunSet, RunSets

MAX_NUM_SEQS, MAX_NUM_TOKENS = 2048, 8192
PROTOCOL = (
    "As many requests of the nominal lengths at once as are published (30,000 of 128/128 tokens, 1,500 of 2048/2048 "
    "and 5000/500, else 3,000); at most 2,048 run at a time, and no more than fit with their whole outputs, as TRT-LLM "
    "evicts none; 8,192 tokens a batch, 0.95 of the memory, KV cache in fp8. TRT-LLM's scheduler is not simulated: "
    "policy sarathi stands in for it, without an engine and so without host time, with TRT-LLM's own attention and "
    "all-reduce, and on Blackwell its experts. Models with experts on several GPUs run with attention data-parallel, "
    "as is published; vLLM V1's policy stands in there, and experts get evenly many tokens. The limits are assumed."
)
# Tokens of prompt and output, and how many requests.
SHAPES = (
    (128, 128, 30000),
    (128, 2048, 3000),
    (1000, 1000, 3000),
    (2048, 128, 3000),
    (2048, 2048, 1500),
    (5000, 500, 1500),
)


class Published(NamedTuple):
    """The output tokens/s of a deployment by SHAPES; None: not published."""

    model: str
    device: str
    precision: str
    tensor_parallel_size: int
    pipeline_parallel_size: int
    tokens_per_s: tuple[int | None, ...]
    ranks: int = 1  # of attention, data-parallel, that share the experts


_8B, _70B, _405B = (f"meta-llama/Llama-3.1-{size}B" for size in (8, 70, 405))
_30B, _235B = "Qwen/Qwen3-30B-A3B", "Qwen/Qwen3-235B-A22B"
PUBLISHED = (
    Published(_8B, "h100", "fp8", 1, 1, (28312, 22714, 15220, 3450, 9305, 3459)),
    Published(_8B, "h200", "fp8", 1, 1, (27911, 26221, 17744, 3538, 12194, 3902)),
    Published(_70B, "h200", "fp8", 1, 1, (3803, 4336, 2909, 442, 2003, 566)),
    Published(_70B, "h100", "fp8", 2, 1, (6378, 6651, 4205, 762, 3082, 898)),
    Published(_70B, "b200", "nvfp4", 1, 1, (11147, 9922, 7007, 1339, 4783, 1459)),
    Published(_70B, "rtx_pro_6000", "nvfp4", 1, 1, (3264, 2422, 1787, 393, 1074, None)),
    Published(_70B, "rtx_pro_6000", "nvfp4", 1, 2, (6172, 4993, 3707, 813, 2336, None)),
    Published(_70B, "rtx_pro_6000", "nvfp4", 1, 4, (9641, None, 5961, 1511, 3870, None)),
    Published(_70B, "rtx_pro_6000", "nvfp4", 1, 8, (11881, None, 8166, 2495, 6078, None)),
    Published(_405B, "h100", "fp8", 8, 1, (3627, None, 2919, 453, 2296, None)),
    Published(_405B, "h200", "fp8", 8, 1, (3814, None, 3330, 456, 2948, None)),
    Published(_30B, "b200", "nvfp4", 1, 1, (39827, None, 25828, 6251, 17554, None)),
    Published(_30B, "rtx_pro_6000", "nvfp4", 1, 1, (28011, None, 9910, 3257, 5908, None)),
    Published(_30B, "rtx_pro_6000", "nvfp4", 1, 1, (32646, None, 16431, 3785, 10679, None), 2),
    Published(_235B, "h100", "fp8", 1, 1, (None, 19658, 14898, None, 9924, 3225), 8),
    Published(_235B, "h200", "fp8", 1, 1, (30429, 42821, 23789, 3331, 16672, 3623), 8),
    Published(_235B, "b200", "nvfp4", 1, 1, (63362, 66057, 42391, 7329, 26854, 8190), 8),
)
KINDS = {_30B: "experts", _235B: "experts of 8 ranks"}


def throughput_runs() -> list[RunSet]:
    """A set of dense models, one of models with experts, and one with ranks of attention that share them."""
    sets = RunSets()
    for one in PUBLISHED:
        found = sets.of(f"offline throughput, TRT-LLM, {KINDS.get(one.model, 'dense')}", PROTOCOL)
        found.runs.extend(_runs(one))
    return sets.all()


def _runs(one: Published) -> Iterator[Run]:
    parallel = "".join(
        f" {name}{size}"
        for name, size in (
            ("TP", one.tensor_parallel_size),
            ("PP", one.pipeline_parallel_size),
            ("DP", one.ranks),
        )
        if size > 1
    )
    for (prompt, output, number), tokens_per_s in zip(SHAPES, one.tokens_per_s, strict=True):
        if tokens_per_s is None:
            continue
        described = {
            "lengths": {"kind": "fixed", "num_prompt_tokens": prompt, "num_output_tokens": output},
            "gaps": {"kind": "static"},
        }
        requests = load(described, num_requests=number, seed=0)
        name = f"{one.model.rpartition('/')[2]} {one.precision} {one.device}{parallel} {prompt}/{output}"
        yield Run(_fields(one, prompt + output), [requests], [Row(name, {THROUGHPUT: float(tokens_per_s)})])


def _fields(one: Published, length: int) -> Mapping[str, Any]:
    fields: dict[str, Any] = {
        "model": one.model,
        "device": one.device,
        "sampling": "greedy",
        "quantization": one.precision,
        "kv_cache_dtype": "fp8",
        "tensor_parallel_size": one.tensor_parallel_size,
        "pipeline_parallel_size": one.pipeline_parallel_size,
        "data_parallel_size": one.ranks,
        "enable_expert_parallel": one.ranks > 1,
        "max_model_len": 8192,
        "gpu_memory_utilization": 0.95,
        "scheduler": _scheduler(one.ranks),
        "predictor": {"kernels": "trtllm"},
    }
    try:
        fit = resolve(Deployment.load(fields)).memory.kv_tokens // length
    except FastsimError:  # which the replay reports
        return fields
    most = min(MAX_NUM_SEQS, max(fit, one.pipeline_parallel_size))
    return {**fields, "scheduler": {**fields["scheduler"], "max_num_seqs": most}}


def _scheduler(ranks: int) -> Mapping[str, Any]:
    if ranks == 1:
        return {"policy": "sarathi", "max_num_seqs": MAX_NUM_SEQS, "chunk_size": MAX_NUM_TOKENS}
    return {"policy": "vllm_v1", "max_num_seqs": MAX_NUM_SEQS, "max_num_batched_tokens": MAX_NUM_TOKENS}

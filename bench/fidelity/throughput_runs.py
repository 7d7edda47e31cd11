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

NUM_REQUESTS = 3000
MAX_NUM_SEQS, MAX_NUM_TOKENS = 2048, 8192
PROTOCOL = (
    "3,000 requests of the nominal lengths at once; at most 2,048 run at a time, and no more than fit with their whole "
    "outputs, as TRT-LLM evicts none; 8,192 tokens a batch, 0.95 of the memory, KV cache in fp8. TRT-LLM's scheduler "
    "is not simulated: policy sarathi stands in for it, without an engine and so without host time, with TRT-LLM's own "
    "attention and all-reduce. The number of requests and the limits are assumed."
)
SHAPES = ((128, 128), (128, 2048), (1000, 1000), (2048, 128), (2048, 2048), (5000, 500))  # tokens of prompt and output


class Published(NamedTuple):
    """The output tokens/s of a deployment by SHAPES; None: not published."""

    model: str
    device: str
    precision: str
    tensor_parallel_size: int
    pipeline_parallel_size: int
    tokens_per_s: tuple[int | None, ...]


_8B, _70B, _405B = (f"meta-llama/Llama-3.1-{size}B" for size in (8, 70, 405))
_30B = "Qwen/Qwen3-30B-A3B"
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
    Published(_30B, "rtx_pro_6000", "nvfp4", 2, 1, (32646, None, 16431, 3785, 10679, None)),
)
# Published too, with attention data parallelism: Qwen3-235B-A22B on 8 GPUs in expert parallelism.
LEFT_OUT = ["ranks of data parallelism that share experts cannot be described yet"] * 8


def throughput_runs() -> list[RunSet]:
    """A set of dense models and one of models with experts."""
    sets = RunSets()
    for one in PUBLISHED:
        found = sets.of(f"offline throughput, TRT-LLM, {'experts' if one.model == _30B else 'dense'}", PROTOCOL)
        found.runs.extend(_runs(one))
    sets.all()[-1].left_out.extend(LEFT_OUT)
    return sets.all()


def _runs(one: Published) -> Iterator[Run]:
    parallel = "".join(
        f" {name}{size}"
        for name, size in (("TP", one.tensor_parallel_size), ("PP", one.pipeline_parallel_size))
        if size > 1
    )
    for (prompt, output), tokens_per_s in zip(SHAPES, one.tokens_per_s, strict=True):
        if tokens_per_s is None:
            continue
        described = {
            "lengths": {"kind": "fixed", "num_prompt_tokens": prompt, "num_output_tokens": output},
            "gaps": {"kind": "static"},
        }
        requests = load(described, num_requests=NUM_REQUESTS, seed=0)
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
        "max_model_len": 8192,
        "gpu_memory_utilization": 0.95,
        "scheduler": {"policy": "sarathi", "max_num_seqs": MAX_NUM_SEQS, "chunk_size": MAX_NUM_TOKENS},
        "predictor": {"kernels": "trtllm"},
    }
    try:
        fit = resolve(Deployment.load(fields)).memory.kv_tokens // length
    except FastsimError:  # which the replay reports
        return fields
    most = min(MAX_NUM_SEQS, max(fit, one.pipeline_parallel_size))
    return {**fields, "scheduler": {**fields["scheduler"], "max_num_seqs": most}}

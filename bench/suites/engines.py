"""The cost of an engine's scheduler, with prefix caching and without."""

import time
from collections.abc import Sequence

import fastsim
from fastsim.deployment.description import Deployment
from fastsim.workload import Workload
from fastsim.workload.loading import load

COMMON = {"model": "llama-3-8b", "device": "h100", "max_model_len": 16_384}
SARATHI = {"policy": "sarathi", "max_num_seqs": 128, "chunk_size": 512}
# Five system prompts of 200 tokens, which requests share.
SHARED = {
    "lengths": {
        "kind": "uniform",
        "num_prompt_tokens": {"min": 256, "max": 1536},
        "num_output_tokens": {"min": 16, "max": 256},
    },
    "gaps": {"kind": "poisson", "rate": 8.0},
    "prefix": {"kind": "system_prompt", "number": 5, "num_tokens": 200},
}


def sarathi() -> Deployment:
    """Sarathi with chunks of 512 tokens."""
    return Deployment.load({**COMMON, "scheduler": SARATHI})


def vllm(caching: bool, asynchronous: bool, seqs: int = 128, tokens: int = 512) -> Deployment:
    """vLLM 0.19 with the same budget."""
    scheduler = {
        "max_num_seqs": seqs,
        "max_num_batched_tokens": tokens,
        "enable_prefix_caching": caching,
        "async_scheduling": asynchronous,
    }
    return Deployment.load({**COMMON, "engine": "vllm-0.19", "scheduler": scheduler})


def sglang(caching: bool, running: int = 128, chunk: int = 512) -> Deployment:
    """SGLang 0.5.23 with the same budget, and its radix cache or none."""
    scheduler = {
        "max_running_requests": running,
        "chunked_prefill_size": chunk,
        "disable_radix_cache": not caching,
    }
    return Deployment.load({**COMMON, "engine": "sglang-0.5.23", "scheduler": scheduler})


def configurations(caching: bool, number: int) -> list[Deployment]:
    """vLLM 0.19 in ``number`` settings of 2 to 129 sequences and up to 8,192 tokens."""
    return [vllm(caching, True, 2 + n % 128, 1024 << n % 4) for n in range(number)]


def kernel_seconds(deployment: Deployment, workload: Workload) -> float:
    """Kernel time of one simulation, without requests that are too long."""
    return float(fastsim.simulate(deployment, workload, detail=False, too_long="drop").summary["timing"]["kernel_s"])


def requests(kind: str, number: int) -> Workload:
    """Requests of kind "chat", which have nothing in common, or "shared prompts"."""
    return load("chat", rate=8.0, num_requests=number) if kind == "chat" else load({**SHARED, "num_requests": number})


def sweep_seconds(deployments: Sequence[Deployment], workload: Workload) -> float:
    """CPU time of all of them on one thread."""
    begin = time.process_time()
    runs = fastsim.simulate_many([(deployment, workload) for deployment in deployments], threads=1)
    assert not any(run.error for run in runs)
    return time.process_time() - begin


KINDS = {
    "sarathi": sarathi(),
    "vllm-0.19 without prefix caching": vllm(False, True),
    "vllm-0.19 with prefix caching": vllm(True, True),
    "sglang-0.5.23 without radix cache": sglang(False),
    "sglang-0.5.23 with radix cache": sglang(True),
}


class Kernels:
    """Chat on one replica."""

    params = (list(KINDS), [500, 20_000])
    param_names = ("scheduler", "requests")

    def setup(self, scheduler: str, requests: int) -> None:
        self.workload = load("chat", rate=5.5, num_requests=requests)
        self.deployment = KINDS[scheduler]
        kernel_seconds(self.deployment, self.workload.head(10))

    def track_kernel_ms(self, scheduler: str, requests: int) -> float:
        return kernel_seconds(self.deployment, self.workload) * 1e3

    track_kernel_ms.unit = "ms"  # type: ignore[attr-defined]


class Configurations:
    """Many settings of vLLM 0.19 on requests that share system prompts, or have nothing in common."""

    params = (["chat", "shared prompts"], [False, True], [4, 1000], [100, 5000])
    param_names = ("prompts", "caching", "configurations", "requests")
    timeout = 600

    def setup(self, prompts: str, caching: bool, number: int, num_requests: int) -> None:
        self.workload = requests(prompts, num_requests)
        self.deployments = configurations(caching, number)
        sweep_seconds(self.deployments[:1], self.workload)

    def time_simulate_many(self, prompts: str, caching: bool, number: int, num_requests: int) -> None:
        sweep_seconds(self.deployments, self.workload)

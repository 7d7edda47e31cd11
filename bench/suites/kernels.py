"""Kernel time by policy, load, number of requests and number of replicas."""

import fastsim
from fastsim.deployment import schedulers
from fastsim.deployment.description import Deployment
from fastsim.workload import Workload
from fastsim.workload.loading import load

POLICIES = list(schedulers.POLICIES)
# Requests per second of chat on one H100 with Llama-3-8B, and KV tokens if they are to be short.
LOADS = {"light": (1.0, None), "saturated": (30.0, None), "preempting": (30.0, 24_000)}


def prepare(policy: str, num_requests: int, load_name: str, *settings: str) -> tuple[Deployment, Workload]:
    """A deployment of Llama-3-8B on H100 and chat traffic for it."""
    rate, tokens = LOADS[load_name]
    deployment = Deployment.load(None, [f"scheduler.policy={policy}", *kv_cache(policy, tokens), *settings])
    return deployment, load("chat", rate=rate * deployment.num_replicas, num_requests=num_requests)


def kv_cache(policy: str, tokens: int | None) -> list[str]:
    """The setting that gives a KV cache so many tokens; None leaves it as planned."""
    if tokens is None:
        return []
    if policy == "sglang":
        return [f"scheduler.max_total_num_tokens={tokens}"]
    return [f"scheduler.num_blocks={tokens if policy == 'lightllm' else tokens // 16}"]


class Policies:
    """One replica. Where a policy never preempts, little memory keeps requests waiting."""

    params = (POLICIES, list(LOADS), [100, 1_000, 10_000, 100_000])
    param_names = ("policy", "load", "requests")
    timeout = 120

    def setup(self, policy: str, load_name: str, requests: int) -> None:
        self.job = prepare(policy, requests, load_name)
        fastsim.simulate(*prepare(policy, 10, load_name))

    def time_simulate(self, policy: str, load_name: str, requests: int) -> None:
        fastsim.simulate(*self.job, detail=False)

    def track_kernel_ms(self, policy: str, load_name: str, requests: int) -> float:
        return float(fastsim.simulate(*self.job, detail=False).summary["timing"]["kernel_s"] * 1e3)

    track_kernel_ms.unit = "ms"  # type: ignore[attr-defined]

    def track_ns_per_iteration(self, policy: str, load_name: str, requests: int) -> float:
        summary = fastsim.simulate(*self.job, detail=False).summary
        return float(summary["timing"]["kernel_s"] / summary["totals"]["iterations"] * 1e9)

    track_ns_per_iteration.unit = "ns"  # type: ignore[attr-defined]


class Replicas:
    """1 to 1,000 replicas behind a router that does not look at them, and behind those that do."""

    params = (["round_robin", "least_outstanding", "least_waiting"], [1, 10, 100, 1_000])
    param_names = ("router", "replicas")

    def setup(self, router: str, replicas: int) -> None:
        settings = (f"num_replicas={replicas}", f"router.policy={router}")
        self.job = prepare("sarathi", 100 * replicas, "light", *settings)
        fastsim.simulate(*prepare("sarathi", 10, "light"))

    def time_simulate(self, router: str, replicas: int) -> None:
        fastsim.simulate(*self.job, detail=False)


class Pipelines:
    """One replica of 1 to 8 stages."""

    params = ([1, 2, 4, 8], [100, 10_000])
    param_names = ("stages", "requests")

    def setup(self, stages: int, requests: int) -> None:
        self.job = prepare("sarathi", requests, "light", f"pipeline_parallel_size={stages}")
        fastsim.simulate(*prepare("sarathi", 10, "light"))

    def time_simulate(self, stages: int, requests: int) -> None:
        fastsim.simulate(*self.job, detail=False)


class MicroBatches:
    """A micro-batch whose members stay the same, by its size: one request to as many as a GPU holds."""

    params = (["vllm", "sarathi", "orca", "faster_transformer"], [2, 4], [1, 8, 64, 512])
    param_names = ("policy", "stages", "batch")

    def setup(self, policy: str, stages: int, batch: int) -> None:
        places = [f"scheduler.max_num_seqs={batch * stages}", f"scheduler.num_blocks={batch * stages * 1000}"]
        chunks = ["scheduler.chunk_size=1024"] if policy == "sarathi" else []
        settings = [f"scheduler.policy={policy}", f"pipeline_parallel_size={stages}", *places, *chunks]
        lengths = {"kind": "fixed", "num_prompt_tokens": 1, "num_output_tokens": 1000}
        workload = load({"lengths": lengths, "gaps": {"kind": "static"}, "num_requests": batch * stages})
        self.job = Deployment.load(None, settings), workload
        fastsim.simulate(*self.job, detail=False)

    def track_ns(self, policy: str, stages: int, batch: int) -> float:
        summary = fastsim.simulate(*self.job, detail=False).summary
        return float(summary["timing"]["kernel_s"] / summary["totals"]["iterations"] * 1e9)

    track_ns.unit = "ns"  # type: ignore[attr-defined]


class ClosedLoops:
    """Users who wait for their answers, and the same requests as an open stream at the times that came to pass."""

    params = (["closed", "open"], [16, 256], [1, 4])
    param_names = ("stream", "users", "replicas")

    def setup(self, stream: str, users: int, replicas: int) -> None:
        settings = ["scheduler.policy=sarathi", f"num_replicas={replicas}", "router.policy=least_outstanding"]
        self.deployment = Deployment.load(None, settings)
        loop = load("chat", num_requests=20 * users, users=users)
        result = fastsim.simulate(self.deployment, loop)
        lengths = result.column("num_prompt_tokens"), result.column("num_output_tokens")
        self.workload = loop if stream == "closed" else Workload(result.column("arrived_at"), *lengths)

    def track_kernel_ms(self, stream: str, users: int, replicas: int) -> float:
        summary = fastsim.simulate(self.deployment, self.workload, detail=False).summary
        return float(summary["timing"]["kernel_s"] * 1e3)

    track_kernel_ms.unit = "ms"  # type: ignore[attr-defined]

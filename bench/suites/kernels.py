"""Kernel time and memory by policy, number of requests and number of replicas."""

from typing import Any

import fastsim
from fastsim.deployment import Deployment
from fastsim.workload import Workload, load

POLICIES = ["vllm", "sarathi", "orca", "lightllm", "faster_transformer"]


def prepare(policy: str, num_requests: int, rate: float, **fields: Any) -> tuple[Deployment, Workload]:
    """A deployment of Llama-3-8B on H100 and chat traffic for it."""
    settings = [f"scheduler.policy={policy}", *(f"{key}={value}" for key, value in fields.items())]
    return Deployment.load(None, settings), load("chat", rate=rate, num_requests=num_requests)


class Policies:
    """One replica under moderate load."""

    params = (POLICIES, [100, 1_000, 10_000, 100_000])
    param_names = ("policy", "requests")

    def setup(self, policy: str, requests: int) -> None:
        self.job = prepare(policy, requests, rate=5.0)
        fastsim.simulate(*prepare(policy, 10, rate=5.0))

    def time_simulate(self, policy: str, requests: int) -> None:
        fastsim.simulate(*self.job)

    def track_kernel_ms(self, policy: str, requests: int) -> float:
        return float(fastsim.simulate(*self.job).summary["timing"]["kernel_s"] * 1e3)

    track_kernel_ms.unit = "ms"  # type: ignore[attr-defined]

    def peakmem_simulate(self, policy: str, requests: int) -> None:
        fastsim.simulate(*self.job)


class Replicas:
    """Many replicas behind a router that does not look at them, and behind one that does."""

    params = (["round_robin", "least_outstanding"], [1, 10, 100, 1_000])
    param_names = ("router", "replicas")

    def setup(self, router: str, replicas: int) -> None:
        fields = {"num_replicas": replicas, "router.policy": router}
        self.job = prepare("sarathi", 20 * replicas, rate=5.0 * replicas, **fields)
        fastsim.simulate(*prepare("sarathi", 10, rate=5.0))

    def time_simulate(self, router: str, replicas: int) -> None:
        fastsim.simulate(*self.job)

"""A deployment that can run: its description with every default filled.

Predictors, kernels and results see resolved deployments only.
"""

from dataclasses import dataclass, replace
from math import gcd
from typing import Any, NamedTuple

from fastsim.catalog.hardware import Device, Node
from fastsim.catalog.model import Model
from fastsim.catalog.prices import Price
from fastsim.catalog.quantization import Quantization
from fastsim.deployment import engine_times, stages
from fastsim.deployment.calibration import Calibration
from fastsim.deployment.choices import AllToAll, Dtype, KvCacheDtype, Sampling
from fastsim.deployment.description import Deployment
from fastsim.deployment.engine_times import EngineTimes, HostTimes
from fastsim.deployment.memory.sizes import Layout, MemoryPlan
from fastsim.deployment.operators.decoder import Operators, operators
from fastsim.deployment.pool import Pool
from fastsim.deployment.precisions import kv_precision_of, weights_of
from fastsim.deployment.schedulers import Settings
from fastsim.deployment.sections import Predictor


class PoolOf(NamedTuple):
    """A pool of a deployment that can run."""

    pool: Pool
    resolved: "Resolved"  # its replicas, as a deployment of their own
    first: int  # the first of its replicas, which are numbered through all pools

    @property
    def about(self) -> dict[str, Any]:
        """Its name, role and number of replicas, as JSON has them."""
        return {"name": self.pool.name, "role": self.pool.role, "num_replicas": self.pool.num_replicas}


@dataclass(frozen=True, slots=True)
class Resolved:
    """A deployment that can run: every default is filled, and every name stands beside what it names."""

    deployment: Deployment  # the description with the same defaults: what a result stores, and what is resolved again
    model: Model
    device: Device
    node: Node
    sampling: Sampling
    dtype: Dtype
    quantization: str  # of most weights of the layers; "none": 16 bits
    kv_cache_dtype: KvCacheDtype  # auto: as dtype
    tensor_parallel_size: int
    pipeline_parallel_size: int
    data_parallel_size: int  # ranks of a replica that step together
    pipeline_layers: tuple[int, ...]  # layers of each stage
    enable_expert_parallel: bool
    all2all_backend: AllToAll
    moe_imbalance: float  # tokens of the busiest GPU over the mean
    moe_skew: float  # exponent of the popularity of experts
    num_redundant_experts: int  # copies beside the model's own
    enforce_eager: bool
    num_replicas: int
    router: str  # a policy, or file.py:function
    max_model_len: int  # tokens of prompt and output
    gpu_memory_utilization: float
    scheduler: Settings
    layout: Layout  # what decides how memory is used
    memory: MemoryPlan
    predictor: Predictor
    seed: int
    price: Price | None  # of one GPU; None: it is not known
    warnings: tuple[str, ...]
    # Of replicas of different kinds; the fields above are then those of the first pool, save for num_replicas.
    pools: tuple[PoolOf, ...] = ()

    @property
    def kinds(self) -> "tuple[Resolved, ...]":
        """The deployments that its pools are, or itself where all replicas are alike."""
        return tuple(each.resolved for each in self.pools) or (self,)

    @property
    def is_apart(self) -> bool:
        """Whether requests are prefilled and decoded on different replicas."""
        return any(each.pool.role != "mixed" for each in self.pools)

    @property
    def by_kind(self) -> "list[tuple[Resolved, slice]]":
        """Each kind of replica, and which replicas are of it."""
        if not self.pools:
            return [(self, slice(None))]
        return [(each.resolved, slice(each.first, each.first + each.resolved.num_replicas)) for each in self.pools]

    @property
    def kind_of_replica(self) -> "list[Resolved]":
        """The deployment that each replica is of, by the number of the replica; with ranks an entry for each."""
        return [kind for kind in self.kinds for _ in range(kind.num_engines)]

    @property
    def copies(self) -> int:
        """Replicas; with pools, how many times the deployment has the fewest replicas in the ratio of its pools."""
        return gcd(*(each.resolved.num_replicas for each in self.pools)) if self.pools else self.num_replicas

    @property
    def dollars_per_hour(self) -> float | None:
        """Price of all GPUs; None if no price of the GPU is known."""
        if self.pools:
            prices = [each.resolved.dollars_per_hour for each in self.pools]
            return None if None in prices else sum(price for price in prices if price is not None)
        return None if self.price is None else self.num_gpus * self.price.dollars

    @property
    def micro_batch_size(self) -> int:
        """Requests in one batch: the cap shared among the pipeline stages."""
        return self.scheduler.max_num_seqs // self.pipeline_parallel_size

    @property
    def max_batch_size(self) -> int:
        """Requests in a batch of Orca or FasterTransformer: as many as fit at full length, up to the cap."""
        return min(self.memory.max_batch_size, self.scheduler.max_num_seqs)

    @property
    def layers_per_stage(self) -> float:
        """Layers of a pipeline stage, on average."""
        return self.model.num_layers / self.pipeline_parallel_size

    @property
    def precision(self) -> str:
        """Precision of most weights of the layers, in the words of operators and forests."""
        return "bf16" if self.quantization == "none" else self.quantization

    @property
    def weights(self) -> Quantization:
        """Precision of the weights of each module."""
        return weights_of(self.model, self.quantization)

    @property
    def kv_precision(self) -> str:
        """Precision of the KV cache, in the same words."""
        return kv_precision_of(self.kv_cache_dtype)

    @property
    def operators(self) -> Operators:
        """The operators of the layers of all stages, on one GPU each."""
        return self._operators(None)

    def stage_operators(self, stage: int) -> Operators:
        """The operators of the layers of a pipeline stage, on one GPU."""
        return self._operators(stages.ranges(self.pipeline_layers)[stage])

    def _operators(self, layers: range | None) -> Operators:
        return operators(
            self.model,
            self.tensor_parallel_size,
            precision=self.weights,
            kv_precision=self.kv_precision,
            expert_parallel=self.enable_expert_parallel,
            all_to_all=self.all2all_backend == "deepep",
            imbalance=self.moe_imbalance,
            skew=self.moe_skew,
            layers=layers,
            data_parallel_size=self.data_parallel_size,
            redundant=self.num_redundant_experts,
        )

    @property
    def engine_times(self) -> EngineTimes | None:
        """What the engine's release takes beside the model's operators; None without an engine."""
        return engine_times.of(self.deployment.engine) if self.deployment.engine else None

    @property
    def kernels(self) -> tuple[str, tuple[int, ...]]:
        """Whose kernels of attention and all-reduce run, and the release; () where it is not known."""
        kind, version = engine_times.version_of(self.deployment.engine) if self.deployment.engine else ("vllm", ())
        asked = self.deployment.predictor.kernels
        return (kind, version) if asked in (None, kind) else (str(asked), ())

    @property
    def calibration(self) -> Calibration | None:
        """The calibration whose coefficients hold; None without one."""
        found = self.deployment.calibration
        assert not isinstance(found, str), "resolve has read it"
        return found

    @property
    def host_times(self) -> HostTimes:
        """Host time of a step: that of a calibration, else of the engine's release, asynchronous or not."""
        known = self.engine_times
        host = engine_times.OF_POLICIES if known is None else known.host(self.scheduler.async_scheduling)
        if self.calibration is None or self.calibration.host is None:
            return host
        return replace(host, **self.calibration.host.model_dump())

    @property
    def front_end_s(self) -> float:
        """Time from when a client sends a request until the scheduler sees it, s."""
        return (self.deployment.front_end_ms or 0.0) / 1e3

    @property
    def gpus_per_replica(self) -> int:
        """GPUs of one replica."""
        return self.tensor_parallel_size * self.pipeline_parallel_size * self.data_parallel_size

    @property
    def num_engines(self) -> int:
        """Schedulers, each with KV blocks of its own: the ranks of all replicas."""
        return self.num_replicas * self.data_parallel_size

    @property
    def num_gpus(self) -> int:
        """GPUs of the whole cluster."""
        if self.pools:
            return sum(each.resolved.num_gpus for each in self.pools)
        return self.num_replicas * self.gpus_per_replica

"""A pool of replicas in a deployment file: in what they differ from the others, and which requests they take."""

from typing import Annotated

from pydantic import AfterValidator, BeforeValidator

from fastsim.deployment.choices import MOST_REPLICAS, AllToAll, KvCacheDtype, Quantization, Role
from fastsim.deployment.fields import Group, Layers, count, numbers, release_name, setting, switch
from fastsim.deployment.fields import name as text
from fastsim.deployment.sections import Predictor, Scheduler

# What a pool says of itself; all its other fields stand in place of those of the deployment.
OWN = ("name", "role", "num_replicas", "max_prompt_tokens", "max_outstanding", "weight")


class Pool(Group):
    """Replicas that are alike, of a deployment with several kinds of them. What is null is as in the deployment.

    Parameters
    ----------
    name : str
        What results call the pool.
    role : str
        ``"mixed"`` (default): its replicas prefill and decode. ``"prefill"`` and ``"decode"``: KV goes from one to the
        other.
    num_replicas : int
        Replicas of the pool. By default 1.
    max_prompt_tokens : int, optional
        The longest prompt that it takes, tokens, where ``router.pools`` is prompt_length. By default any.
    max_outstanding : int, optional
        Requests of a replica from which on the next pool is asked, where ``router.pools`` is cost. By default
        ``max_num_seqs``.
    weight : float
        How many requests a replica takes for one of a replica of weight 1, as least_outstanding and least_waiting
        compare them. By default 1.
    device, node, engine, quantization, kv_cache_dtype, tensor_parallel_size, pipeline_parallel_size, pipeline_layers,
    enable_expert_parallel, all2all_backend, moe_imbalance, enable_eplb, num_redundant_experts, enforce_eager,
    gpu_memory_utilization, predictor : optional
        As of a Deployment, whose values they replace.
    scheduler : Scheduler
        Settings that replace those of the deployment one by one.

    Examples
    --------
    >>> from fastsim.deployment.pool import Pool
    >>> Pool(name="large", num_replicas=2, tensor_parallel_size=2).role
    'mixed'
    """

    name: str = text("what results call the pool", "large")
    role: Role = setting("mixed, or prefill and decode apart", "a role", "prefill", default="mixed")
    num_replicas: int = count("replicas of the pool", 4, 1, MOST_REPLICAS)
    max_prompt_tokens: int | None = count(
        "the longest prompt that it takes: router.pools prompt_length", 4096, None, 2**24
    )
    max_outstanding: int | None = count(
        "requests of a replica from which on the next pool is asked; null: max_num_seqs: router.pools cost",
        64,
        None,
        2**31 - 1,
    )
    weight: float = setting(
        "requests that a replica takes for one of a replica of weight 1: least_outstanding, least_waiting",
        "a number above 0 up to 1e6",
        2.0,
        default=1.0,
        gt=0,
        le=1e6,
    )
    device: str | None = text("catalog name of the GPU, or a YAML file that describes one", "h200", default=None)
    node: str | None = text("catalog name; decides the links between GPUs", "h200_hgx", default=None)
    engine: Annotated[str, AfterValidator(release_name)] | None = text(
        "release of vLLM or SGLang whose rules and defaults hold", "vllm-0.19", default=None
    )
    quantization: Quantization | None = setting("precision of the weights", "a precision", "fp8", default=None)
    kv_cache_dtype: KvCacheDtype | None = setting("auto, bfloat16 or fp8", "a type", "fp8", default=None)
    tensor_parallel_size: int | None = count("GPUs that share a layer", 2, None, 1024)
    pipeline_parallel_size: int | None = count("stages that share the layers", 2, None, 1024)
    pipeline_layers: Annotated[tuple[Layers, ...], BeforeValidator(numbers)] | None = setting(
        "layers of each stage", "a list of positive integers", [21, 20, 20], default=None, min_length=1, max_length=1024
    )
    enable_expert_parallel: bool | None = switch("the GPUs of a stage share the experts, not each expert")
    all2all_backend: AllToAll | None = setting("how tokens meet their experts", "a way", "deepep", default=None)
    moe_imbalance: float | None = setting(
        "tokens of the busiest GPU over the mean", "a number from 1 up", 1.2, default=None, ge=1, le=1024
    )
    enable_eplb: bool | None = switch("experts are placed by how much they have to do (EPLB)")
    num_redundant_experts: int | None = setting(
        "copies of the busiest experts", "a number from 0 up", 32, default=None, ge=0, le=4096
    )
    enforce_eager: bool | None = switch("every kernel is launched by itself, without CUDA graphs")
    gpu_memory_utilization: float | None = setting(
        "share of the GPU memory in use", "a fraction above 0 up to 1", 0.9, default=None, gt=0, le=1
    )
    scheduler: Scheduler = setting("scheduler", "a group of settings", {"max_num_seqs": 64}, default=Scheduler())
    predictor: Predictor | None = setting("predictor", "a group of settings", {"source": "aic"}, default=None)

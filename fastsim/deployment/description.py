"""The schema of a deployment file: every field with its meaning, its limits and a valid example."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BeforeValidator

from fastsim.deployment.calibration import EXAMPLE, Calibration, written_out
from fastsim.deployment.choices import (
    MOST_REPLICAS,
    AllToAll,
    Balancer,
    Dtype,
    KvCacheDtype,
    Quantization,
    Sampling,
)
from fastsim.deployment.fields import Group, Layers, count, listed, name, numbers, release_name, setting
from fastsim.deployment.pool import Pool
from fastsim.deployment.prices import Prices
from fastsim.deployment.prices import written_out as written_out_prices
from fastsim.deployment.sections import KvTransfer, Memory, Predictor, Router, Scheduler
from fastsim.deployment.vllm import words
from fastsim.files import DATA
from fastsim.files.documents import Document, read
from fastsim.files.schema import validate, with_overrides

DEFAULT_FILE = DATA / "default.yaml"


class Deployment(Group):
    """A model on a cluster, as a deployment file describes it.

    A Deployment is immutable. ``resolve`` fills the fields that are None.

    Parameters
    ----------
    model : str
        A name of ``fastsim catalog models``, or the path of a Hugging Face config.json.
    device : str
        The GPU: a name of ``fastsim catalog devices``, or the path of a YAML file that describes one.
    node : str, optional
        A name of ``fastsim catalog nodes``, which decides the links between GPUs. By default the first that has the
        device.
    engine : str, optional
        A release of vLLM or SGLang, such as ``"vllm-0.19"`` or ``"sglang-0.5.23"`` (``fastsim catalog engines``), whose
        rules and defaults hold. By default vllm-0.33, or none where the scheduler has a policy other than vllm_v1.
    front_end_ms : float, optional
        Time from when a client sends a request until the scheduler sees it, ms: HTTP server and tokenisation. 0 is an
        engine in the client's own process. By default that of the engine's release, and 0 without an engine or with
        operator times of your own or Vidur's.
    sampling : str, optional
        How tokens are drawn: ``"greedy"`` (temperature 0), ``"random"`` or ``"top_k_top_p"``, for which engines look
        for the likeliest tokens in the whole vocabulary. By default what the model's generation_config.json asks for,
        as engines do for requests that say nothing else.
    dtype : str
        Type of activations, and of weights that are not quantised: ``"bfloat16"`` (default) or ``"float16"``.
    quantization : str, optional
        Precision of the weights of the layers: none (16 bits), fp8, fp8_block, fp8_wo, mxfp8, int8, int8_wo, int4_wo,
        int4_fp8, nvfp4, nvfp4_wo, mxfp4 or nf4. By default each module's as the model is published.
    kv_cache_dtype : str
        ``"auto"`` (default: what the checkpoint says, else the same as ``dtype``), ``"bfloat16"`` or ``"fp8"``.
    tensor_parallel_size : int
        GPUs that share each layer. By default 1.
    pipeline_parallel_size : int
        Stages that share the layers. By default 1.
    data_parallel_size : int
        Ranks of a replica that step together: each has attention, a scheduler and a KV cache of its own, and all share
        the experts. Only with policy vllm_v1 and a model with experts. By default 1.
    data_parallel_balancer : str
        How a request comes to its rank: ``"internal"`` (default: the front end of vLLM sends it to the rank with the
        fewest requests, as far as it knows), or ``"external"`` (each rank is addressed by itself, in turn, or by column
        replica_id with router pinned).
    pipeline_layers : sequence of int, optional
        Layers of each stage, as in vLLM's VLLM_PP_LAYER_PARTITION. By default they are cut as vLLM cuts them.
    enable_expert_parallel : bool
        Whether the GPUs of a stage divide the experts among themselves, instead of splitting each one. By default
        False.
    all2all_backend : str
        How tokens reach their experts: ``"allgather_reducescatter"`` (default) or ``"deepep"``.
    moe_imbalance : float, optional
        Tokens of the busiest GPU over the mean, under expert parallelism, as measured. By default what ``moe_skew``
        makes it, with experts placed as the model numbers them or by EPLB.
    moe_skew : float
        How much more popular some experts are than others: the one of rank r is chosen in proportion to r ** -moe_skew.
        The more popular, the fewer experts a small batch reaches. By default 0, all equally likely.
    enable_eplb : bool
        Whether experts are placed by how much they have to do (EPLB). By default False.
    num_redundant_experts : int
        Copies of the busiest experts that EPLB has beside the model's own, in all. By default 0.
    enforce_eager : bool
        Whether every kernel is launched by itself, without CUDA graphs. By default False.
    num_replicas : int
        Copies of the model, which share no GPU. By default 1.
    pools : sequence of Pool
        Replicas of different kinds behind one router, instead of ``num_replicas``: each pool has a ``name``, a
        ``num_replicas``, and the fields in which it differs from the deployment. By default none.
    kv_transfer : KvTransfer, optional
        With pools of roles prefill and decode: ``link_gb_s``, ``latency_us``, ``layerwise`` and ``min_prompt_tokens``,
        below which prompts are computed where they decode.
    router : Router
        Which replica a request goes to: ``policy``, by default round_robin.
    max_model_len : int, optional
        Most tokens of a request, prompt and output together. By default what the model was trained for.
    gpu_memory_utilization : float, optional
        Share of the GPU memory that is used, above 0 up to 1. By default that of the engine, else 0.9.
    memory : Memory
        How KV blocks are planned: ``planner``, fastsim (default) or vidur.
    scheduler : Scheduler
        How a replica forms its batches: ``policy`` (by default that of the engine), ``max_num_seqs``,
        ``max_num_batched_tokens``, ``chunk_size``, ``block_size``, ``watermark``, ``max_waiting_iters`` and
        ``num_blocks``; of policy vllm_v1 ``scheduling_policy``, ``enable_prefix_caching``, ``enable_chunked_prefill``,
        ``async_scheduling``, ``long_prefill_token_threshold``, ``scheduler_reserve_full_isl`` and
        ``empty_step_sleep_s``; policy sglang has settings of its own, in the names of SGLang's flags. ``resolve`` says
        what their defaults are.
    predictor : Predictor
        Where operator times come from (``source``), and how they make up the time of an iteration (``compose``); whose
        kernels of attention and all-reduce run (``kernels``); with source affine the terms of that time (``affine``).
    calibration : str or Calibration, optional
        A file that ``fastsim calibrate`` wrote: coefficients that were fitted on a measured run, which stand in place
        of the engine's and of affine terms. By default none.
    prices : str or Prices, optional
        What GPUs and energy cost: a file (``fastsim manual planning``), or its keys. By default the prices of ``fastsim
        catalog prices``, and none of energy.
    seed : int
        Seed of every random draw. By default 0.

    Raises
    ------
    pydantic.ValidationError
        When a field is not valid. ``load`` raises errors.ConfigError instead, in one sentence.

    Examples
    --------
    >>> deployment = fastsim.Deployment(model="llama-3-8b", device="h100", num_replicas=2)
    >>> fastsim.resolve(deployment).deployment.engine
    'vllm-0.33'
    """

    model: str = name("catalog name, or a path to a Hugging Face config.json", "meta-llama/Llama-2-7b-hf")
    device: str = name("catalog name of the GPU, or a YAML file that describes one", "a100")
    node: str | None = name("catalog name; decides the links between GPUs", "a100_dgx", default=None)
    engine: Annotated[str, AfterValidator(release_name)] | None = name(
        "release of vLLM or SGLang whose rules and defaults hold; null: vllm-0.33, or none with a policy that is "
        "neither vllm_v1 nor sglang",
        "vllm-0.19",
        default=None,
    )
    front_end_ms: float | None = setting(
        "from a client to the scheduler, ms; 0: in the client's process; null: as the engine",
        "a number from 0 up to 60000",
        6.0,
        default=None,
        ge=0,
        le=60_000,
    )
    sampling: Sampling | None = setting(
        "how tokens are drawn; null: as the model's generation_config.json asks", "a way", "greedy", default=None
    )
    dtype: Dtype = setting(
        "type of activations, and of weights that are not quantised", "a type", "bfloat16", default="bfloat16"
    )
    quantization: Quantization | None = setting(
        "precision of the weights of the layers; null: as the model is published", "a precision", "fp8", default=None
    )
    kv_cache_dtype: KvCacheDtype = setting(
        "auto (as the checkpoint says, else as dtype), bfloat16 or fp8", "a type", "fp8", default="auto"
    )
    tensor_parallel_size: int = count("GPUs that share a layer", 2, 1, 1024)
    pipeline_parallel_size: int = count("stages that share the layers", 2, 1, 1024)
    data_parallel_size: int = count("attention ranks of a replica, which share the experts", 2, 1, 1024)
    data_parallel_balancer: Balancer = setting(
        "how requests come to ranks: as vLLM's front end sends them (internal), or in turn (external)",
        "a way",
        "external",
        default="internal",
    )
    pipeline_layers: Annotated[tuple[Layers, ...], BeforeValidator(numbers)] | None = setting(
        "layers of each stage; null: as vLLM cuts them",
        "a list of positive integers",
        [21, 20, 20],
        default=None,
        min_length=1,
        max_length=1024,
    )
    enable_expert_parallel: bool = setting(
        "the GPUs of a stage share the experts, not each expert", "true or false", True, default=False
    )
    all2all_backend: AllToAll = setting(
        "how tokens meet their experts: all on every GPU, or exchanged (deepep)",
        "a way",
        "deepep",
        default="allgather_reducescatter",
    )
    moe_imbalance: float | None = setting(
        "tokens of the busiest GPU over the mean, under expert parallelism; null: as moe_skew makes it",
        "a number from 1 up",
        1.2,
        default=None,
        ge=1,
        le=1024,
    )
    moe_skew: float = setting(
        "exponent of the popularity of experts; 0: all are equally likely",
        "a number from 0 up to 4",
        0.8,
        default=0.0,
        ge=0,
        le=4,
    )
    enable_eplb: bool = setting(
        "experts are placed by how much they have to do (EPLB)", "true or false", True, default=False
    )
    num_redundant_experts: int = setting(
        "copies of the busiest experts, which EPLB has beside the model's own",
        "a number from 0 up",
        32,
        default=0,
        ge=0,
        le=4096,
    )
    enforce_eager: bool = setting(
        "every kernel is launched by itself, without CUDA graphs", "true or false", True, default=False
    )
    num_replicas: int = count("copies of the model", 4, 1, MOST_REPLICAS)
    pools: Annotated[tuple[Pool, ...], BeforeValidator(listed)] = setting(
        "replicas of different kinds behind one router, instead of num_replicas",
        "a list of pools",
        [{"name": "large", "num_replicas": 2, "tensor_parallel_size": 2}, {"name": "small", "num_replicas": 4}],
        default=(),
        max_length=16,
    )
    kv_transfer: KvTransfer | None = setting(
        "how KV goes from pools that prefill to those that decode",
        "a group of settings",
        {"link_gb_s": 50, "latency_us": 20},
        default=None,
    )
    router: Router = setting("router", "a group of settings", {"policy": "random"}, default=Router())
    max_model_len: int | None = count("tokens of prompt and output", 4096, None, 2**24)
    gpu_memory_utilization: float | None = setting(
        "share of the GPU memory in use; null: as the engine, else 0.9",
        "a fraction above 0 up to 1",
        0.9,
        default=None,
        gt=0,
        le=1,
    )
    memory: Memory = setting("memory", "a group of settings", {"planner": "vidur"}, default=Memory())
    scheduler: Scheduler = setting("scheduler", "a group of settings", {"policy": "vllm"}, default=Scheduler())
    predictor: Predictor = setting("predictor", "a group of settings", {"compose": "vidur"}, default=Predictor())
    calibration: Annotated[Calibration | str | None, BeforeValidator(written_out)] = setting(
        "file that `fastsim calibrate` wrote", "the name of a file", EXAMPLE, default=None
    )
    prices: Annotated[Prices | None, BeforeValidator(written_out_prices)] = setting(
        "what GPUs and energy cost: a file, or a group of settings", "the name of a file", "prices.yaml", default=None
    )
    seed: int = count("of every random draw", 0, 0, 2**63 - 1, least=0)

    @classmethod
    def load(
        cls,
        source: "str | Path | Mapping[str, Any] | Deployment | None" = None,
        overrides: Sequence[str] = (),
    ) -> Self:
        """Read a deployment from a file, a mapping or another deployment, and change some of its fields.

        Parameters
        ----------
        source : str, Path, mapping, Deployment or None
            A YAML, TOML or JSON file, ``"-"`` for YAML on standard input, the config.json of a result (which gives the
            deployment that was simulated), a mapping of fields, or a deployment. By default Llama-3-8B on one H100 in
            vLLM 0.33.
        overrides : sequence of str
            Changes such as ``"scheduler.max_num_seqs=64"``; each value is read as YAML. By default none. Names may be
            those of vLLM's flags, as in files: ``"tp=4"``, ``"max-num-seqs=64"``.

        Returns
        -------
        Deployment
            The deployment with the changes.

        Raises
        ------
        errors.ConfigError
            For the first few fields that are not valid: where each is, its value, and a valid value.

        Examples
        --------
        >>> fastsim.Deployment.load(None, ["device=a100", "scheduler.max_num_seqs=64"]).device
        'a100'
        """
        if isinstance(source, Deployment):
            document = Document(source.model_dump(warnings=False))
        elif isinstance(source, Mapping):
            document = words.translated(Document(dict(source)))
        else:
            document = read(DEFAULT_FILE if source is None else source)
            if isinstance(document.values.get("deployment"), dict):  # the config.json of a result
                document = replace(document, values=document.values["deployment"])
            document = words.translated(document)
        changes = words.translated_overrides(overrides, document.values.get("model"))
        return validate(cls, with_overrides(document, changes, cls))

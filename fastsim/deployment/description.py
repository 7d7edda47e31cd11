"""The schema of a deployment file: every field with its meaning, its limits and a valid example."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, WrapValidator

from fastsim.deployment import engines
from fastsim.deployment.schedulers import PolicyName, SchedulingPolicy, is_function
from fastsim.deployment.vllm import words
from fastsim.errors import ConfigError
from fastsim.files import DATA
from fastsim.files.documents import Document, read
from fastsim.files.schema import ONE_LINE, validate, with_overrides

RouterPolicy = Literal["round_robin", "random", "least_outstanding", "least_waiting", "pinned"]
Planner = Literal["fastsim", "vidur"]
Compose = Literal["fastsim", "vidur"]
Dtype = Literal["bfloat16", "float16"]
Quantization = Literal[
    "none",
    "fp8",
    "fp8_block",
    "fp8_wo",
    "mxfp8",
    "int8",
    "int8_wo",
    "int4_wo",
    "int4_fp8",
    "nvfp4",
    "nvfp4_wo",
    "mxfp4",
    "nf4",
]
KvCacheDtype = Literal["auto", "bfloat16", "fp8"]
AllToAll = Literal["allgather_reducescatter", "deepep"]

DEFAULT_FILE = DATA / "default.yaml"


def _setting(meaning: str, valid: str, example: Any, **limits: Any) -> Any:
    """Declare a field: its meaning, and what completes the message "... is not ``valid`` (e.g. ``example``)"."""
    return Field(description=meaning, examples=[example], json_schema_extra={"valid": valid}, **limits)


def _count(meaning: str, example: int, default: int | None, most: int, least: int = 1) -> Any:
    valid = f"a positive integer up to {most}" if least else f"an integer from 0 to {most}"
    return _setting(meaning, valid, example, default=default, ge=least, le=most)


def _switch(meaning: str) -> Any:
    return _setting(meaning, "true or false", True, default=None)


def _term(meaning: str, example: int) -> Any:
    return _setting(f"{meaning}, ns", "a number from 0 up to 1e15", example, default=0.0, ge=0, le=1e15)


def _name(meaning: str, example: str, **default: Any) -> Any:
    return _setting(meaning, "a name", example, min_length=1, max_length=4096, pattern=ONE_LINE, **default)


def _or_function(policy: Any, check: Callable[[Any], Any]) -> Any:
    return policy if isinstance(policy, str) and is_function(policy) else check(policy)


def _as_given(policy: str | None) -> str | None:
    return policy


_OR_FUNCTION = (WrapValidator(_or_function), PlainSerializer(_as_given))  # which pydantic would warn of


_Layers = Annotated[int, Field(ge=1, le=2**16)]


def _numbers(value: Any) -> Any:
    """A list as a tuple; text such as "21,20,20", as vLLM writes it, as its numbers."""
    if isinstance(value, str):
        parts = value.strip().removeprefix("[").removesuffix("]").split(",")
        return tuple(int(part) if part.isdecimal() else part for part in map(str.strip, parts))
    return tuple(value) if isinstance(value, list) else value


def _release(engine: str) -> str:
    try:
        engines.of(engine)
    except ConfigError as problem:
        raise ValueError(str(problem)) from None
    return engine


class _Settings(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)


class Router(_Settings):
    """Which replica a request goes to."""

    policy: Annotated[RouterPolicy, *_OR_FUNCTION] = _setting(
        "how a replica is chosen, or file.py:function", "a router", "random", default="round_robin"
    )


class Memory(_Settings):
    """Which planner decides how many KV blocks there are."""

    planner: Planner = _setting(
        "fastsim (as vLLM profiles) or vidur (its formula, for parity)",
        "a planner",
        "vidur",
        default="fastsim",
    )


class Scheduler(_Settings):
    """How a replica forms its batches. A policy ignores the limits that it does not have.

    Fields that are None are filled when the deployment is resolved, by the engine where there is one.
    """

    policy: Annotated[PolicyName | None, *_OR_FUNCTION] = _setting(
        "scheduling policy, or file.py:function; null: vllm_v1 with an engine, else sarathi",
        "a policy",
        "vllm",
        default=None,
    )
    max_num_seqs: int | None = _count("requests that run at once, over all pipeline stages", 128, None, 2**16)
    max_num_batched_tokens: int | None = _count("tokens of an iteration: vllm_v1, vllm, lightllm", 4096, None, 2**24)
    chunk_size: int | None = _count("tokens of an iteration: sarathi", 512, None, 2**24)
    block_size: int | None = _count("tokens of a KV block", 16, None, 2**16)
    watermark: float | None = _setting(
        "share of the KV blocks that admission leaves free",
        "a fraction from 0 to below 1",
        0.01,
        default=None,
        ge=0,
        lt=1,
    )
    max_waiting_iters: int | None = _count("decodes between prefills: lightllm", 10, None, 2**31 - 1, least=0)
    num_blocks: int | None = _count(
        "usable KV blocks of a replica, without vLLM's null block; null: as planned", 8192, None, 2**31 - 1
    )
    scheduling_policy: SchedulingPolicy | None = _setting(
        "fcfs, or priority (column priority, lower first): vllm_v1", "an order", "priority", default=None
    )
    enable_prefix_caching: bool | None = _switch("requests share the KV blocks of equal prefixes: vllm_v1")
    enable_chunked_prefill: bool | None = _switch("prompts are computed in chunks: vllm_v1")
    async_scheduling: bool | None = _switch("a batch is formed while the one before it runs: vllm_v1")
    long_prefill_token_threshold: int | None = _count(
        "most tokens of a request in an iteration, 0: no such limit: vllm_v1", 512, None, 2**24, least=0
    )
    scheduler_reserve_full_isl: bool | None = _switch("only requests whose tokens all have room are admitted: vllm_v1")
    empty_step_sleep_s: float | None = _setting(
        "what an engine sleeps after a step without tokens, s: vllm_v1",
        "a number from 0 up",
        0.001,
        default=None,
        ge=0,
        le=3600,
    )


class Affine(_Settings):
    """The time of a batch on each stage as a sum of terms, in ns. Context: all tokens of its sequences so far."""

    constant_ns: float = _term("of every batch", 2_000_000)
    per_token_ns: float = _term("for each token that is computed", 1500)
    per_sequence_ns: float = _term("for each sequence", 20_000)
    per_context_token_ns: float = _term("for each token of context, those of the batch included", 3)
    per_prefill_token_ns: float = _term("for each token of a prompt besides", 500)
    per_decode_ns: float = _term("for each decode besides", 10_000)
    tick_s: float | None = _setting(
        "a stage takes as many ticks of this length as the sum has whole microseconds; null: the sum, s",
        "a positive number up to 3600",
        2**-20,
        default=None,
        gt=0,
        le=3600,
    )


class Predictor(_Settings):
    """Where operator times come from, and how they are composed into the time of an iteration."""

    source: str = _name("default, aic, affine, vidur:DIR, profile:DIR or tables:DIR", "default", default="default")
    affine: Affine | None = _setting(
        "terms of source affine", "a group of settings", {"constant_ns": 2_000_000}, default=None
    )
    compose: Compose = _setting(
        "fastsim, or vidur (its rounding and aggregation, for parity)", "a way", "vidur", default="fastsim"
    )


class Deployment(_Settings):
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
        A release of vLLM, such as ``"vllm-0.19"`` (``fastsim catalog engines``), whose rules and defaults hold. By
        default none.
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
    pipeline_layers : sequence of int, optional
        Layers of each stage, as in vLLM's VLLM_PP_LAYER_PARTITION. By default they are cut as vLLM cuts them.
    enable_expert_parallel : bool
        Whether the GPUs of a stage divide the experts among themselves, instead of splitting each one. By default
        False.
    all2all_backend : str
        How tokens reach their experts: ``"allgather_reducescatter"`` (default) or ``"deepep"``.
    moe_imbalance : float
        Tokens of the busiest GPU over the mean, under expert parallelism. By default 1.
    num_replicas : int
        Copies of the model, which share no GPU. By default 1.
    router : Router
        Which replica a request goes to: ``policy``, by default round_robin.
    max_model_len : int, optional
        Most tokens of a request, prompt and output together. By default what the model was trained for.
    gpu_memory_utilization : float, optional
        Share of the GPU memory that is used, above 0 up to 1. By default that of the engine, else 0.9.
    memory : Memory
        How KV blocks are planned: ``planner``, fastsim (default) or vidur.
    scheduler : Scheduler
        How a replica forms its batches: ``policy`` (by default sarathi, or vllm_v1 with an engine), ``max_num_seqs``
        (128), ``max_num_batched_tokens``, ``chunk_size``, ``block_size``, ``watermark`` (0.01), ``max_waiting_iters``
        and ``num_blocks``; of policy vllm_v1 ``scheduling_policy``, ``enable_prefix_caching``,
        ``enable_chunked_prefill``, ``async_scheduling``, ``long_prefill_token_threshold``,
        ``scheduler_reserve_full_isl`` and ``empty_step_sleep_s``. An engine has defaults of its own.
    predictor : Predictor
        Where operator times come from (``source``), and how they make up the time of an iteration (``compose``); with
        source affine the terms of that time (``affine``).
    seed : int
        Seed of every random draw. By default 0.

    Raises
    ------
    pydantic.ValidationError
        When a field is not valid. ``load`` raises errors.ConfigError instead, in one sentence.

    Examples
    --------
    >>> deployment = fastsim.Deployment(model="llama-3-8b", device="h100", num_replicas=2)
    >>> fastsim.resolve(deployment).scheduler.policy.name
    'sarathi'
    """

    model: str = _name("catalog name, or a path to a Hugging Face config.json", "meta-llama/Llama-2-7b-hf")
    device: str = _name("catalog name of the GPU, or a YAML file that describes one", "a100")
    node: str | None = _name("catalog name; decides the links between GPUs", "a100_dgx", default=None)
    engine: Annotated[str, AfterValidator(_release)] | None = _name(
        "release of vLLM whose rules and defaults hold; null: none", "vllm-0.19", default=None
    )
    dtype: Dtype = _setting(
        "type of activations, and of weights that are not quantised", "a type", "bfloat16", default="bfloat16"
    )
    quantization: Quantization | None = _setting(
        "precision of the weights of the layers; null: as the model is published", "a precision", "fp8", default=None
    )
    kv_cache_dtype: KvCacheDtype = _setting(
        "auto (as the checkpoint says, else as dtype), bfloat16 or fp8", "a type", "fp8", default="auto"
    )
    tensor_parallel_size: int = _count("GPUs that share a layer", 2, 1, 1024)
    pipeline_parallel_size: int = _count("stages that share the layers", 2, 1, 1024)
    pipeline_layers: Annotated[tuple[_Layers, ...], BeforeValidator(_numbers)] | None = _setting(
        "layers of each stage; null: as vLLM cuts them",
        "a list of positive integers",
        [21, 20, 20],
        default=None,
        min_length=1,
        max_length=1024,
    )
    enable_expert_parallel: bool = _setting(
        "the GPUs of a stage share the experts, not each expert", "true or false", True, default=False
    )
    all2all_backend: AllToAll = _setting(
        "how tokens meet their experts: all on every GPU, or exchanged (deepep)",
        "a way",
        "deepep",
        default="allgather_reducescatter",
    )
    moe_imbalance: float = _setting(
        "tokens of the busiest GPU over the mean, under expert parallelism",
        "a number from 1 up",
        1.2,
        default=1.0,
        ge=1,
        le=1024,
    )
    num_replicas: int = _count("copies of the model", 4, 1, 100_000)
    router: Router = _setting("router", "a group of settings", {"policy": "random"}, default=Router())
    max_model_len: int | None = _count("tokens of prompt and output", 4096, None, 2**24)
    gpu_memory_utilization: float | None = _setting(
        "share of the GPU memory in use; null: as the engine, else 0.9",
        "a fraction above 0 up to 1",
        0.9,
        default=None,
        gt=0,
        le=1,
    )
    memory: Memory = _setting("memory", "a group of settings", {"planner": "vidur"}, default=Memory())
    scheduler: Scheduler = _setting("scheduler", "a group of settings", {"policy": "vllm"}, default=Scheduler())
    predictor: Predictor = _setting("predictor", "a group of settings", {"compose": "vidur"}, default=Predictor())
    seed: int = _count("of every random draw", 0, 0, 2**63 - 1, least=0)

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
            deployment that was simulated), a mapping of fields, or a deployment. By default Llama-3-8B on one H100.
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

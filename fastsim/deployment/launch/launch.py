"""The command that starts a deployment in an engine, vLLM or SGLang.

Flags as in the documentation of vLLM 0.19 (``vllm serve --help``) and of SGLang 0.5 (``sglang.launch_server --help``).
"""

import json
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastsim.catalog import load
from fastsim.deployment import stages
from fastsim.deployment.description import Deployment
from fastsim.deployment.engines import Release
from fastsim.deployment.memory.plan import check_longest
from fastsim.deployment.pool import Pool
from fastsim.deployment.resolve import resolve
from fastsim.deployment.resolved import Resolved
from fastsim.deployment.schedulers import POLICIES, Settings, SglangSettings, is_function
from fastsim.errors import ConfigError, did_you_mean

Flag = tuple[str, str | None]
ONLINE = ("fp8",)  # precisions that an engine makes of 16-bit weights when it loads them


@dataclass(frozen=True, slots=True)
class Launch:
    """A command that starts one replica.

    ``environment`` holds variables that the engine reads, by name. ``notes`` say where the engine will differ from what
    was simulated, or has no flag for it.
    """

    engine: str
    program: tuple[str, ...]
    flags: tuple[Flag, ...]
    notes: tuple[str, ...]
    resolved: Resolved
    environment: Mapping[str, str]
    pool: Pool | None = None  # whose replicas they are; None without pools

    @property
    def command(self) -> list[str]:
        """The command as a list of words."""
        return [*self.program, *(word for flag in self.flags for word in flag if word is not None)]

    def as_dict(self) -> dict[str, Any]:
        """The command as JSON has it: its engine, its words, variables, GPUs, and what differs."""
        return {
            "engine": self.engine,
            "command": self.command,
            "environment": dict(self.environment),
            "gpus": self.resolved.num_gpus // self.resolved.num_replicas,
            "num_replicas": self.resolved.num_replicas,
            "notes": list(self.notes),
        }

    @property
    def title(self) -> str:
        """The pool in a line: ``prompts: 2 replicas of role prefill``."""
        assert self.pool is not None
        number = self.pool.num_replicas
        role = "" if self.pool.role == "mixed" else f" of role {self.pool.role}"
        return f"{' '.join(self.pool.name.split())}: {number:,} replica{'' if number == 1 else 's'}{role}"

    @property
    def text(self) -> str:
        """The command for a shell, with one flag per line."""
        variables = "".join(f"{name}={shlex.quote(value)} " for name, value in self.environment.items())
        lines = [
            variables + shlex.join(self.program),
            *(shlex.join([w for w in flag if w is not None]) for flag in self.flags),
        ]
        return " \\\n  ".join(lines)


def launch(deployment: Deployment, engine: str = "vllm") -> Launch:
    """The command that starts one replica of ``deployment`` in ``engine`` (vllm or sglang).

    Raises ConfigError for an unknown engine, and for a policy that the engine does not run, and DoesNotFitError where
    the engine would not start because its KV cache cannot hold a request of max_model_len.
    """
    known(engine)
    resolved = resolve(deployment)
    if resolved.pools:
        raise ConfigError("pools: a command starts one kind of replica (launch.pools.commands starts each)")
    return launched(resolved, engine)


def known(engine: str) -> None:
    """Raise ConfigError for an unknown engine."""
    if engine not in ENGINES:
        raise ConfigError(f"engine: {engine!r} is unknown; {did_you_mean(engine, ENGINES)}")


def launched(resolved: Resolved, engine: str, is_apart: bool = False) -> Launch:
    """The command of ``launch``; ``is_apart``: of replicas that prefill or decode only.

    SGLang takes these, and ranks that step together, although policy vllm_v1 is what simulates them.
    """
    if resolved.layout.planner == "fastsim":  # resolve takes blocks that are given as they are, but an engine does not
        check_longest(resolved.model, resolved.device, resolved.layout)
    policy = resolved.scheduler.policy
    as_near = policy.name == "vllm_v1" and (is_apart or resolved.data_parallel_size > 1)
    if engine not in policy.engines and not as_near:
        shown = "a function of yours" if is_function(policy.name) else repr(policy.name)
        valid = ", ".join(sorted(name for name, other in POLICIES.items() if engine in other.engines))
        raise ConfigError(f"scheduler.policy: {engine} does not run {shown} (valid: {valid})")
    program, flags, notes = ENGINES[engine](resolved)
    return Launch(
        engine,
        program,
        tuple(flags),
        (*notes, *_common_notes(resolved, is_apart)),
        resolved,
        _environment(resolved, engine),
    )


def _environment(resolved: Resolved, engine: str) -> dict[str, str]:
    """The variable that cuts the layers into the stages that were simulated, where the engine may cut otherwise."""
    layers = resolved.pipeline_layers
    as_vllm = layers == stages.cut(resolved.model.num_layers, len(layers))
    if as_vllm if engine == "vllm" else len(set(layers)) == 1:
        return {}
    return {f"{engine.upper()}_PP_LAYER_PARTITION": ",".join(map(str, layers))}


Made = tuple[tuple[str, ...], list[Flag], list[str]]


def _vllm(resolved: Resolved) -> Made:
    scheduler, chunked = resolved.scheduler, resolved.scheduler.enable_chunked_prefill
    field, tokens = scheduler.policy.token_budget, scheduler.token_budget
    if tokens is not None and tokens < scheduler.max_num_seqs:
        raise ConfigError(
            f"scheduler.{field}: vLLM refuses {tokens} tokens a batch with max_num_seqs {scheduler.max_num_seqs} "
            f"(valid: {scheduler.max_num_seqs} or more)"
        )
    if not chunked and tokens is not None and tokens < resolved.max_model_len:
        raise ConfigError(
            f"scheduler.{field}: without chunked prefill vLLM refuses {tokens} tokens a batch with max_model_len "
            f"{resolved.max_model_len} (valid: {resolved.max_model_len} or more)"
        )
    quantization, notes = _quantization(resolved)
    flags: list[Flag] = [
        ("--tensor-parallel-size", str(resolved.tensor_parallel_size)),
        ("--pipeline-parallel-size", str(resolved.pipeline_parallel_size)),
        ("--dtype", _dtype(resolved)),
        *quantization,
        *_ranks(resolved),
        ("--kv-cache-dtype", resolved.kv_cache_dtype),
        ("--max-model-len", str(resolved.max_model_len)),
        ("--gpu-memory-utilization", f"{resolved.gpu_memory_utilization:g}"),
        ("--block-size", str(scheduler.block_size)),
        ("--max-num-seqs", str(scheduler.max_num_seqs)),
        ("--max-num-batched-tokens", str(tokens)),
        ("--enable-chunked-prefill" if chunked else "--no-enable-chunked-prefill", None),
        *(_of_release(scheduler, scheduler.release) if scheduler.release else [("--no-enable-prefix-caching", None)]),
        ("--seed", str(resolved.seed % 2**32)),
    ]
    if _blocks_given(resolved):
        flags.append(("--num-gpu-blocks-override", str(resolved.memory.num_blocks + resolved.layout.null_blocks)))
    if resolved.enable_expert_parallel:
        flags.append(("--enable-expert-parallel", None))
        if resolved.all2all_backend == "deepep":
            flags.append(("--all2all-backend", "deepep_high_throughput"))
        else:
            flags.append(("--all2all-backend", "allgather_reducescatter"))
        flags += _eplb(resolved)
    if resolved.deployment.data_parallel_balancer == "external":
        notes.append("data_parallel_balancer external: start each rank by itself, with its --data-parallel-rank")
    if scheduler.release is not None:
        if scheduler.watermark:
            notes.append(f"scheduler.watermark {scheduler.watermark:g}: set it in the engine's scheduler configuration")
        return ("vllm", "serve", _model(resolved)), flags, notes
    if chunked:
        notes.append("vLLM gives tokens to requests in order of admission, not to decodes first; mostly the same")
    else:
        notes.append("the prompts-first batches of policy vllm are vLLM v0's; releases from 0.11 on mix in decodes")
    if scheduler.watermark:
        notes.append(f"scheduler.watermark {scheduler.watermark:g}: vLLM 0.19 keeps no blocks free at admission")
    return ("vllm", "serve", _model(resolved)), flags, notes


def _ranks(resolved: Resolved) -> list[Flag]:
    """The flags of data-parallel ranks that step together."""
    if resolved.data_parallel_size == 1:
        return []
    return [("--data-parallel-size", str(resolved.data_parallel_size))]


def _of_release(scheduler: Settings, release: Release) -> list[Flag]:
    """The flags of a scheduler of engine V1 whose defaults depend on the release, or that are not the default."""
    flags: list[Flag] = [(_switch("enable-prefix-caching", scheduler.enable_prefix_caching), None)]
    if scheduler.scheduling_policy != "fcfs":
        flags.append(("--scheduling-policy", scheduler.scheduling_policy))
    if release.has_async and (scheduler.async_scheduling or release.async_default):
        flags.append((_switch("async-scheduling", scheduler.async_scheduling), None))
    if scheduler.long_prefill_token_threshold:
        flags.append(("--long-prefill-token-threshold", str(scheduler.long_prefill_token_threshold)))
    if release.whole_prompt_check and not scheduler.scheduler_reserve_full_isl:
        flags.append((_switch("scheduler-reserve-full-isl", False), None))
    return flags


def _switch(name: str, on: bool) -> str:
    return f"--{name}" if on else f"--no-{name}"


def _sglang(resolved: Resolved) -> Made:
    scheduler, memory = resolved.scheduler, resolved.memory
    if scheduler.sglang is not None:
        return _of_sglang(resolved, scheduler.sglang)
    fraction = (memory.weights_gib + memory.kv_gib) / resolved.device.torch_memory_gib
    quantization, notes = _quantization(resolved)
    ranks = resolved.data_parallel_size
    flags: list[Flag] = [
        ("--tensor-parallel-size", str(resolved.tensor_parallel_size * ranks)),  # which SGLang's ranks share
        ("--pipeline-parallel-size", str(resolved.pipeline_parallel_size)),
        *([("--data-parallel-size", str(ranks)), ("--enable-dp-attention", None)] if ranks > 1 else []),
        ("--dtype", _dtype(resolved)),
        *quantization,
        ("--kv-cache-dtype", "fp8_e4m3" if resolved.kv_cache_dtype == "fp8" else resolved.kv_cache_dtype),
        ("--context-length", str(resolved.max_model_len)),
        ("--mem-fraction-static", f"{int(fraction * 1000) / 1000:g}"),
        ("--max-total-tokens", str(memory.num_blocks * scheduler.block_size)),
        ("--page-size", str(scheduler.block_size)),
        ("--max-running-requests", str(scheduler.max_num_seqs)),
    ]
    if scheduler.policy.chunked:
        flags += [("--chunked-prefill-size", str(scheduler.token_budget)), ("--enable-mixed-chunk", None)]
        notes.append("SGLang counts prompts alone in a chunk; simulated were decodes and prompts together")
    else:
        flags += [("--chunked-prefill-size", "-1"), ("--max-prefill-tokens", str(scheduler.token_budget))]
    if not scheduler.enable_prefix_caching:
        flags.append(("--disable-radix-cache", None))
    flags += [("--random-seed", str(resolved.seed % 2**32))]
    if resolved.enable_expert_parallel:
        flags += _shared_experts(resolved)
    if scheduler.watermark:
        notes.append(f"scheduler.watermark {scheduler.watermark:g}: SGLang reserves by what requests may still need")
    return ("python3", "-m", "sglang.launch_server", "--model-path", _model(resolved)), flags, notes


def _of_sglang(resolved: Resolved, own: SglangSettings) -> Made:
    """The command for policy sglang, whose settings are the engine's."""
    scheduler = resolved.scheduler
    quantization, notes = _quantization(resolved)
    flags: list[Flag] = [
        ("--tensor-parallel-size", str(resolved.tensor_parallel_size)),
        ("--dtype", _dtype(resolved)),
        *quantization,
        ("--kv-cache-dtype", "fp8_e4m3" if resolved.kv_cache_dtype == "fp8" else resolved.kv_cache_dtype),
        ("--context-length", str(resolved.max_model_len)),
        ("--mem-fraction-static", f"{resolved.gpu_memory_utilization:g}"),
        ("--page-size", str(scheduler.block_size)),
        ("--max-running-requests", str(scheduler.max_num_seqs)),
        ("--chunked-prefill-size", str(own.chunked_prefill_size or -1)),
        ("--max-prefill-tokens", str(own.max_prefill_tokens)),
        ("--schedule-policy", own.schedule_policy),
        ("--schedule-conservativeness", f"{own.schedule_conservativeness:g}"),
    ]
    for name in ("enable_mixed_chunk", "disable_radix_cache", "disable_overlap_schedule"):
        if getattr(own, name):
            flags.append((f"--{name.replace('_', '-')}", None))
    if _tokens_given(resolved):
        flags.append(("--max-total-tokens", str(resolved.memory.num_blocks * scheduler.block_size)))
    flags.append(("--random-seed", str(resolved.seed % 2**32)))
    if resolved.enable_expert_parallel:
        flags += _shared_experts(resolved)
    if own.ignore_eos:
        notes.append("scheduler.ignore_eos: clients send it with each request")
    return ("python3", "-m", "sglang.launch_server", "--model-path", _model(resolved)), flags, notes


def _eplb(resolved: Resolved) -> list[Flag]:
    """vLLM's flags for experts that are placed by what they have to do."""
    if not resolved.deployment.enable_eplb:
        return []
    config = json.dumps({"num_redundant_experts": resolved.num_redundant_experts})
    return [("--enable-eplb", None), *([("--eplb-config", config)] if resolved.num_redundant_experts else [])]


def _shared_experts(resolved: Resolved) -> list[Flag]:
    """SGLang's flags for GPUs that share the experts."""
    gpus = resolved.tensor_parallel_size * resolved.data_parallel_size
    flags: list[Flag] = [("--expert-parallel-size", str(gpus))]
    if resolved.all2all_backend == "deepep":
        flags.append(("--moe-a2a-backend", "deepep"))
    if resolved.deployment.enable_eplb:
        flags.append(("--enable-eplb", None))
    if resolved.num_redundant_experts:
        flags.append(("--ep-num-redundant-experts", str(resolved.num_redundant_experts)))
    return flags


def _tokens_given(resolved: Resolved) -> bool:
    """Whether the deployment sets another number of tokens than the planner finds."""
    deployment = resolved.deployment
    free = deployment.scheduler.model_copy(update={"max_total_num_tokens": None})
    return resolve(deployment.model_copy(update={"scheduler": free})).memory.num_blocks != resolved.memory.num_blocks


ENGINES: dict[str, Callable[[Resolved], Made]] = {"vllm": _vllm, "sglang": _sglang}


def _dtype(resolved: Resolved) -> str:
    return resolved.dtype if resolved.device.has_bf16 else "float16"


def _common_notes(resolved: Resolved, is_apart: bool) -> list[str]:
    notes = []
    if _dtype(resolved) != resolved.dtype:
        notes.append(f"dtype {resolved.dtype}: {resolved.device.name} has none; float16 has as many bytes")
    if resolved.num_replicas > 1 and not is_apart:
        notes.append(f"start {resolved.num_replicas} replicas behind a router; simulated was {resolved.router}")
    gpus = resolved.gpus_per_replica
    if gpus > resolved.node.num_devices:
        notes.append(
            f"a replica takes {gpus} GPUs and {resolved.node.name} has {resolved.node.num_devices}: join nodes"
        )
    for field, even in (("moe_imbalance", 1), ("moe_skew", 0)):
        if (value := getattr(resolved, field)) != even:
            notes.append(f"{field} {value:g}: comes of the requests; no engine can be told")
    return notes


def _model(resolved: Resolved) -> str:
    """The model's name on Hugging Face, or the folder of its config.json."""
    name = resolved.deployment.model
    if load.is_model(name):
        return name
    path = Path(name)
    return str(path.parent if path.suffix == ".json" else path)


def _quantization(resolved: Resolved) -> tuple[list[Flag], list[str]]:
    """The flag for the precision, or a note where the checkpoint itself must have that precision."""
    wanted, checkpoint = resolved.quantization, resolved.model.quantization
    published = checkpoint.name if checkpoint else "none"
    if wanted == published:
        return [], []
    if wanted in ONLINE and published == "none":
        return [("--quantization", str(wanted))], []
    return [], [f"quantization {wanted}: give the name of a checkpoint in this precision ({published} is published)"]


def _blocks_given(resolved: Resolved) -> bool:
    """Whether the deployment sets another number of KV blocks than the planner finds."""
    deployment = resolved.deployment
    free = deployment.scheduler.model_copy(update={"num_blocks": None})
    return resolve(deployment.model_copy(update={"scheduler": free})).memory.num_blocks != resolved.memory.num_blocks

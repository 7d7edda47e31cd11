"""Refuses deployments that cannot run, and warns of settings that are likely to be mistakes."""

from itertools import pairwise

from fastsim.catalog.hardware import Device, Node
from fastsim.catalog.model import Model
from fastsim.deployment import parallelism, stages
from fastsim.deployment.description import Deployment
from fastsim.deployment.memory.sizes import MemoryPlan
from fastsim.deployment.schedulers import Settings
from fastsim.deployment.sections import GIVEN_TIMES, Affine, Predictor
from fastsim.errors import ConfigError

MOST_RANKS = 1024
ROUTERS_OF_RANKS = ("round_robin", "random", "session", "pinned", "least_outstanding", "least_waiting")
BY_LENGTH = "how many KV blocks a simulation has depends on the lengths of its requests"


def check(deployment: Deployment, settings: Settings, model: Model, node: Node) -> None:
    """Raise ConfigError for fields of a deployment that contradict each other, its model or its node."""
    pipeline, policy = deployment.pipeline_parallel_size, settings.policy
    if not model.generates or all(kind.mixer != "attention" for kind, _ in model.layer_kinds()):
        raise ConfigError(
            f"model: {model.name} {model.refused}, and has no KV cache to schedule requests by; `fastsim catalog "
            "model` answers its weights and states"
        )
    if not model.num_experts:
        unused = {"enable_expert_parallel": False, "moe_imbalance": 1, "moe_skew": 0, "enable_eplb": False}
        for field, unset in (unused | {"num_redundant_experts": 0}).items():
            if getattr(deployment, field) not in (unset, None):
                raise ConfigError(
                    f"{field}: {getattr(deployment, field)} needs experts, and {model.name} has none (valid: {unset})"
                )
    _check_ranks(deployment, settings, model)
    if not deployment.enable_expert_parallel:
        if deployment.all2all_backend == "deepep":
            raise ConfigError("all2all_backend: 'deepep' needs enable_expert_parallel (valid: allgather_reducescatter)")
        if deployment.moe_imbalance not in (1, None):
            raise ConfigError(f"moe_imbalance: {deployment.moe_imbalance} needs enable_expert_parallel (valid: 1)")
        if deployment.enable_eplb:
            raise ConfigError("enable_eplb: True needs enable_expert_parallel (valid: False)")
    _check_copies(deployment, model)
    parallelism.check(model, node, deployment.tensor_parallel_size, deployment.enable_expert_parallel)
    _check_vidur(deployment, model)
    _check_affine(deployment.predictor)
    if settings.max_num_seqs < pipeline:
        raise ConfigError(
            f"scheduler.max_num_seqs: {settings.max_num_seqs} leaves pipeline stages without a request "
            f"(valid: pipeline_parallel_size {pipeline} or more)"
        )
    if policy.block_size_is_fixed and settings.block_size != policy.block_size:
        raise ConfigError(
            f"scheduler.block_size: {policy.name} cannot have {settings.block_size} (valid: {policy.block_size})"
        )
    if pipeline > 1 and not policy.pipelines:
        raise ConfigError(f"pipeline_parallel_size: {policy.name} cannot have {pipeline} (valid: 1)")


def _check_copies(deployment: Deployment, model: Model) -> None:
    """Refuse copies of experts that no GPU has room for in number, or that nothing places."""
    copies = deployment.num_redundant_experts
    if copies and not deployment.enable_eplb:
        raise ConfigError(f"num_redundant_experts: {copies} needs enable_eplb (valid: 0)")
    gpus = deployment.tensor_parallel_size * deployment.data_parallel_size
    if deployment.enable_eplb and (more := -(model.num_experts + copies) % gpus):
        raise ConfigError(
            f"num_redundant_experts: {model.num_experts} experts and {copies} copies do not divide among {gpus} GPUs "
            f"(e.g. {copies + more})"
        )


def _check_ranks(deployment: Deployment, settings: Settings, model: Model) -> None:
    """Refuse ranks that step together where they cannot, or would not."""
    ranks, tensor = deployment.data_parallel_size, deployment.tensor_parallel_size
    where = f"data_parallel_size: {ranks}"
    if ranks == 1:
        if deployment.data_parallel_balancer != "internal":
            raise ConfigError("data_parallel_balancer: 'external' needs ranks (e.g. data_parallel_size: 2)")
        return
    if settings.policy.name != "vllm_v1":
        policy = settings.policy.name
        raise ConfigError(f"{where}: policy {policy} has no ranks that step together (valid: 1; vllm_v1 has them)")
    if not model.num_experts:
        raise ConfigError(
            f"{where}: only experts make ranks step together, and {model.name} has none "
            "(valid: 1; num_replicas sets copies that share nothing)"
        )
    if deployment.pipeline_parallel_size > 1 or deployment.pipeline_layers is not None:
        raise ConfigError(f"{where}: ranks with pipeline stages are not simulated (valid: pipeline_parallel_size 1)")
    if deployment.predictor.compose == "vidur" or deployment.predictor.source.startswith("vidur"):
        raise ConfigError(f"{where}: 'vidur' has no times of ranks (valid: predictor.compose fastsim, source default)")
    width = model.num_experts if deployment.enable_expert_parallel else model.moe_intermediate_size
    if width % (ranks * tensor):
        valid = [str(size) for size in range(1, width + 1) if width % (size * tensor) == 0 and size <= MOST_RANKS]
        what = f"{width} experts" if deployment.enable_expert_parallel else f"expert intermediate size {width}"
        gpus = f"{ranks} ranks of {tensor} GPUs do" if tensor > 1 else f"{ranks} ranks do"
        raise ConfigError(f"{where}: {gpus} not divide the {what} of {model.name} (valid: {', '.join(valid)})")
    if deployment.router.policy not in ROUTERS_OF_RANKS:
        raise ConfigError(
            f"router.policy: {deployment.router.policy!r} does not look into replicas of {ranks} ranks "
            f"(valid: {', '.join(ROUTERS_OF_RANKS)})"
        )


def _check_vidur(deployment: Deployment, model: Model) -> None:
    """Refuse Vidur's formulas for experts, latent attention and quantization, for which they have no term."""
    quantization = deployment.quantization
    layers = list(deployment.pipeline_layers or stages.cut(model.num_layers, deployment.pipeline_parallel_size))
    unknown = {
        "experts": model.num_experts > 0,
        "latent attention": model.kv_lora_rank > 0,
        "linear mixers": model.linear is not None,
        f"quantization {quantization}": quantization not in (None, "none"),
        "an fp8 KV cache": deployment.kv_cache_dtype == "fp8",
    }
    why = next((name for name, present in unknown.items() if present), None)
    for field, value in (
        ("memory.planner", deployment.memory.planner),
        ("predictor.compose", deployment.predictor.compose),
        ("predictor.source", deployment.predictor.source.partition(":")[0]),
    ):
        if value == "vidur" and why is not None:
            raise ConfigError(f"{field}: 'vidur' has no term for {why} (valid: fastsim)")
        if value == "vidur" and len(set(layers)) > 1 and field != "predictor.source":
            raise ConfigError(
                f"{field}: 'vidur' knows stages of equally many layers only, not {layers} (valid: fastsim, or "
                f"pipeline_parallel_size {', '.join(map(str, parallelism.pipeline_sizes(model)))})"
            )


def _check_affine(predictor: Predictor) -> None:
    """Refuse terms that are missing, or that give some batch no time."""
    if predictor.source != "affine":
        return
    if predictor.affine is None:
        raise ConfigError("predictor.affine: missing; source affine needs its terms (e.g. {constant_ns: 2000000})")
    if predictor.compose != "fastsim":
        raise ConfigError(f"predictor.compose: {predictor.compose!r} has no affine times (valid: fastsim)")
    terms = predictor.affine
    at_tokens = terms.by_tokens_ns or ()
    if twice := next((b for (a, _), (b, _) in pairwise(at_tokens) if b <= a), None):
        raise ConfigError(
            f"predictor.affine.by_tokens_ns: {twice} tokens do not come in ascending order (e.g. [[1, 5000], [8, 0]])"
        )
    # A straight line is lowest at its ends.
    more_at_first = at_tokens[0][1] if at_tokens else 0.0
    least, tokens = min((_least_ns(terms, number) + more, number) for number, more in ((1, more_at_first), *at_tokens))
    if least < (1000 if terms.tick_s else 1e-3):
        needed = "no tick, which takes 1000 ns" if terms.tick_s else "no time"
        batch = "one token" if tokens == 1 else f"{tokens:,} tokens"
        raise ConfigError(
            f"predictor.affine: a batch of {batch} takes {least:g} ns, {needed} (e.g. constant_ns: 2000000)"
        )


def _least_ns(terms: Affine, num_tokens: int) -> float:
    """The least that a batch of so many tokens takes, those by the number of tokens left out, ns."""
    each = terms.per_token_ns + terms.per_context_token_ns
    either = min(terms.per_prefill_token_ns, terms.per_decode_ns)
    return terms.constant_ns + each * num_tokens + terms.per_sequence_ns + either


def predictor_notes(predictor: Predictor, scheduler: Settings, num_stages: int) -> list[str]:
    """A sentence where terms or kernels are given that are not used, or terms whose clock is not that of an engine."""
    kind, affine = predictor.source.partition(":")[0], predictor.affine
    unused = {
        "affine": affine is not None and kind != "affine",
        "kernels": predictor.kernels is not None and kind in GIVEN_TIMES,
    }
    notes = [
        f"predictor.{name}: changes nothing, as predictor.source is {predictor.source}"
        for name, given in unused.items()
        if given
    ]
    ticks = kind == "affine" and affine is not None and affine.tick_s is not None
    if ticks and num_stages > 1 and scheduler.async_scheduling:
        notes.append(
            "predictor.affine.tick_s: with ticks, no batch waits until the tokens that it computes have left the last "
            "stage, as in the recordings of vLLM's scheduler; without tick_s it waits, as in an engine"
        )
    return notes


def precision_notes(model: Model, quantization: str) -> list[str]:
    """A sentence where a deployment asks for another precision than that in which its checkpoint is quantised."""
    if model.quantization is None or quantization == model.quantization.name:
        return []
    published = f"{model.name} is published in {model.quantization.name}"
    return [f"quantization: {published}; {quantization} needs another checkpoint of the model"]


def warnings(
    scheduler: Settings, length: int, blocks_given: bool, model: Model, device: Device, plan: MemoryPlan
) -> list[str]:
    """One sentence for each setting that is possible and likely to be a mistake.

    ``length``: max_model_len. ``blocks_given``: whether the user gave the number of KV blocks.
    """
    sentences, limit = [], "num_blocks" if scheduler.sglang is None else "max_total_num_tokens"
    if length > model.max_position_embeddings:
        trained = model.max_position_embeddings
        sentences.append(f"max_model_len: {length} is beyond the {trained} tokens that {model.name} was made for")
    sentences += [f"model: {model.name}: {note}" for note in model.notes]
    if model.sliding_window is not None and length > model.sliding_window:
        kept = f"layers of {model.name} keep {model.sliding_window} tokens of a request"
        fitting = "" if blocks_given else f", so that {plan.kv_tokens:,} tokens of requests of {length} fit"
        sentences.append(f"model: {kept}{fitting}; {BY_LENGTH}")
    if (tokens := plan.num_blocks * scheduler.block_size) < length:
        blocks = f"{plan.num_blocks} blocks hold {tokens} tokens"
        refuses = "an engine may refuse to start" if not blocks_given else "an engine would not start with its own"
        if scheduler.sglang is not None:
            blocks, refuses = f"the KV cache holds {tokens} tokens", "SGLang refuses requests that are longer than that"
        sentences.append(f"scheduler.{limit}: {blocks}, fewer than max_model_len {length}; {refuses}")
    if scheduler.whole_prompts and scheduler.token_budget is not None and scheduler.token_budget < length:
        below = f"{scheduler.token_budget} is below max_model_len {length}"
        sentences.append(f"scheduler.{scheduler.policy.token_budget}: {below}; longer prompts can never be scheduled")
    if scheduler.policy.token_budget == "chunk_size":
        unused = scheduler.max_num_batched_tokens
        if unused not in (scheduler.chunk_size, max(4096, length)):  # the latter is what it is by default
            bound = f"policy {scheduler.policy.name} bounds a batch by chunk_size, {scheduler.chunk_size}"
            sentences.append(f"scheduler.max_num_batched_tokens: {unused} changes nothing, as {bound}")
    if blocks_given and (need := plan.kv_gib + plan.weights_gib) > device.torch_memory_gib:
        blocks = f"{plan.num_blocks} blocks and the weights are {need:.1f} GiB"
        sentences.append(f"scheduler.{limit}: {blocks}, {device.name} has {device.torch_memory_gib:g}")
    return sentences

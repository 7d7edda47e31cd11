"""What a command of vLLM leaves to its release, and what engine V0 had that no policy here has."""

from collections.abc import Collection
from typing import Any

from fastsim.catalog.load import load_model
from fastsim.deployment import engines
from fastsim.deployment.commands.command import Flag, Flags
from fastsim.deployment.commands.shell import Command, Version
from fastsim.deployment.description import Deployment
from fastsim.deployment.resolved import Resolved
from fastsim.deployment.settings import OF_VLLM_V1
from fastsim.deployment.vllm import defaults

LEFT_OUT = {  # of engine V0
    "enable_prefix_caching": "prefix caching is not simulated: every prompt is computed whole",
    "scheduling_policy": "priorities are not simulated: requests are admitted in order of arrival",
    "long_prefill_token_threshold": "a limit for the chunks of long prompts is not simulated",
}
BALANCED_BY = "least_outstanding"  # as vLLM divides requests among its data-parallel ranks


def prepared(given: Flags, started: Command | None, chosen: Collection[str]) -> None:
    """Add what variables say to the flags of a command. ``chosen``: the settings that --set gives."""
    variables = started.variables if started else {}
    if not {*given.given, *chosen} & {"all2all_backend"} and "VLLM_ALL2ALL_BACKEND" in variables:
        given.given["all2all_backend"] = Flag("VLLM_ALL2ALL_BACKEND", variables["VLLM_ALL2ALL_BACKEND"])


def completed(settings: dict[str, Any], started: Command | None, notes: list[str]) -> None:
    """Set the engine that the command starts; where that is V0, the policy and the limits that come closest."""
    named = started.release if started else None
    known = named or defaults.ASSUMED
    if not settings.get("enable_expert_parallel"):
        settings.pop("all2all_backend", None)
    if settings.get("num_replicas", 1) != 1:
        settings["router.policy"] = BALANCED_BY
    if defaults.is_v0(known, started.variables if started else {}):
        _fill_v0(settings, known, notes)
        return
    release = engines.before(known) or engines.DEFAULT
    settings["engine"] = release.name
    settings.pop("scheduler.chunk_size", None)
    if isinstance(blocks := settings.get("scheduler.num_blocks"), int) and blocks > 1:
        settings["scheduler.num_blocks"] = blocks - 1  # without vLLM's null block
    if named is not None and named[:2] > release.version:
        notes.append(f"vLLM {_text_of(named)} is newer than the releases that are known; {release.name} is taken")


def _fill_v0(settings: dict[str, Any], known: Version, notes: list[str]) -> None:
    """Set the policy that is closest to engine V0, and the limits that the command leaves open; say which ones."""
    model = load_model(settings["model"])
    chunked = settings.get("scheduler.enable_chunked_prefill") is True
    for name, sentence in LEFT_OUT.items():
        if settings.pop(f"scheduler.{name}", None) not in (None, False, 0, "fcfs"):
            notes.append(f"--{name.replace('_', '-')}: {sentence}; left out")
    for name in OF_VLLM_V1:
        settings.pop(f"scheduler.{name}", None)
    length = settings.get("max_model_len", model.max_position_embeddings)
    limits = defaults.of_v0(known, length if isinstance(length, int) else 1, chunked)
    settings["scheduler.policy"] = "sarathi" if chunked else "vllm"
    tokens = "scheduler.chunk_size" if chunked else "scheduler.max_num_batched_tokens"
    settings.pop("scheduler.max_num_batched_tokens" if chunked else "scheduler.chunk_size", None)
    taken = []
    if "scheduler.max_num_seqs" not in settings:
        most = settings.get(tokens, limits.max_num_seqs)
        settings["scheduler.max_num_seqs"] = min(limits.max_num_seqs, most) if isinstance(most, int) else most
        taken.append(f"max_num_seqs {settings['scheduler.max_num_seqs']}")
    if tokens not in settings:
        seqs = settings["scheduler.max_num_seqs"]
        settings[tokens] = max(limits.max_num_batched_tokens, seqs if isinstance(seqs, int) else 1)
        taken.append(f"max_num_batched_tokens {settings[tokens]}")
    if taken:
        notes.append(f"{' and '.join(taken)}: what vLLM {_text_of(known)} takes by default")


def limits_taken(resolved: Resolved, deployment: Deployment, named: bool) -> list[str]:
    """Say which limits the command leaves to the release, and what they are."""
    if resolved.scheduler.release is None:
        return []
    names = ("max_num_seqs", "max_num_batched_tokens")
    taken = [f"{name} {getattr(resolved.scheduler, name)}" for name in names if not getattr(deployment.scheduler, name)]
    version = _text_of(resolved.scheduler.release.version) + ("" if named else " (assumed)")
    return [f"{' and '.join(taken)}: what vLLM {version} takes on {resolved.device.name} by default"] if taken else []


def _text_of(version: Version) -> str:
    return ".".join(map(str, version))

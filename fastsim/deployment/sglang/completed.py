"""What a command of SGLang leaves to its release, and what only several of its flags say together."""

from collections.abc import Collection
from typing import Any

from fastsim.deployment.commands.command import Flags
from fastsim.deployment.commands.shell import Command, Version
from fastsim.deployment.description import Deployment
from fastsim.deployment.resolved import Resolved
from fastsim.deployment.sglang.flags import ATTENTION_RANKS
from fastsim.deployment.sglang.releases import ASSUMED, RELEASES, Release
from fastsim.errors import ConfigError
from fastsim.files.documents import short

LIMITS = ("chunked_prefill_size", "max_prefill_tokens", "max_running_requests")


def prepared(given: Flags, started: Command | None, chosen: Collection[str]) -> None:
    """Leave out flags that change nothing beside the others. ``chosen``: the settings that --set gives."""
    ranks = given.given.get("data_parallel_size")
    if "num_replicas" in chosen or ranks is None or ranks.value in (None, 1):  # attention has one rank
        for name in ATTENTION_RANKS:
            given.given.pop(name, None)


def completed(settings: dict[str, Any], started: Command | None, notes: list[str]) -> None:
    """Set the engine that the command starts, and how it divides experts. Raises ConfigError."""
    named = started.release if started else None
    release = nearest(named) if named else ASSUMED
    settings["engine"] = release.name
    if named is not None and _version(release) != named:
        notes.append(
            f"SGLang {_text_of(named)} is not among the releases that are known ({', '.join(RELEASES)}); "
            f"{release.name} is taken"
        )
    _divide_experts(settings)
    if settings.get("num_replicas", 1) == 1:
        for name in [name for name in settings if name.startswith("router.")]:
            settings.pop(name)


def _divide_experts(settings: dict[str, Any]) -> None:
    """Turn the number of GPUs that share the experts into whether all of a layer do."""
    ranks, tensor = settings.pop("enable_expert_parallel", 1), settings.get("tensor_parallel_size", 1)
    if settings.get("all2all_backend") is not None:  # SGLang then shares the experts among all
        ranks = tensor
    if ranks not in (1, tensor):
        raise ConfigError(
            f"--expert-parallel-size: {short(ranks)}: experts on some of the GPUs of a layer are not simulated "
            f"(valid: 1 or {short(tensor)}, which is --tensor-parallel-size)"
        )
    if ranks != 1 or settings.get("all2all_backend") is not None:
        settings["enable_expert_parallel"] = True


def nearest(version: Version) -> Release:
    """The newest release that is not newer than a version such as (0, 5, 12); the oldest where all are newer."""
    older = [release for release in RELEASES.values() if _version(release) <= version]
    return max(older, key=_version) if older else min(RELEASES.values(), key=_version)


def limits_taken(resolved: Resolved, deployment: Deployment, named: bool) -> list[str]:
    """Say which limits the command leaves to the release, and what they are."""
    filled, own = resolved.deployment.scheduler, resolved.scheduler.sglang
    taken = [f"{name} {getattr(filled, name)}" for name in LIMITS if getattr(deployment.scheduler, name) is None]
    if deployment.gpu_memory_utilization is None:
        taken.append(f"mem_fraction_static {resolved.gpu_memory_utilization:g}")
    if own is None or not taken:
        return []
    version = own.release.name.removeprefix("sglang-") + ("" if named else " (assumed)")
    joined = " and ".join([", ".join(taken[:-1]), taken[-1]] if len(taken) > 1 else taken)
    return [f"{joined}: what SGLang {version} takes on {resolved.device.name} by default"]


def _version(release: Release) -> Version:
    return tuple(map(int, release.name.removeprefix("sglang-").split(".")))


def _text_of(version: Version) -> str:
    return ".".join(map(str, version))

"""A deployment from a vLLM command, or from what a cluster runs it with."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastsim.catalog.load import load_model
from fastsim.deployment import engines
from fastsim.deployment.resolved import Deployment, Resolved, resolve
from fastsim.deployment.settings import OF_VLLM_V1
from fastsim.deployment.vllm import command, defaults, gpus, manifest, models, shell, words
from fastsim.deployment.vllm.command import Flag, Flags
from fastsim.deployment.vllm.flags import TAKEN
from fastsim.deployment.vllm.manifest import Container
from fastsim.errors import ConfigError, DoesNotFitError
from fastsim.files.documents import read_text, short

DEFAULT_GPU = "h100"
LEFT_OUT = {  # of engine V0
    "enable_prefix_caching": "prefix caching is not simulated: every prompt is computed whole",
    "scheduling_policy": "priorities are not simulated: requests are admitted in order of arrival",
    "long_prefill_token_threshold": "a limit for the chunks of long prompts is not simulated",
}
MAX_TEXT = 2**20  # characters
SUFFIXES = (".yaml", ".yml", ".json", ".sh", ".txt")
YAML = re.compile(r"\s*(---(\s|$)|[\w./\"'-]+:(\s|$)|- |\[(?!\w)|\{)")


@dataclass(slots=True)
class Imported:
    """A deployment, and a note for each part of its source that changes nothing or cannot be represented."""

    deployment: Deployment
    notes: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The deployment as YAML, with the fields that differ from the defaults of fastsim or were given."""
        import yaml

        return yaml.safe_dump(self.deployment.model_dump(mode="json", exclude_unset=True), sort_keys=False, width=100)


def load(source: str, gpu: str | None = None, overrides: Sequence[str] = ()) -> Imported:
    """The deployment that a vLLM command, or a manifest with such a command, describes.

    Parameters
    ----------
    source : str
        A command (``vllm serve ...``, ``docker run ... vllm/vllm-openai ...``), the text of a Kubernetes manifest, a
        Compose file, a chart's values or a file for ``vllm serve --config``, or the path of a file that holds either.
    gpu : str, optional
        The GPU. By default that of a label in the manifest, else h100.
    overrides : sequence of str
        Changes as ``Deployment.load`` takes them. By default none.

    Raises
    ------
    errors.InputError
        When the text holds no vLLM command, or describes what cannot be simulated.
    """
    text, name = _text(source)
    found, several = _container(text, name)
    if found.command is None or found.flags:
        given = command.of_mapping(found.flags)
        extra = command.parse(found.command) if found.command else Flags()
        given.given |= extra.given
        given.unknown += extra.unknown
    else:
        given = command.parse(found.command)
    notes = [f"{several} containers run vLLM; the first is taken"] if several > 1 else []
    return _imported(found, given, gpu, overrides, notes)


def _text(source: str) -> tuple[str, str]:
    """The text of a source, and the name of the file that it comes from."""
    text, name = source, "the text"
    if "\n" not in source and len(source) < 1000 and _is_file(source):
        text, name = read_text(Path(source).expanduser()), source
    if len(text) > MAX_TEXT:
        raise ConfigError(f"{name}: {len(text):,} characters, and at most {MAX_TEXT:,} are read")
    if name != source and not re.search(r"\s", source.strip()) and Path(source).suffix in SUFFIXES:
        raise ConfigError(f"{source}: no such file")
    return text, name


def _is_file(source: str) -> bool:
    try:
        return Path(source).expanduser().is_file()
    except (OSError, ValueError, RuntimeError):
        return False


def _container(text: str, name: str) -> tuple[Container, int]:
    """The container or the command that a text holds, and how many there are."""
    first = re.sub(r"\A(\s*(#.*)?\n)*", "", text)
    if YAML.match(first):
        found = manifest.containers(text, name)
        if found and {"device", "scheduler"} & found[0].flags.keys():
            raise ConfigError(f"{name}: is a deployment as it is; `fastsim simulate` takes it")
        if not found:
            raise ConfigError(f"{name}: no container runs vLLM ({shell.EXAMPLE})")
        return found[0], len(found)
    started = shell.read(text)
    if started is None and first.startswith("--"):
        started = shell.Command(tuple(shell.words_of(text)))
    if started is None:
        raise ConfigError(f"{name}: no command of vLLM in {short(text.strip())} ({shell.EXAMPLE})")
    return Container(started), 1


def _imported(found: Container, given: Flags, gpu: str | None, overrides: Sequence[str], notes: list[str]) -> Imported:
    chosen = {path.strip(): text for path, equals, text in (one.partition("=") for one in overrides) if equals}
    name, stored = models.known_as(chosen.get("model") or given.model, given, notes)
    for flag in ("quantization", "data_parallel_size"):  # what --set or the name of the model says comes before them
        if TAKEN[flag][0] in chosen or flag in chosen or (flag == "quantization" and stored is not None):
            given.given.pop(flag, None)
    device = gpu or chosen.get("device") or _device(found, notes)
    settings: dict[str, Any] = {"model": name, "device": device}
    variables = found.command.variables if found.command else {}
    if "all2all_backend" not in given.given and "VLLM_ALL2ALL_BACKEND" in variables:
        given.given["all2all_backend"] = Flag("VLLM_ALL2ALL_BACKEND", variables["VLLM_ALL2ALL_BACKEND"])
    for flag, one in given.given.items():
        settings |= _settings(flag, one, name, notes)
    notes += [f"{written}: no flag of vLLM's that is known here; left out" for written in given.unknown]
    if not settings.get("enable_expert_parallel"):
        settings.pop("all2all_backend", None)
    if load_model(name).quantization is not None:
        if settings.get("quantization") == "fp8":
            settings.pop("quantization")  # the checkpoint says which fp8
    elif stored is not None:
        settings["quantization"] = stored
    _replicas(settings, found)
    _fill(settings, found.command, notes)
    deployment = Deployment.load(_nested(settings), overrides)
    resolved = _resolved(deployment, assumed=not (gpu or chosen.get("device") or found.gpu))
    named = bool(found.command and defaults.release_of(found.command.image))
    notes += _limits_taken(resolved, deployment, named)
    _check_gpus(resolved, found, notes)
    return Imported(deployment, notes)


def _settings(flag: str, one: Flag, model: str, notes: list[str]) -> dict[str, Any]:
    """The settings of a flag by dotted name; a note where it gives none."""
    try:
        meant = words.meaning(flag, one.value, model)
    except ConfigError as problem:
        raise ConfigError(f"{one.spelling}: {problem}") from None
    if meant is None or meant.unchanged:
        notes.append(f"{one.spelling}: changes nothing that is simulated")
    elif meant.lost:
        notes.append(f"{one.spelling}: {meant.lost}; left out")
    return {} if meant is None else {path: value for path, value in meant.settings.items() if value is not None}


def _device(found: Container, notes: list[str]) -> str:
    if found.gpu:
        return gpus.product(found.gpu)
    notes.append(f"the GPU is not in the source, and {DEFAULT_GPU} is taken; --gpu names another")
    return DEFAULT_GPU


def _replicas(settings: dict[str, Any], found: Container) -> None:
    """Multiply the replicas of a manifest by the data-parallel ranks of each."""
    ranks = settings.get("num_replicas", 1)
    if ranks != 1:
        settings["router.policy"] = "least_outstanding"  # as vLLM balances its ranks
    if found.num_replicas is not None and isinstance(ranks, int):
        settings["num_replicas"] = found.num_replicas * ranks


def _fill(settings: dict[str, Any], started: shell.Command | None, notes: list[str]) -> None:
    """Set the engine that the command starts; where that is V0, the policy and the limits that come closest."""
    named = defaults.release_of(started.image) if started else None
    known = named or defaults.ASSUMED
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


def _fill_v0(settings: dict[str, Any], known: defaults.Version, notes: list[str]) -> None:
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


def _limits_taken(resolved: Resolved, deployment: Deployment, named: bool) -> list[str]:
    """Say which limits the command leaves to the release, and what they are."""
    if resolved.scheduler.release is None:
        return []
    names = ("max_num_seqs", "max_num_batched_tokens")
    taken = [f"{name} {getattr(resolved.scheduler, name)}" for name in names if not getattr(deployment.scheduler, name)]
    version = _text_of(resolved.scheduler.release.version) + ("" if named else " (assumed)")
    return [f"{' and '.join(taken)}: what vLLM {version} takes on {resolved.device.name} by default"] if taken else []


def _text_of(version: defaults.Version) -> str:
    return ".".join(map(str, version))


def _resolved(deployment: Deployment, assumed: bool) -> Resolved:
    """The deployment as it runs; if it does not fit a GPU that is ``assumed``, the error says so."""
    try:
        return resolve(deployment)
    except DoesNotFitError as problem:
        if not assumed:
            raise
        raise DoesNotFitError(f"{problem} (the source names no GPU; --gpu takes another than {DEFAULT_GPU})") from None


def _check_gpus(resolved: Resolved, found: Container, notes: list[str]) -> None:
    """Note a container that asks for other GPUs than its command uses."""
    pods = found.num_replicas or 1
    uses = resolved.num_gpus // pods
    if found.num_gpus is not None and found.num_gpus != uses:
        notes.append(f"the container asks for {found.num_gpus} GPUs, and its command uses {uses}")


def _nested(settings: dict[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for dotted, value in settings.items():
        group, _, name = dotted.rpartition(".")
        (nested.setdefault(group, {}) if group else nested)[name] = value
    return nested

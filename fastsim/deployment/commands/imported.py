"""A deployment from a command of vLLM or SGLang, or from what a cluster runs it with."""

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastsim.catalog.load import load_model
from fastsim.deployment.commands import command, gpus, manifest, models, shell
from fastsim.deployment.commands.command import Flag, Flags, Vocabulary
from fastsim.deployment.commands.manifest import Container
from fastsim.deployment.commands.meaning import Meaning
from fastsim.deployment.commands.shell import Command
from fastsim.deployment.description import Deployment
from fastsim.deployment.resolve import resolve
from fastsim.deployment.resolved import Resolved
from fastsim.deployment.sglang import completed as of_sglang
from fastsim.deployment.sglang import flags as sglang_flags
from fastsim.deployment.sglang import meaning as sglang_meaning
from fastsim.deployment.vllm import completed as of_vllm
from fastsim.deployment.vllm import flags as vllm_flags
from fastsim.deployment.vllm import words as vllm_words
from fastsim.errors import ConfigError, DoesNotFitError
from fastsim.files.documents import read_text, short

DEFAULT_GPU = "h100"
# Settings in which what --set says comes before the flags, whose values may be refused.
FIRST_BY_SET = ("quantization", "num_replicas")
MAX_TEXT = 2**20  # characters
SUFFIXES = (".yaml", ".yml", ".json", ".sh", ".txt")
YAML = re.compile(r"\s*(---(\s|$)|[\w./\"'-]+:(\s|$)|- |\[(?!\w)|\{)")


@dataclass(frozen=True, slots=True)
class Engine:
    """An engine whose commands are read: its name, its flags, and what they mean."""

    name: str
    flags: Vocabulary
    meaning: Callable[[str, Any, Any], Meaning | None]  # of a flag by its name, its value and the model
    prepared: Callable[[Flags, Command | None, Collection[str]], None]
    completed: Callable[[dict[str, Any], Command | None, list[str]], None]
    limits_taken: Callable[[Resolved, Deployment, bool], list[str]]


ENGINES = {
    "vllm": Engine("vLLM", vllm_flags, vllm_words.meaning, of_vllm.prepared, of_vllm.completed, of_vllm.limits_taken),
    "sglang": Engine(
        "SGLang",
        sglang_flags,
        sglang_meaning.meaning,
        of_sglang.prepared,
        of_sglang.completed,
        of_sglang.limits_taken,
    ),
}


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
    """The deployment that a command of vLLM or SGLang, or a manifest with such a command, describes.

    Parameters
    ----------
    source : str
        A command (``vllm serve ...``, ``python -m sglang.launch_server ...``, ``docker run ... vllm/vllm-openai ...``),
        the text of a Kubernetes manifest, a Compose file, a chart's values or a file for --config, or the path of a
        file that holds either.
    gpu : str, optional
        The GPU. By default that of a label in the manifest, else h100.
    overrides : sequence of str
        Changes as ``Deployment.load`` takes them. By default none.

    Raises
    ------
    errors.InputError
        When the text holds no such command, or describes what cannot be simulated.
    """
    text, name = _text(source)
    found, several = _container(text, name)
    engine = ENGINES[found.engine]
    if found.command is None or found.flags:
        given = command.of_mapping(found.flags, engine.flags)
        extra = command.parse(found.command, engine.flags) if found.command else Flags()
        given.given |= extra.given
        given.unknown += extra.unknown
    else:
        given = command.parse(found.command, engine.flags)
    notes = [f"{several} containers run vLLM or SGLang; the first is taken"] if several > 1 else []
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
            raise ConfigError(f"{name}: no container runs vLLM or SGLang ({shell.EXAMPLE})")
        return found[0], len(found)
    started = shell.read(text)
    if started is None and first.startswith("--"):
        words = shell.words_of(text)
        named = manifest.engine_of_flags(word.partition("=")[0] for word in words if word.startswith("-"))
        started = Command(tuple(words), engine=named or "vllm")
    if started is None:
        raise ConfigError(f"{name}: no command of vLLM or SGLang in {short(text.strip())} ({shell.EXAMPLE})")
    return Container(started, engine=started.engine), 1


def _imported(found: Container, given: Flags, gpu: str | None, overrides: Sequence[str], notes: list[str]) -> Imported:
    chosen = {path.strip(): text for path, equals, text in (one.partition("=") for one in overrides) if equals}
    name, stored = models.known_as(chosen.get("model") or given.model, given, notes)
    engine = ENGINES[found.engine]
    for flag, (path, *_) in engine.flags.TAKEN.items():  # what --set or the name of the model says comes before them
        if path in FIRST_BY_SET and ({path, flag} & {*chosen} or (path == "quantization" and stored is not None)):
            given.given.pop(flag, None)
    device = gpu or chosen.get("device") or _device(found, notes)
    settings: dict[str, Any] = {"model": name, "device": device}
    engine.prepared(given, found.command, chosen)
    for flag, one in given.given.items():
        settings |= _settings(engine, flag, one, name, notes)
    notes += [f"{written}: no flag of {engine.name}'s that is known here; left out" for written in given.unknown]
    if load_model(name).quantization is not None:
        if settings.get("quantization") == "fp8":
            settings.pop("quantization")  # the checkpoint says which fp8
    elif stored is not None:
        settings["quantization"] = stored
    engine.completed(settings, found.command, notes)
    ranks = settings.get("num_replicas", 1)
    if found.num_replicas is not None and isinstance(ranks, int):
        settings["num_replicas"] = found.num_replicas * ranks  # each pod has its data-parallel ranks
    deployment = Deployment.load(_nested(settings), overrides)
    resolved = _resolved(deployment, assumed=not (gpu or chosen.get("device") or found.gpu))
    notes += engine.limits_taken(resolved, deployment, bool(found.command and found.command.release))
    _check_gpus(resolved, found, notes)
    return Imported(deployment, notes)


def _settings(engine: Engine, flag: str, one: Flag, model: str, notes: list[str]) -> dict[str, Any]:
    """The settings of a flag by dotted name; a note where it gives none."""
    try:
        meant = engine.meaning(flag, one.value, model)
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

"""vLLM's words in a deployment: each is taken, changes nothing, or is refused in a sentence."""

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from fastsim.deployment import schedulers
from fastsim.deployment.commands.meaning import Meaning
from fastsim.deployment.vllm import flags, values
from fastsim.errors import ConfigError
from fastsim.files.documents import Document, Key, short
from fastsim.files.schema import value_of

# What other words for a policy lead to; the policies themselves are in schedulers.POLICIES.
POLICIES = (
    {
        "fcfs": "is the order in which all policies admit requests; name how batches are formed",
        "priority": "is a scheduler.scheduling_policy, of policy vllm_v1; name how batches are formed",
    }
    | dict.fromkeys(("v0", "vllm_v0", "vllm-v0"), "is called vllm")
    | dict.fromkeys(("v1", "vllm-v1"), "is called vllm_v1")
    | {"chunked_prefill": "is what vllm_v1 does by default, and sarathi always"}
)


def meaning(name: str, value: Any, model: Any) -> Meaning | None:
    """What flag ``name`` of ``flags`` means with ``value`` for a model; None if vLLM has no such flag.

    Raises ConfigError, which begins with the value, for a value that cannot be simulated.
    """
    if name == "data_parallel_size":
        return Meaning(values.data_parallel_size(value, model))
    if name in flags.TAKEN:
        return Meaning(dict.fromkeys(flags.TAKEN[name], _value(name, value, model)))
    if name in flags.LOST:
        off, sentence = flags.LOST[name]
        return Meaning() if value is None or value in off else Meaning(lost=sentence)
    if _is_eager(name, value):
        return Meaning({"enforce_eager": True})
    if name in ("task", "runner") and value not in (None, "auto", "generate"):
        raise ConfigError(f"{short(value)}: models that generate nothing are not simulated (valid: generate)")
    return Meaning(unchanged=True) if flags.is_unchanged(name) else None


def _value(name: str, value: Any, model: Any) -> Any:
    """The value of a setting, from that of its flag; None leaves it open."""
    match name:
        case "dtype":
            return values.dtype(value)
        case "kv_cache_dtype":
            return values.KV_CACHE_DTYPES.get(value, value) if isinstance(value, str) else value
        case "all2all_backend":
            return values.ALL_TO_ALL.get(value, value) if isinstance(value, str) else value
        case "quantization":
            return values.quantization(value, model)
        case "max_model_len":
            return values.max_model_len(value)
        case "generation_config":
            return "random" if value == "vllm" else None  # auto, or a folder that is not read
        case "override_generation_config":
            return values.sampling(value)
        case "eplb_config":
            return values.redundant_experts(value)
        case "data_parallel_external_lb":
            return values.balancer(value)
        case "async_scheduling" if value == "auto":
            return None
        case "model" | "scheduling_policy" | "data_parallel_balancer":
            return value
    return values.whole(value)


def _is_eager(name: str, value: Any) -> bool:
    """Whether a flag about compilation switches CUDA graphs off."""
    if name == "optimization_level":
        return value in (0, "0")
    given = values.mapping(value)
    if name != "compilation_config" or given is None:
        return name == "compilation_config" and value in (0, "0")
    mode = given.get("cudagraph_mode", given.get("use_cudagraph"))
    return mode is False or str(mode).upper() == "NONE" or (mode is None and given.get("mode", given.get("level")) == 0)


def translated(document: Document) -> Document:
    """``document`` with vLLM's words, at the top level and under ``scheduler``, replaced by the settings they set.

    Warns of words that change nothing. Raises ConfigError for a word whose value cannot be simulated, and for two
    spellings of one setting that contradict each other.
    """
    kept, lines = dict(document.values), dict(document.lines)
    if isinstance(kept.get("scheduler"), dict):
        kept["scheduler"] = dict(kept["scheduler"])
    model = document.values.get("model")
    moved: dict[Key, tuple[Any, Key]] = {}
    for key, value in _entries(document.values):
        where = document.where(key)
        settings = _settings(key, value, model, where)
        if settings is None:
            continue
        (kept if len(key) == 1 else kept["scheduler"]).pop(str(key[-1]), None)
        for dotted, new in settings.items():
            path: Key = tuple(dotted.split("."))
            before = moved.get(path)
            if before is not None and None not in (new, before[0]) and new != before[0]:
                _contradict(where, value, document.where(before[1]))
            if before is None or new is not None:
                moved[path] = (new, key)
                lines |= {path: document.lines[key]} if key in document.lines else {}
    for path, (new, key) in moved.items():
        _put(kept, path, new, document, key)
    return replace(document, values=kept, lines=lines)


def _put(kept: dict[str, Any], path: Key, new: Any, document: Document, key: Key) -> None:
    """Set the value at ``path``, which a word at ``key`` gave, unless what is there contradicts it."""
    group = kept
    for part in path[:-1]:
        if group.setdefault(str(part), {}) is None:
            group[str(part)] = {}
        group = group[str(part)]
    if not isinstance(group, dict):  # which the schema reports
        return
    name, there = str(path[-1]), group.get(str(path[-1]))
    if None not in (there, new) and there != new:
        _contradict(document.where(key), _at(document.values, key), f"{'.'.join(map(str, path))} {short(there)}")
    if there is None and (new is not None or path == key):  # null under another name leaves the setting open
        group[name] = new


def _at(given: Any, key: Key) -> Any:
    for part in key:
        given = given[part]
    return given


def _contradict(where: str, value: Any, other: str) -> None:
    raise ConfigError(f"{where}: {short(value)} contradicts {other}; keep one of them")


def _entries(given: Mapping[str, Any]) -> Iterator[tuple[Key, Any]]:
    """The keys at the top level and under ``scheduler``, with their values."""
    for key, value in given.items():
        if key == "scheduler" and isinstance(value, dict):
            yield from ((("scheduler", inner), below) for inner, below in value.items())
        else:
            yield (key,), value


def _settings(key: Key, value: Any, model: Any, where: str) -> dict[str, Any] | None:
    """The settings that a key gives if it is a word of vLLM's or has dashes; None for any other key."""
    written, prefix = str(key[-1]), ".".join(str(part) for part in key[:-1])
    name = flags.spelled(written)
    if key == ("scheduler", "policy"):
        if isinstance(value, str) and value.lower() in POLICIES:
            raise ConfigError(f"{where}: {value!r} {POLICIES[value.lower()]} (valid: {', '.join(schedulers.POLICIES)})")
        return None
    if not prefix and name in flags.ELSEWHERE:
        raise ConfigError(f"{where}: unknown key; did you mean {flags.ELSEWHERE[name]!r}?")
    if prefix and name in flags.TAKEN and not flags.TAKEN[name][0].startswith("scheduler."):
        return None
    if name == "device":  # the GPU, and not the kind of device that a flag of vLLM's names
        return None if written == name else {name: value}
    try:
        found = meaning(name, value, model)
    except ConfigError as problem:
        raise ConfigError(f"{where}: {problem}") from None
    if found is None:
        return {f"{prefix}.{name}".lstrip("."): value} if "-" in written.strip("-") else None
    if found.lost:
        raise ConfigError(f"{where}: {short(value)}: {found.lost}; leave it out")
    if found.unchanged:
        warnings.warn(f"{where}: changes nothing that is simulated", stacklevel=2)
    settings = dict(found.settings)
    own = f"{prefix}.{name}"
    return {own: settings[own]} if own in settings else settings


def translated_overrides(overrides: Sequence[str], model: Any) -> list[str]:
    """Overrides with vLLM's words replaced as in ``translated``; ``model`` is that of the file. Raises ConfigError."""
    for override in overrides:
        dotted, equals, text = override.partition("=")
        model = text if equals and dotted.strip() == "model" else model
    plain: list[str] = []
    chosen: dict[str, tuple[str, Any]] = {}  # by setting: the spelling that set it, and its value
    for override in overrides:
        dotted, equals, text = override.partition("=")
        key: Key = tuple(dotted.strip().split("."))
        settings = None
        if equals and (len(key) == 1 or key[0] == "scheduler") and len(key) <= 2:
            value = value_of(text, is_group=False)
            settings = _settings(key, value, model, f"--set {dotted.strip()}")
        if settings is None:
            plain.append(override)
            continue
        for path, new in settings.items():
            if new is None and path != dotted.strip():  # null under another name leaves the setting open
                continue
            plain.append(f"{path}={json.dumps(new)}")
            spelling, before = chosen.setdefault(path, (dotted, new))
            if spelling != dotted and before != new:
                _contradict(f"--set {dotted.strip()}", value, f"--set {spelling.strip()}")
            chosen[path] = (dotted, new)
    return plain

"""The flags of a command, read as the engine's own parser reads them."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from fastsim.deployment.commands.shell import Command, expanded
from fastsim.errors import ConfigError
from fastsim.files.documents import short
from fastsim.files.schema import value_of


class Vocabulary(Protocol):
    """The tables of an engine's flags: the modules ``vllm.flags`` and ``sglang.flags``."""

    NAMES: frozenset[str]
    TAKEN: Mapping[str, tuple[str, ...]]
    LISTS: frozenset[str]

    def spelled(self, name: str) -> str:
        """A flag as the tables have it."""

    def is_unchanged(self, name: str) -> bool:
        """Whether a flag changes nothing that is simulated."""

    def is_switch(self, name: str) -> bool:
        """Whether a flag takes no value, or at most true or false."""


@dataclass(frozen=True, slots=True)
class Flag:
    """A flag as it was written, and its value: True for a switch, None for none."""

    spelling: str
    value: Any


@dataclass(slots=True)
class Flags:
    """The flags of a command by the names of ``flags``, the model, and the words that the engine would not take."""

    model: str = ""
    given: dict[str, Flag] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)  # as they were written


def parse(command: Command, flags: Vocabulary) -> Flags:
    """Read the flags of a command.

    Raises ConfigError for a flag without its value, a variable whose value is not in the text, and two values of one
    setting.
    """
    found = Flags()
    words = [expanded(word, command.variables) for word in command.words]
    index = 0
    while index < len(words):
        word = words[index]
        index += 1
        if not _is_flag(word):
            if word.startswith("$") and not found.model:
                raise ConfigError(f"the model is {short(word)}, and its value is not in the text; write its name")
            found.model, found.unknown = found.model or word, found.unknown + ([word] if found.model else [])
            continue
        written, equals, text = word.partition("=")
        name, negated = _name(written, flags)
        if re.fullmatch(r"-O\d", word):
            name, equals, text = "optimization_level", "=", word[2:]
        values = [text] if equals else list(_values(name, negated, words[index:], flags))
        index += 0 if equals else len(values)
        if name.partition(".")[0] not in flags.NAMES and not flags.is_unchanged(name.partition(".")[0]):
            found.unknown.append(written)
        else:
            _add(found, name, Flag(written, _value(written, name, negated, values, flags)), flags)
    _take_model(found)
    return found


def of_mapping(given: Mapping[str, Any], flags: Vocabulary) -> Flags:
    """The flags of a file as an engine's --config reads it."""
    found = Flags()
    for key, value in given.items():
        name = flags.spelled(str(key))
        if name in flags.NAMES or flags.is_unchanged(name):
            _add(found, name, Flag(str(key), value), flags)
        else:
            found.unknown.append(str(key))
    _take_model(found)
    return found


def _take_model(found: Flags) -> None:
    for name in ("model_id", "model"):
        if name in found.given:
            found.model = str(found.given.pop(name).value)


def _is_flag(word: str) -> bool:
    return word.startswith("-") and not re.match(r"-[\d.]", word) and word != "-"


def _name(written: str, flags: Vocabulary) -> tuple[str, bool]:
    """The name of a flag in the tables, as far as it is there, and whether it is negated (--no-...)."""
    name = flags.spelled(written)
    if name.startswith("no_") and name[3:] in flags.NAMES:
        return name[3:], True
    if "." in name:
        head, _, rest = name.partition(".")
        return f"{flags.spelled('-' + head)}.{rest}", False
    if name not in flags.NAMES and written.startswith("--") and len(name) > 3:
        longer = {flags.spelled(other) for other in flags.NAMES if other.startswith(name)}  # engines take abbreviations
        return (longer.pop() if len(longer) == 1 else name), False
    return name, False


def _values(name: str, negated: bool, words: Sequence[str], flags: Vocabulary) -> Iterator[str]:
    """The words after a flag that are its value."""
    if negated:
        return
    for word in words:
        switch = flags.is_switch(name)
        if _is_flag(word) or (switch and word.lower() not in ("true", "false")):
            return
        yield word
        if name not in flags.LISTS:
            return


def _value(written: str, name: str, negated: bool, values: Sequence[str], flags: Vocabulary) -> Any:
    if negated:
        return False
    if not values:
        if name in flags.TAKEN and not flags.is_switch(name):
            raise ConfigError(f"{written}: no value")
        return True
    if len(values) > 1:
        return list(values)
    if "$" in values[0] and name in flags.TAKEN:
        raise ConfigError(f"{written}: the value of {short(values[0])} is not in the text; write it")
    if values[0] in ("None", "none", ""):
        return None
    if name in ("model", "model_id", "hf_config_path"):
        return values[0]
    if values[0].lower() in ("true", "false"):
        return values[0].lower() == "true"
    return value_of(values[0], is_group=name.endswith("_config"))


def _add(found: Flags, name: str, flag: Flag, flags: Vocabulary) -> None:
    head, _, inner = name.partition(".")
    if inner:  # --compilation-config.cudagraph_mode NONE
        before = found.given.get(head)
        held = before.value if before is not None and isinstance(before.value, dict) else {}
        found.given[head] = Flag(flag.spelling.partition(".")[0], held | {inner: flag.value})
        return
    before = found.given.get(head)
    if before is not None and head in flags.TAKEN and before.value != flag.value:
        raise ConfigError(f"{flag.spelling}: {short(flag.value)} contradicts {before.spelling} {short(before.value)}")
    found.given[head] = flag

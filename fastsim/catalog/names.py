"""Names of models: which model of the catalog a name that it lacks may mean.

A name has words (its family), versions and sizes: Llama-3.3-70B-Instruct is llama, 3.3, 70b. Another version or size is
another model, so a name is suggested only where all of them agree. Otherwise models of the same family are listed.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import lru_cache

from fastsim.errors import likeness

LISTED = 4
# Words that say how a model was trained, and who published it: the shapes are the same without them.
PLAIN = ("instruct", "chat", "hf", "it", "base", "meta", "model", "thinking", "preview", "quantized", "dynamic")
# Words that say in which precision a checkpoint is stored, and the precision; the first in a name counts.
STORED = {
    "gptq_int8": "int8_wo",
    "w8a8": "int8",
    "w8a16": "int8_wo",
    "w4a16": "int4_wo",
    "awq": "int4_wo",
    "gptq": "int4_wo",
    "int4": "int4_wo",
    "int8": "int8",
    "nvfp4": "nvfp4",
    "mxfp4": "mxfp4",
    "fp4": "nvfp4",
    "fp8": "fp8",
    "bnb": "nf4",
    "4bit": "nf4",
    "bf16": "none",
    "fp16": "none",
}
SIZE = re.compile(r"a?\d+(\.\d+)?[bm]|\d+x\d+(\.\d+)?b|\d+e")


@dataclass(frozen=True, slots=True)
class Parts:
    """The words, versions and sizes of a name, in the order in which they stand, and the precision that it names."""

    family: tuple[str, ...]
    versions: tuple[str, ...]
    sizes: tuple[str, ...]
    stored: str | None = None

    @property
    def shape(self) -> tuple[tuple[str, ...], ...]:
        """What two names of the same shapes have in common."""
        return self.family, self.versions, self.sizes


@lru_cache(4096)
def parts(name: str) -> Parts:
    """Split the name of a model, without its organisation, into words, versions and sizes."""
    family, versions, sizes, stored = [], [], [], []
    plain = name[:200].lower().rpartition("/")[2].replace("quantized.", "").replace("gptq-int8", "gptq_int8")
    for token in re.split(r"[\s:-]+|_(?!int8)", plain):
        if token in STORED:
            stored.append(STORED[token])
            continue
        if SIZE.fullmatch(token):
            sizes.append(token)
            continue
        letters = re.fullmatch(r"([a-z]*)(.*)", token)
        word, number = letters.groups() if letters else ("", token)
        if number:
            versions.append(number)
        if word and not (number and word == "v") and not _is_plain(word):
            family.append(word)
    return Parts(tuple(family), tuple(versions), tuple(sizes), stored[0] if stored else None)


def same_shape(name: str, spellings: Mapping[str, str]) -> tuple[str, str | None] | None:
    """The entry of the catalog with the words, versions and sizes of ``name``, and the precision that ``name`` adds.

    ``spellings`` maps names and aliases to entries. An entry in that precision adds none. None if no entry, or more
    than one, agrees.
    """
    wanted = parts(name)
    alike = {one: entry for one, entry in spellings.items() if wanted.family and parts(one).shape == wanted.shape}
    for stored in dict.fromkeys((wanted.stored, None)):
        found = {entry for spelling, entry in alike.items() if parts(spelling).stored == stored}
        if len(found) > 1:  # base and instruct are entries of their own
            found = {entry for entry in found if ("instruct" in entry.lower()) == ("instruct" in name.lower())}
        if found:
            return (found.pop(), wanted.stored if stored is None else None) if len(found) == 1 else None
    return None


def suggestion(name: str, spellings: Mapping[str, str]) -> str:
    """Say which model of the catalog was meant, or which ones of the same family it has.

    ``spellings`` maps names and aliases to entries.
    """
    whole, wanted = "/" in name, parts(name)
    entries = {spelling: parts(spelling) for spelling in spellings}
    known = any(have.family == wanted.family for have in entries.values())
    related = []
    for spelling, have in entries.items():
        same = have.family == wanted.family if known else _misspelt(wanted.family, have.family)
        if same or _branch(wanted.family, have.family):
            stored = have.stored in (None, wanted.stored)
            agree = (same and stored, wanted.sizes == have.sizes, wanted.versions == have.versions)
            release = _release(wanted) == _release(have), -_apart(wanted, have)
            like = SequenceMatcher(None, name[:200].lower(), spelling.lower()).ratio()
            related.append((all(agree), *agree, *release, have.stored == wanted.stored, like, spelling))
    related.sort(reverse=True)
    if not related:
        return "`fastsim catalog models` lists what the catalog has"
    if related[0][0]:
        meant = related[0][-1]
        adds = wanted.stored is not None and entries[meant].stored is None
        return f"did you mean {_shown(meant, whole)!r}{f' with quantization {wanted.stored}' if adds else ''}?"
    listed = list(dict.fromkeys(spellings[entry[-1]] for entry in related))[:LISTED]
    return "of this family the catalog has " + ", ".join(repr(_shown(entry, whole)) for entry in listed)


def _shown(entry: str, whole: bool) -> str:
    return entry if whole else entry.rpartition("/")[2]


def _is_plain(word: str) -> bool:
    """Whether a word is one of PLAIN, or a longer one of them with a slip."""
    near = (other for other in PLAIN if len(other) > 4 and other[0] == word[0] and abs(len(other) - len(word)) <= 2)
    return word in PLAIN or any(likeness(word, other) for other in near)


def _misspelt(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """Whether two families differ in slips of spelling only."""
    return bool(one) and len(one) == len(other) and all(likeness(a, b) for a, b in zip(one, other, strict=True))


def _branch(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """Whether one family is a branch of the other, which has one word more: mistral and mistral nemo."""
    short, long = sorted((one, other), key=len)
    return bool(short) and len(long) == len(short) + 1 and long[: len(short)] == short


def _apart(one: Parts, other: Parts) -> float:
    """How far the first versions of two names are apart: 0.1 for 3.2 and 3.3."""
    numbers = [re.match(r"\d+(\.\d+)?", name.versions[0]) if name.versions else None for name in (one, other)]
    first, second = (float(found[0]) if found else 0.0 for found in numbers)
    return round(abs(first - second), 6)


def _release(name: Parts) -> str:
    """The first number of the first version: 3 of 3.1."""
    return name.versions[0].partition(".")[0] if name.versions else ""

"""Names of models: which model of the catalog a name that it lacks may mean.

A name has words (its family), versions and sizes: Llama-3.3-70B-Instruct is llama, 3.3, 70b. Another version or size is
another model, so a name is suggested only where all of them agree. Otherwise models of the same family are listed.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import SequenceMatcher

from fastsim.errors import likeness

LISTED = 4
# Words that say how a model was trained or is stored, and who published it: the shapes are the same without them.
PLAIN = ("instruct", "chat", "hf", "it", "base", "meta", "model", "thinking", "preview")
SIZE = re.compile(r"a?\d+(\.\d+)?[bm]|\d+x\d+(\.\d+)?b|\d+e")


@dataclass(frozen=True, slots=True)
class Parts:
    """The words, versions and sizes of a name, in the order in which they stand."""

    family: tuple[str, ...]
    versions: tuple[str, ...]
    sizes: tuple[str, ...]


def parts(name: str) -> Parts:
    """Split the name of a model, without its organisation, into words, versions and sizes."""
    family, versions, sizes = [], [], []
    for token in re.split(r"[\s_:-]+", name[:200].lower().rpartition("/")[2]):
        letters = re.fullmatch(r"([a-z]*)(.*)", token)
        word, number = letters.groups() if letters else ("", token)
        if SIZE.fullmatch(token):
            sizes.append(token)
            continue
        if number:
            versions.append(number)
        if word and not (number and word == "v") and not any(likeness(word, plain) for plain in PLAIN):
            family.append(word)
    return Parts(tuple(family), tuple(versions), tuple(sizes))


def suggestion(name: str, catalog: Iterable[str]) -> str:
    """Say which model of the catalog was meant, or which ones of the same family it has."""
    whole, wanted = "/" in name, parts(name)
    entries = {entry: parts(entry) for entry in catalog}
    known = any(have.family == wanted.family for have in entries.values())
    related = []
    for entry, have in entries.items():
        same = have.family == wanted.family if known else _misspelt(wanted.family, have.family)
        if same or _branch(wanted.family, have.family):
            agree = (same, wanted.sizes == have.sizes, wanted.versions == have.versions)
            release = _release(wanted) == _release(have)
            spelling = SequenceMatcher(None, name[:200].lower(), entry.lower()).ratio()
            shown = entry if whole else entry.rpartition("/")[2]
            related.append((all(agree), *agree, release, spelling, shown))
    related.sort(reverse=True)
    if not related:
        return "`fastsim catalog models` lists what the catalog has"
    if related[0][0]:
        return f"did you mean {related[0][-1]!r}?"
    return "of this family the catalog has " + ", ".join(repr(entry[-1]) for entry in related[:LISTED])


def _misspelt(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """Whether two families differ in slips of spelling only."""
    return bool(one) and len(one) == len(other) and all(likeness(a, b) for a, b in zip(one, other, strict=True))


def _branch(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """Whether one family is a branch of the other, which has one word more: mistral and mistral nemo."""
    short, long = sorted((one, other), key=len)
    return bool(short) and len(long) == len(short) + 1 and long[: len(short)] == short


def _release(name: Parts) -> str:
    """The first number of the first version: 3 of 3.1."""
    return name.versions[0].partition(".")[0] if name.versions else ""

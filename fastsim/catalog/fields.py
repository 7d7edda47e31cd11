"""Looks up the fields of a configuration, which have several spellings, and says what is wrong with them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastsim.errors import CatalogError
from fastsim.files.documents import short

LARGEST = 2**31  # of a size


@dataclass(frozen=True, slots=True)
class Fields:
    """The fields of a decoder, with the defaults of its class.

    Attributes
    ----------
    file : the config.json.
    stated : the fields that the file states; errors call them by ``prefix`` and their name.
    defaults : what the class of the model says where the file does not.
    prefix : the path of the decoder in the file, such as ``text_config.``; empty at the top level.
    kind : the model_type, in lower case.
    """

    file: Path
    stated: Mapping[str, Any]
    defaults: Mapping[str, Any]
    prefix: str
    kind: str

    def get(self, *names: str) -> Any:
        """The first of these fields that is stated and not null, else the first default of its class, else None."""
        for values in (self.stated, self.defaults):
            for name in names:
                if values.get(name) is not None:
                    return values[name]
        return None

    def spelling(self, *names: str) -> str:
        """The first of these fields that is stated and not null; the first of all where none is."""
        return next((name for name in names if self.stated.get(name) is not None), names[0])

    def size(self, *names: str) -> int | None:
        """A positive whole number by one of its spellings; None where no spelling is stated. Raises CatalogError."""
        value = self.get(*names)
        if value is None:
            return None
        if not is_whole(value) or not 0 < value < LARGEST:
            raise self.fault(self.spelling(*names), "is not a positive integer (e.g. 4096)")
        return int(value)

    def whole(self, *names: str) -> int:
        """A whole number from 0; 0 where no spelling is stated. Raises CatalogError."""
        value = self.get(*names)
        if value is None:
            return 0
        if not is_whole(value) or not 0 <= value < LARGEST:
            raise self.fault(self.spelling(*names), "is not a whole number (e.g. 0)")
        return int(value)

    def optional(self, *names: str) -> int | None:
        """A whole number by one of its spellings; None where no spelling is stated, or where it is 0."""
        return self.whole(*names) or None

    def required(self, *names: str, why: str = "the config.json of a decoder needs it") -> int:
        """A size that must be stated. Raises CatalogError."""
        value = self.size(*names)
        if value is None:
            raise CatalogError(f"{self.file}: {self.prefix}{names[0]}: missing; {why}")
        return value

    def whole_numbers(self, *names: str) -> list[int] | None:
        """A list of whole numbers; None where it is not stated. Raises CatalogError for anything else."""
        value = self.get(*names)
        if value is None:
            return None
        if not isinstance(value, list) or not all(is_whole(one) and 0 <= one < LARGEST for one in value):
            raise self.fault(self.spelling(*names), "is not a list of whole numbers (e.g. [0, 1])")
        return value

    def of_each_layer(self, name: str) -> list[int] | None:
        """A list of whole numbers, one for each layer; None where the field is a number for all of them."""
        return self.whole_numbers(name) if isinstance(self.get(name), list) else None

    def inner(self, *names: str) -> "Fields":
        """The fields of an object within this one; without any where it is not stated."""
        name = self.spelling(*names)
        value = self.get(name)
        stated = value if isinstance(value, dict) else {}
        return Fields(self.file, stated, {}, f"{self.prefix}{name}.", self.kind)

    def fault(self, name: str, why: str, value: object = None) -> CatalogError:
        """What is wrong with a field, whose value is shown."""
        shown = self.get(name) if value is None else value
        return CatalogError(f"{self.file}: {self.prefix}{name}: {short(shown)} {why}")


def is_whole(value: object) -> bool:
    """Whether a value of a document is a whole number; true and false are none."""
    return isinstance(value, int) and not isinstance(value, bool)

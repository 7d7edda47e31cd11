"""The table that a file of requests is read into, and what messages say of its columns."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING

from fastsim.errors import WorkloadError
from fastsim.workload.layouts import LAYOUTS, MORE, VIDUR, Layout, recognise
from fastsim.workload.origin import Origin

if TYPE_CHECKING:
    import pyarrow as pa

LISTED = 12  # columns that a message lists


@dataclass(frozen=True)
class Table:
    """The columns of a file that a layout has, and what messages say of the file."""

    place: str  # what messages call the file
    layout: Layout
    columns: "pa.Table"
    names: list[str]  # of all columns of the file, or the first of them
    failed: int = 0  # requests that the file has apart from its rows, as they failed
    block_size: int | None = None  # tokens, where the file says it
    recorded: tuple[str, Origin] | None = None  # the digest and origin of a result's requests

    def find(self, column: str) -> str:
        """The name that a column has in the file. Raises WorkloadError when it has none."""
        names = self.layout.column(column)
        for name in names:
            if name in self.columns.column_names:
                return name
        near = [match for name in names for match in get_close_matches(name, self.names, n=1, cutoff=0.7)]
        hint = f"; rename {near[0]!r}?" if near else ""
        if column == "arrived_at" and not near:
            hint = "; lengths alone can be drawn from, with lengths: {kind: trace, file: ...} in a description"
        elif not near and self.layout is VIDUR:
            hint = f"; layouts that are known: {', '.join(layout.name for layout in LAYOUTS[:-1])}"
        missing = " or ".join(names) or column
        raise WorkloadError(f"{self.place}: column {missing} is missing from {listed(self.names)}{hint}")


def listed(names: list[str]) -> str:
    """The names of columns as a message lists them."""
    return ", ".join(map(short, names[:LISTED])) + (", ..." if len(names) > LISTED else "")


def short(value: object) -> str:
    """A value as messages show it."""
    text = repr(value[:100].strip() if isinstance(value, str) else value)
    return text if len(text) <= 60 else text[:57] + "..."


def layout_of(names: Iterable[str]) -> Layout:
    """The layout of a file with these columns; for a file whose layout is not known, that with the usual names."""
    return recognise(set(names).__contains__) or VIDUR


def wanted(layout: Layout, names: list[str], place: str) -> list[str]:
    """The columns of a file that are read. Raises WorkloadError if one of them is there twice."""
    counted = Counter(names)
    found = [name for name in dict.fromkeys((*layout.names, *MORE)) if name in counted]
    for name in found:
        if counted[name] > 1:
            raise WorkloadError(f"{place}: column {name} is there {counted[name]} times; keep one")
    return found

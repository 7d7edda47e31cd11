"""Reading Parquet tables, whole."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from fastsim.errors import InputError, first_line
from fastsim.files.documents import unreadable

if TYPE_CHECKING:
    import pyarrow as pa


def read_parquet(path: Path, error: type[InputError], remedy: str = "") -> "pa.Table":
    """Read a Parquet file, in which no two columns have one name.

    Raises ``error`` with the file and the reason if it cannot be read; ``remedy`` ends the sentence.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    end = f"; {remedy}" if remedy else ""
    try:
        if why := unreadable(path):
            raise error(f"{path}: {why}")
        table = pq.read_table(path.absolute())  # a relative name with a colon would be an address
        table.validate(full=True)
    except (OSError, ValueError, pa.ArrowException) as problem:
        raise error(f"{path}: cannot be read as Parquet ({first_line(problem)}){end}") from None
    for name, times in Counter(table.column_names).items():
        if times > 1:
            raise error(f"{path}: column {name!r} is there {times} times; keep one")
    return table

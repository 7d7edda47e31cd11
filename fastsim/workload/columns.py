"""Columns of a table as arrays; errors name the first cell that is not what the column needs."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastsim.errors import WorkloadError
from fastsim.workload.checks import TRUTH, Rows, row_number
from fastsim.workload.csv_files import date_type
from fastsim.workload.tables import Table, short

if TYPE_CHECKING:
    import pyarrow as pa

WORDS = {"true": True, "1": True, "false": False, "0": False, "nan": None}  # where a column is text


def some(table: Table, name: str, rows: Rows, may_lack: bool = False) -> Any:
    """Some rows of a column. Raises WorkloadError at the first cell that is empty, unless cells ``may_lack``."""
    column = table.columns[name]
    if rows is not None:
        column = column.take(rows)
    if column.null_count and may_lack and is_text(column.type):
        return column.fill_null("nan")
    if column.null_count and not may_lack:
        if is_text(column.type):
            raise _not_a_number(column, table.place, name, rows)
        row = int(np.flatnonzero(column.is_null().to_numpy())[0])
        where = f"{table.place}: data row {row_number(row, rows)}: {name}"
        raise WorkloadError(f"{where}: an empty cell is not a number (e.g. 512)")
    return column


def numbers(table: Table, name: str, rows: Rows) -> NDArray[Any]:
    """Some rows of a column as numbers. Raises WorkloadError at the first cell that is not a number."""
    return as_numbers(some(table, name, rows), table.place, name, rows)


def as_numbers(column: Any, place: str, name: str, rows: Rows) -> NDArray[Any]:
    if is_number(column.type):
        values: NDArray[Any] = column.to_numpy() if not column.null_count else column.cast("float64").to_numpy()
        return values
    if not column.type.id:  # of type null, where all cells are empty
        return np.full(len(column), np.nan)
    raise _not_a_number(column, place, name, rows)


def truths(column: Any, lacking: NDArray[np.bool_], place: str, name: str, rows: Rows) -> NDArray[Any]:
    """A column of true or false, or of numbers, with what ``lacking``, bool[n], says in place of empty cells."""
    import pyarrow as pa

    if is_text(column.type):
        texts = [text.strip().lower() for text in column.to_pylist()]
        bad = next((row for row, text in enumerate(texts) if text not in WORDS), None)
        if bad is not None:
            where = f"{place}: data row {row_number(bad, rows)}: {name}"
            raise WorkloadError(f"{where}: {short(column[bad].as_py())} is not {TRUTH}")
        column = pa.array([WORDS[text] for text in texts])
    if not (pa.types.is_boolean(column.type) or is_number(column.type)):
        raise WorkloadError(f"{place}: column {name}: values of type {column.type} are not {TRUTH}")
    empty = column.is_null().to_numpy(zero_copy_only=False)
    return np.where(empty, lacking, column.fill_null(pa.scalar(0).cast(column.type)).to_numpy(zero_copy_only=False))


def _not_a_number(column: Any, place: str, name: str, rows: Rows, valid: str = "a number (e.g. 512)") -> WorkloadError:
    """Return the error for the first cell that is not a number."""
    import pyarrow as pa

    if not is_text(column.type):
        return WorkloadError(f"{place}: column {name}: values of type {column.type} are not numbers (e.g. 512)")
    first = 0  # in Parquet, all cells may be numbers that are stored as text
    for row, cell in enumerate(column.to_pylist()):
        try:
            pa.scalar("empty" if cell is None else cell.strip()).cast(pa.float64())
        except pa.ArrowInvalid:
            first = row
            break
    text = column[first].as_py()
    shown = "an empty cell" if text is None else short(text)
    return WorkloadError(f"{place}: data row {row_number(first, rows)}: {name}: {shown} is not {valid}")


def dates(column: Any, place: str, name: str, rows: Rows) -> Any:
    """Texts as dates and times. Raises WorkloadError at the first that is none, or that differs in its time zone."""
    import pyarrow as pa

    texts = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    kind = date_type(texts[0].as_py())
    if kind is None:
        valid = "a number (e.g. 0.25) or a date and time (e.g. 2023-11-16 18:15:46.68)"
        raise _not_a_number(texts, place, name, rows, valid)
    try:
        return texts.cast(kind)
    except pa.ArrowInvalid:
        good, bad = 0, len(texts)  # so many texts are dates, and among so many is one that is none
        while bad - good > 1:
            middle = (good + bad) // 2
            try:
                texts[good:middle].cast(kind)
                good = middle
            except pa.ArrowInvalid:
                bad = middle
    zone = "with" if kind.tz else "without"
    raise WorkloadError(
        f"{place}: data row {row_number(good, rows)}: {name}: {short(texts[good].as_py())} is not a date and time "
        f"{zone} a time zone, as {short(texts[0].as_py())} is"
    )


def is_number(kind: "pa.DataType") -> bool:
    import pyarrow as pa

    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def is_text(kind: "pa.DataType") -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))

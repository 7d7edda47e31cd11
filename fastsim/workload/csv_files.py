"""Reads CSV files of requests."""

import csv as lines
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fastsim.errors import WorkloadError
from fastsim.workload.layouts import Layout
from fastsim.workload.tables import Table, layout_of, short, wanted

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow import csv

SCANNED = 2**18  # bytes that are searched at once


def read(place: str, head: bytes, data: bytes | None) -> Table:
    """Read CSV. Only an empty cell counts as missing: nan is a number, and NA and 0x10 are text.

    ``head``: the beginning of the file; ``data``: all of it where it is no file. Raises WorkloadError,
    UnicodeDecodeError and the errors of pyarrow.
    """
    import pyarrow as pa
    from pyarrow import csv

    names, cells = _first_rows(head)
    layout = layout_of(names)
    found = [name for name in wanted(layout, names, place) if name != layout.hashes]  # CSV has no lists
    numbers, integers = _numbers(layout, names, cells), _integers(layout, names, cells, place, data)
    for kinds in (numbers | integers, numbers) if integers else (numbers,):
        with suppress(pa.ArrowInvalid):
            columns = _with_integers(csv.read_csv(_source(place, data), convert_options=_convert(kinds, found)), layout)
            break
    else:
        columns = _by_row(place, data, found)
    return Table(place, layout, columns, names or columns.column_names)


def _source(place: str, data: bytes | None) -> Any:
    # A relative name with a colon would be the address of a file system.
    return Path(place).absolute() if data is None else BytesIO(data)


def _convert(kinds: "dict[str, pa.DataType]", found: list[str]) -> "csv.ConvertOptions":
    from pyarrow import csv

    return csv.ConvertOptions(
        null_values=[""], strings_can_be_null=True, column_types=kinds, include_columns=found or None
    )


def _by_row(place: str, data: bytes | None, found: list[str]) -> "pa.Table":
    """Read CSV with cells that are no numbers. Raises WorkloadError at the first row with too many or too few cells."""
    import pyarrow as pa
    from pyarrow import csv

    uneven: list[Any] = []

    def note(row: Any) -> Literal["skip"]:
        uneven.append(row)
        return "skip"

    (Path(place).read_bytes() if data is None else data).decode()  # rows that are noted must be text
    # Row numbers are known only when a single thread reads.
    reading, parsing = csv.ReadOptions(use_threads=False), csv.ParseOptions(invalid_row_handler=note)
    columns = csv.read_csv(_source(place, data), reading, parsing, _convert({}, found))
    if uneven:
        raise WorkloadError(
            f"{place}: data row {uneven[0].number - 1}: {uneven[0].actual_columns} cells, where the header has "
            f"{uneven[0].expected_columns}: {short(uneven[0].text)}"
        )
    texts = _convert(dict.fromkeys(columns.column_names, pa.string()), found)
    return _without_hexadecimals(columns, csv.read_csv(_source(place, data), convert_options=texts))


def _first_rows(head: bytes) -> tuple[list[str], list[str]]:
    """The cells of the header and of the first row; none of a row that does not end within ``head``."""
    rows = [row for row in head.removeprefix(b"\xef\xbb\xbf").splitlines(keepends=True) if row.strip()][:2]
    cells: list[list[str]] = [[], []]
    for at, row in enumerate(rows):
        if len(row) < len(head) or at == 1:
            with suppress(lines.Error):
                cells[at] = next(lines.reader([row.decode(errors="strict" if at == 0 else "replace")]), [])
    return cells[0], cells[1]


def _numbers(layout: Layout, names: list[str], cells: list[str]) -> "dict[str, pa.DataType]":
    """The types of columns: numbers, or dates and times where the first row has one."""
    import pyarrow as pa

    kinds = dict.fromkeys((*layout.names, "replica_id", "think_time", "priority", "max_tokens"), pa.float64())
    kinds["tenant"], kinds["ends_by_stop"] = pa.string(), pa.bool_()
    for name, cell in zip(names, cells, strict=False):
        if name in layout.arrived_at and (kind := date_type(cell)):
            kinds[name] = kind
    return kinds


def _integers(
    layout: Layout, names: list[str], cells: list[str], place: str, data: bytes | None
) -> "dict[str, pa.DataType]":
    """The columns that are read as integers: those with a whole number in the first row, which saves a conversion.

    There are none where a row has an x, as pyarrow would read hexadecimal integers too.
    """
    import pyarrow as pa

    whole = {*layout.num_prompt_tokens, *layout.num_output_tokens, "replica_id", "priority", "max_tokens"}
    found = [name for name, cell in zip(names, cells, strict=False) if name in whole and cell.strip().isdecimal()]
    with Path(place).open("rb") if data is None else BytesIO(data) as file:
        file.readline()
        if found and any(b"x" in part or b"X" in part for part in iter(lambda: file.read(SCANNED), b"")):
            return {}
    return dict.fromkeys(found, pa.int64())


def date_type(text: str) -> "pa.DataType | None":
    """The type of dates that are written like this one, with or without a time zone; None for anything else."""
    with suppress(ValueError):
        float(text)
        return None  # without a cast, for which pyarrow imports as much as for all the rest

    import pyarrow as pa

    for kind in (pa.timestamp("ns"), pa.timestamp("ns", "UTC")):
        with suppress(pa.ArrowInvalid):
            pa.scalar(text).cast(kind)
            return kind
    return None


def _with_integers(table: "pa.Table", layout: Layout) -> "pa.Table":
    """Return the table with columns of whole numbers as integers, which messages show as they are written."""
    import pyarrow as pa

    for index, name in enumerate(table.column_names):
        if name not in layout.arrived_at and pa.types.is_float64(table.schema.types[index]):
            with suppress(pa.ArrowInvalid):
                table = table.set_column(index, name, table.column(index).cast(pa.int64()))
    return table


def _without_hexadecimals(table: "pa.Table", texts: "pa.Table") -> "pa.Table":
    """Return the table with the columns of texts in place of those of integers that are not decimal."""
    import pyarrow as pa

    for index, name in enumerate(table.column_names):
        if pa.types.is_integer(table.schema.types[index]) and pa.types.is_string(texts.schema.types[index]):
            try:
                texts.column(index).cast(pa.float64())
            except pa.ArrowInvalid:
                table = table.set_column(index, name, texts.column(index))
    return table

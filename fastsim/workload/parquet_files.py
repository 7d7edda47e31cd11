"""Reads Parquet files of requests."""

from pathlib import Path
from typing import TYPE_CHECKING

from fastsim.errors import WorkloadError
from fastsim.files.memory import check_memory
from fastsim.workload.origin import recorded
from fastsim.workload.tables import Table, layout_of, short, wanted

if TYPE_CHECKING:
    import pyarrow as pa

PER_VALUE = 20  # bytes of memory while a value is read


def read(path: str, head: bytes) -> Table:
    """Read Parquet; ``head`` is the beginning of the file. Raises WorkloadError and the errors of pyarrow."""
    import pyarrow.parquet as pq

    if not head.startswith(b"PAR1"):
        raise WorkloadError(f"{path}: not a Parquet file in spite of its name; name a text file .csv or .jsonl")
    with Path(path).open("rb") as file:
        file.seek(-4, 2)
        if file.read() != b"PAR1" or file.tell() < 12:
            raise WorkloadError(f"{path}: a truncated Parquet file (its end is missing); copy or write it again")
    with pq.ParquetFile(Path(path).absolute()) as parquet:
        schema = parquet.schema_arrow
        layout = layout_of(schema.names)
        found = wanted(layout, schema.names, path)
        rows = parquet.metadata.num_rows
        check_memory(rows, f"{path}: {rows:,} rows", 3 * PER_VALUE)
        if layout.hashes in found:
            check_memory(values := _values(parquet.metadata, layout.hashes), f"{path}: {values:,} hashes", PER_VALUE)
        columns = parquet.read(columns=found or schema.names[:1])
        return Table(
            path,
            layout,
            columns,
            schema.names,
            block_size=_block_size(schema, layout.hashes, path),
            recorded=recorded(schema.metadata),
        )


def _values(metadata: "pa.parquet.FileMetaData", column: str) -> int:
    """The number of values in the lists of a column."""
    at = [n for n in range(metadata.num_columns) if metadata.schema.column(n).path.partition(".")[0] == column]
    groups = range(metadata.num_row_groups)
    return sum(metadata.row_group(group).column(n).num_values for group in groups for n in at)


def _block_size(schema: "pa.Schema", column: str, place: str) -> int | None:
    """The tokens of a block, as the metadata of a column of hashes or of the whole file says. Raises WorkloadError."""
    if column not in schema.names:
        return None
    for metadata in (schema.field(column).metadata, schema.metadata):
        text = (metadata or {}).get(b"block_size")
        if text is not None:
            if not (text.isdigit() and len(text) < 8):
                raise WorkloadError(f"{place}: metadata block_size: {short(text)} is not a number of tokens (e.g. 16)")
            return int(text)
    return None

"""Finds the file of a measured run, and reads it as JSON or as a table."""

import gzip
import json
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastsim.errors import WorkloadError, first_line
from fastsim.files.documents import unreadable
from fastsim.files.memory import check_memory
from fastsim.workload.tables import listed

if TYPE_CHECKING:
    import pyarrow as pa

SUFFIXES = (".json", ".json.gz", ".jsonl", ".csv", ".parquet")
# In a folder, the first of these that is there; else its only file with one of the suffixes.
NAMES = ("requests.parquet", "requests.csv", "bench.json", "bench.json.gz", "benchmarks.json")
NOT_MEASURED = ("config.json", "summary.json", "validation.json")
MOST = 2**30  # characters of a document
PER_CHARACTER = 12  # bytes of memory while a document is read


def find(path: Path) -> Path:
    """The file of a run, which ``path`` is or which a folder of that name holds. Raises WorkloadError."""
    try:
        if not path.exists():
            raise WorkloadError(f"{path}: no such file or folder")
        if not path.is_dir():
            if why := unreadable(path):
                raise WorkloadError(f"{path}: {why}")
            if not suffix_of(path):
                raise WorkloadError(f"{path}: the name does not end in {', '.join(SUFFIXES)}")
            return path
        inside = sorted(entry for entry in path.iterdir() if suffix_of(entry) and entry.is_file())
    except (OSError, ValueError) as problem:
        raise WorkloadError(f"{str(path)!r}: cannot be read: {getattr(problem, 'strerror', None) or problem}") from None
    for name in NAMES:
        if path / name in inside:
            return path / name
    inside = [entry for entry in inside if entry.name not in NOT_MEASURED]
    if len(inside) == 1:
        return inside[0]
    found = f"several files ({', '.join(entry.name for entry in inside[:4])})" if inside else "no measured run"
    raise WorkloadError(f"{path}: holds {found}; name the file, which ends in {', '.join(SUFFIXES)}")


def suffix_of(path: Path) -> str:
    """The last of SUFFIXES that a name ends in; "" if there is none."""
    return next((suffix for suffix in reversed(SUFFIXES) if path.name.lower().endswith(suffix)), "")


def document(path: Path) -> Any:
    """The content of a JSON file, which may be compressed, or have several lines with an object each."""
    text = _text(path)
    if not text.strip():
        raise WorkloadError(f"{path}: empty; a result of a benchmark is expected")
    try:
        if suffix_of(path) == ".jsonl":
            found = [json.loads(line) for line in text.splitlines() if line.strip()]
            return found[0] if len(found) == 1 else found
        return json.loads(text)
    except json.JSONDecodeError as problem:
        cut = problem.pos >= len(text.rstrip()) or problem.msg.startswith("Unterminated")
        why = "; the file is truncated, so copy or write it again" if cut else ""
        raise WorkloadError(f"{path}:{problem.lineno}: not valid JSON: {problem.msg}{why}") from None
    except (RecursionError, ValueError):
        raise WorkloadError(f"{path}: not valid JSON: nested too deeply, or a number too long") from None


def _text(path: Path) -> str:
    try:
        check_memory(size := path.stat().st_size, f"{path}: {size:,} bytes", PER_CHARACTER)
        if path.suffix.lower() != ".gz":
            return path.read_text(encoding="utf-8-sig")
        with gzip.open(path, "rt", encoding="utf-8-sig") as file:
            text = file.read(MOST + 1)
    except EOFError:
        raise WorkloadError(f"{path}: a truncated gzip file (its end is missing); copy or write it again") from None
    except (gzip.BadGzipFile, zlib.error):
        raise WorkloadError(f"{path}: not a gzip file in spite of its name, or a damaged one") from None
    except UnicodeDecodeError:
        raise WorkloadError(f"{path}: not a text file in UTF-8") from None
    except OSError as problem:
        raise WorkloadError(f"{path}: cannot be read: {problem.strerror or problem}") from None
    if len(text) > MOST:
        raise WorkloadError(f"{path}: more than {MOST:,} characters; split the result")
    return text


def table(path: Path) -> "pa.Table":
    """The content of a CSV or Parquet file."""
    import pyarrow as pa

    try:
        if not path.stat().st_size:
            raise WorkloadError(f"{path}: empty; a header and a row per request are expected")
        if suffix_of(path) == ".csv":
            from pyarrow.csv import ConvertOptions, read_csv

            found = read_csv(path, convert_options=ConvertOptions(strings_can_be_null=True))
        else:
            import pyarrow.parquet as pq

            found = pq.read_table(path.absolute())
        names = found.column_names
    except UnicodeDecodeError:
        raise WorkloadError(f"{path}: not a text file in UTF-8") from None
    except (pa.ArrowException, OSError) as problem:
        reason = first_line(problem).rstrip(".")
        raise WorkloadError(f"{path}: cannot be read as {suffix_of(path)[1:]} ({reason})") from None
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise WorkloadError(f"{path}: column {twice} is there {names.count(twice)} times; keep one")
    if not found.num_rows:
        raise WorkloadError(f"{path}: no requests, only a header ({listed(names)})")
    return found

"""Reads JSON files of requests: lines with an object each, and the documents that benchmarks write."""

import json
import re
from array import array
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from fastsim.errors import WorkloadError
from fastsim.workload.checks import TRUTH
from fastsim.workload.layouts import GUIDELLM, MORE, SHAREGPT, VIDUR, VLLM, Layout, recognise
from fastsim.workload.tables import LISTED, Table, short

JSON_LINE = 2**24  # characters of the longest line that is read
MISSING = object()
TEXT = 64  # characters of the longest date
# The top-level keys of documents that hold requests; other documents are descriptions.
DOCUMENTS = ("input_lens", "benchmarks", "request_throughput", "load_summary")
SPACE = re.compile(r"[ \t\r\n,:]*")
BYTES_PER_TOKEN = 4  # of text in UTF-8, on average
_OBJECT = '{"arrived_at": 0.0, "num_prompt_tokens": 512, "num_output_tokens": 128}'


def holds_requests(head: str) -> bool:
    """Whether the JSON document that begins with ``head`` holds requests, as opposed to a description of them."""
    text = head.lstrip("\ufeff \t\r\n")
    if text.startswith("["):
        return True
    decoder, at, keys = json.JSONDecoder(), 1, set()
    try:
        while text.startswith("{"):
            key, at = decoder.raw_decode(text, _after_space(text, at))
            keys.add(key)
            _, at = decoder.raw_decode(text, _after_space(text, at))
    except (ValueError, RecursionError, TypeError):
        pass  # the end of the head, or of the document
    return not keys.isdisjoint(DOCUMENTS)


def _after_space(text: str, at: int) -> int:
    found = SPACE.match(text, at)
    return found.end() if found else at


def read(path: str, suffix: str) -> Table:
    """Read a file of JSON lines (``.jsonl``), or a JSON document. Raises WorkloadError and UnicodeDecodeError."""
    rows = Rows(path)
    if suffix == ".jsonl":
        document = _lines(path, rows)
        if document is None:
            return rows.table()
    else:
        document = _document(path)
    match document:
        case [dict() as first, *_] if "conversations" in first:
            rows.add_all(_conversations(document), SHAREGPT)
        case list():
            rows.add_all(document)
        case {"benchmarks": benchmarks}:
            requests = guidellm_requests(benchmarks, path)
            rows.add_all(of_status(requests, "successful", path), GUIDELLM)
            failed = sum(len(of_status(requests, status, path)) for status in ("errored", "incomplete"))
            return rows.table(failed)
        case {"input_lens": _}:
            rows.add_all(_parallel(document, path), VLLM)
        case _:
            raise WorkloadError(
                f"{path}: holds totals of a benchmark but no requests; give a file with one record per request "
                "(vllm bench serve --save-result --save-detailed, profile_export.jsonl of AIPerf)"
            )
    return rows.table()


class Rows:
    """The columns of objects that are added one by one; their layout is recognised by the first that tells."""

    def __init__(self, place: str) -> None:
        self.place = place
        self.layout: Layout | None = None
        self.number = 0
        self.columns: dict[str, list[Any]] = {}
        self.firsts: dict[str, Any] = {}  # the first value of each column
        self._numbers: dict[str, list[Any]] = {}  # the columns whose first value is a number
        self.names: dict[str, None] = {}
        self.hashes, self.offsets = array("q"), array("q", [0])
        self.block_size: int | None = None
        self._wanted: list[tuple[str, list[str]]] = []
        self._look_for(VIDUR)

    def _look_for(self, layout: Layout) -> None:
        names = (*layout.names, *MORE, *(("block_size",) if layout.hashes == "block_hashes" else ()))
        self._wanted = [(name, name.split(".")) for name in dict.fromkeys(names)]

    def add_all(self, objects: Iterable[Any], layout: Layout | None = None) -> None:
        """Add objects that are no lines of a file; errors give their number."""
        self.layout = layout
        if layout is not None:
            self._look_for(layout)
        for number, values in enumerate(objects, start=1):
            place = f"{self.place}: request {number}"
            if not isinstance(values, Mapping):
                raise WorkloadError(f"{place}: {short(values)} is not an object (e.g. {_OBJECT})")
            self.add(values, place)

    def add(self, values: Mapping[str, Any], place: str) -> None:
        """Add the columns of a request. Raises WorkloadError for a value that is no number."""
        if self.layout is None:
            self.layout = recognise(lambda name: _dig(values, name, name.split(".")) is not MISSING)
            if self.layout is not None:
                self._look_for(self.layout)
        layout = self.layout or VIDUR
        for name, path in self._wanted:
            value = values.get(name, MISSING) if len(path) == 1 else _dig(values, name, path)
            if value is MISSING:
                continue
            if (type(value) is int or type(value) is float) and name in self._numbers and abs(value) < 2**63:
                self._numbers[name].append(value)
            elif name == layout.hashes:
                self._add_hashes(value, f"{place}: {name}")
            elif name == "block_size":
                self._set_block_size(value, f"{place}: {name}")
            else:
                if name not in self.columns:
                    self.columns[name] = [None] * self.number
                cell = _cell(value, name, layout, f"{place}: {name}")
                self._check_kind(name, cell, f"{place}: {name}")
                self.columns[name].append(cell)
        self.number += 1
        for column in self.columns.values():
            if len(column) < self.number:
                column.append(None)
        if len(self.offsets) <= self.number:
            self.offsets.append(len(self.hashes))
        if len(self.names) <= LISTED:
            self.names |= dict.fromkeys(islice(values, LISTED + 1))

    def _check_kind(self, name: str, cell: Any, place: str) -> None:
        """Raise WorkloadError if some of a column's values are dates and others numbers."""
        if cell is None:
            return
        first = self.firsts.setdefault(name, cell)
        if type(first) is int or type(first) is float:
            self._numbers[name] = self.columns[name]
        if isinstance(cell, str) != isinstance(first, str):
            raise WorkloadError(f"{place}: {short(cell)} is not of the same kind as {short(first)} before")

    def _add_hashes(self, value: Any, place: str) -> None:
        values = [] if value is None else value
        if not isinstance(values, list) or not all(type(one) is int and -(2**63) <= one < 2**64 for one in values):
            raise WorkloadError(f"{place}: {short(value)} is not a list of whole numbers of 64 bits (e.g. [46, 47])")
        self.hashes.extend(one if one < 2**63 else one - 2**64 for one in values)
        self.offsets.append(len(self.hashes))

    def _set_block_size(self, value: Any, place: str) -> None:
        if type(value) is not int or not 0 < value < 2**20 or (self.number and value != self.block_size):
            raise WorkloadError(f"{place}: {short(value)} is not the same number of tokens in every request (e.g. 16)")
        self.block_size = value

    def table(self, failed: int = 0) -> Table:
        """All that was added."""
        import numpy as np
        import pyarrow as pa

        layout = self.layout or VIDUR
        columns = {name: pa.array(column) for name, column in self.columns.items()}
        if len(self.hashes):
            offsets, values = (np.frombuffer(each, np.int64) for each in (self.offsets, self.hashes))
            columns[layout.hashes] = pa.LargeListArray.from_arrays(offsets, values)
        table = pa.table(columns or {name: pa.nulls(self.number) for name in self.names})
        return Table(self.place, layout, table, list(self.names), failed, self.block_size)


def _dig(values: Any, name: str, path: list[str]) -> Any:
    """The value of a name, whose parts are keys of objects within each other; MISSING if there is none."""
    if name in values:
        return values[name]
    if len(path) == 1:
        return MISSING
    for part in path:
        if not isinstance(values, dict) or part not in values:
            return MISSING
        values = values[part]
    return values


def dig(values: Any, name: str, path: list[str]) -> Any:
    """The value of a name, as above; None if there is none."""
    found = _dig(values, name, path)
    return None if found is MISSING else found


def _cell(value: Any, name: str, layout: Layout, place: str) -> int | float | str | bool | None:
    """The value of a column. Raises WorkloadError if it is neither a number nor, among times, a date."""
    if name == layout.error:
        return bool(value)
    if value is None and (layout.measured or name in ("arrived_at", *MORE)):
        return None
    if isinstance(value, str) and name in (*layout.arrived_at, "session_id", "tenant") and len(value) <= TEXT:
        return value
    if name == "ends_by_stop":
        if not isinstance(value, int) or value not in (0, 1):
            raise WorkloadError(f"{place}: {short(value)} is not {TRUTH}")
        return bool(value)
    if isinstance(value, int | float) and not isinstance(value, bool) and (value != value or abs(value) < 2**63):
        return value
    raise WorkloadError(f"{place}: {short(value)} is not a number (e.g. 512)")


def _lines(path: str, rows: Rows) -> dict[str, Any] | None:
    """Add JSON lines, one at a time: a parser of whole files would build columns, of any depth, that are ignored.

    Returns the object of a file that is one result of a benchmark in a line, and else None.
    """
    with Path(path).open(encoding="utf-8-sig") as file:
        number = 0
        result: dict[str, Any] | None = None
        while line := file.readline(JSON_LINE + 1):
            number += 1
            if not line.strip():
                continue
            place = f"{path}:{number}"
            values = _object(line, place)
            if result is not None:
                raise WorkloadError(f"{place}: a second result of a benchmark; write each into a file of its own")
            if isinstance(values.get("input_lens"), list) and not rows.number:
                result = values
            else:
                rows.add(values, place)
    return result


def _object(line: str, place: str) -> dict[str, Any]:
    """Return the object in a line. Raises WorkloadError for anything else."""
    try:
        if len(line) > JSON_LINE:
            raise ValueError
        values = json.loads(line)
    except (ValueError, RecursionError):
        raise WorkloadError(f"{place}: not valid JSON: {short(line)}") from None
    if not isinstance(values, dict):
        raise WorkloadError(f"{place}: {short(line)} is not an object (e.g. {_OBJECT})")
    return values


def _document(path: str) -> Any:
    text = Path(path).read_text(encoding="utf-8-sig")
    try:
        return json.loads(text)
    except json.JSONDecodeError as problem:
        more = problem.msg == "Extra data"
        why = "more than one document; write each into a file of its own" if more else f"not valid JSON: {problem.msg}"
        raise WorkloadError(f"{path}:{problem.lineno}: {why}") from None
    except (RecursionError, ValueError):
        raise WorkloadError(f"{path}: not valid JSON: nested too deeply, or a number too long") from None


def _parallel(document: Mapping[str, Any], path: str) -> Iterator[dict[str, Any]]:
    """The requests of an object of lists that have a value for each of them."""
    names = [name for name in VLLM.names if isinstance(document.get(name), list)]
    columns = [document[name] for name in names]
    for name, column in zip(names, columns, strict=True):
        if len(column) != len(columns[0]):
            raise WorkloadError(
                f"{path}: {name} has {len(column):,} values and {names[0]} {len(columns[0]):,}; every list needs one "
                "per request"
            )
    for values in zip(*columns, strict=True):
        yield dict(zip(names, values, strict=True))


def guidellm_requests(benchmarks: Any, path: str) -> dict[str, Any]:
    """The requests of the only benchmark in a report, by their status. Raises WorkloadError."""
    if not isinstance(benchmarks, list) or len(benchmarks) != 1:
        number = f"{len(benchmarks):,}" if isinstance(benchmarks, list) else "no list of"
        raise WorkloadError(
            f"{path}: benchmarks: {number} benchmarks; keep the one to simulate "
            "(e.g. jq '.benchmarks |= .[0:1]' for the first)"
        )
    requests = benchmarks[0].get("requests") if isinstance(benchmarks[0], dict) else None
    if not isinstance(requests, dict):
        raise WorkloadError(f"{path}: benchmarks[0].requests: {short(requests)} is no group of lists by status")
    return requests


def of_status(requests: Mapping[str, Any], status: str, path: str) -> list[Any]:
    found = requests.get(status) or []
    if not isinstance(found, list):
        raise WorkloadError(f"{path}: benchmarks[0].requests.{status}: {short(found)} is no list of requests")
    return found


def _conversations(document: Iterable[Any]) -> Iterator[dict[str, Any]]:
    """Estimated tokens of the first prompt and the first answer of each conversation; None of what it lacks."""
    for conversation in document:
        turns = conversation.get("conversations") if isinstance(conversation, dict) else None
        texts = [turn.get("value") for turn in turns[:2] if isinstance(turn, dict)] if isinstance(turns, list) else []
        tokens = [_estimate(text) if isinstance(text, str) else None for text in texts]
        prompt, answer = (*tokens, None, None)[:2]
        yield {"prompt": prompt, "answer": answer if prompt else None}


def _estimate(text: str) -> int:
    return -(-len(text.encode(errors="replace")) // BYTES_PER_TOKEN)

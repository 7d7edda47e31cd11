"""Request streams from files: what is read, what is refused, and how it is said."""

import io
import os
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet
from streams import HEADER, POISSON, ROWS, SHARED, file, needs_shared

from fastsim.errors import InputError, TooLargeError, WorkloadError
from fastsim.files import memory
from fastsim.workload import Workload
from fastsim.workload.loading import load
from fastsim.workload.write import save


def test_csv_reads_exactly(tmp_path: Path) -> None:
    stream = load(file(tmp_path, HEADER + ROWS))
    assert stream.arrived_at.tolist() == [0.0, 0.30000000000000004, 1.5]
    assert stream.num_prompt_tokens.tolist() == [512, 7, 4096]
    assert stream.num_output_tokens.tolist() == [128, 1, 300]
    assert stream.replica_id is None
    dtypes = [a.dtype for a in (stream.arrived_at, stream.num_prompt_tokens, stream.num_output_tokens)]
    assert dtypes == [np.float64, np.int64, np.int64]


def test_names_of_vidur(tmp_path: Path) -> None:
    text = "num_decode_tokens,arrived_at,pd_ratio,num_prefill_tokens\n128,0,4.0,512\n"
    stream = load(file(tmp_path, text))
    assert (stream.num_prompt_tokens[0], stream.num_output_tokens[0]) == (512, 128)


def test_columns_for_later_are_accepted(tmp_path: Path) -> None:
    text = HEADER.replace("\n", ",replica_id,priority,session_id,tenant\n") + "0,5,6,3,1,a,b\n1,5,6,0,,,\n"
    stream = load(file(tmp_path, text))
    assert stream.replica_id is not None
    assert stream.replica_id.dtype == np.int32
    assert stream.replica_id.tolist() == [3, 0]
    line = '{"arrived_at":0,"num_prompt_tokens":5,"num_output_tokens":6,"prefix_hashes":[1,2],"replica_id":4}\n'
    assert load(file(tmp_path, line, "requests.jsonl")).replica_id == [4]


def test_whole_numbers_may_be_floats(tmp_path: Path) -> None:
    assert load(file(tmp_path, HEADER + "0,512.0,1e2\n")).num_output_tokens.tolist() == [100]
    assert load(file(tmp_path, HEADER + "0,512,10\n1,512.0,1e2\n")).num_output_tokens.tolist() == [10, 100]


def test_byte_order_mark_and_windows_lines(tmp_path: Path) -> None:
    text = "\ufeff" + (HEADER + ROWS).replace("\n", "\r\n")
    assert load(file(tmp_path, text)).digest == load(file(tmp_path, HEADER + ROWS, "plain.csv")).digest


def test_types_of_late_rows_count(tmp_path: Path) -> None:
    """Whole numbers for megabytes, then a fraction: types are not guessed from the beginning of the file."""
    rows = [f"{second},10,20" for second in range(120_000)] + ["120000.5,10,20"]
    stream = load(file(tmp_path, HEADER + "\n".join(rows)))
    assert stream.arrived_at[-1] == 120000.5


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO((HEADER + ROWS).encode())))
    assert load("-").num_requests == 3
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"")))
    with pytest.raises(WorkloadError, match=r"^standard input: empty"):
        load("-")


ascending = st.lists(st.floats(0, 1e10), min_size=1, max_size=30).map(sorted)


@settings(max_examples=60, deadline=None)
@given(times=ascending, pinned=st.booleans(), suffix=st.sampled_from([".csv", ".parquet", ".jsonl"]), data=st.data())
def test_what_is_written_reads_back_to_the_bit(
    tmp_path_factory: pytest.TempPathFactory, times: list[float], pinned: bool, suffix: str, data: st.DataObject
) -> None:
    draw = st.lists(st.integers(1, 10_000_000), min_size=len(times), max_size=len(times))
    prompts, outputs = (np.array(data.draw(draw)) for _ in range(2))
    replicas = np.arange(len(times), dtype=np.int32) % 3 if pinned else None
    stream = Workload(np.array(times), prompts, outputs, replicas)
    path = tmp_path_factory.mktemp("stream") / f"requests{suffix}"
    save(stream, path)
    back = load(path)
    assert back.digest == stream.digest
    assert [*map(repr, back.arrived_at)] == [*map(repr, stream.arrived_at)]
    assert [one.name for one in path.parent.iterdir()] == [path.name]


# Refusing: each message names the file, the row and column, the value and a valid value.

REFUSED_ROWS = [
    ("1.0,512,128\n0.5,5,6\n", "data row 2: arrived_at: 0.5 is earlier than the row before (1.0); sort"),
    ("-0.5,1,1\n0.0,5,6\n", "data row 1: arrived_at: -0.5 is not a time in seconds from 0"),
    ("0.0,1,1\n-2.5,5,6\n", "data row 2: arrived_at: -2.5 is not a time in seconds from 0 to 1e+10 (e.g. 0.25)"),
    ("0.0,1,1\nnan,5,6\n3,1,1\n", "data row 2: arrived_at: nan is not a time"),
    ("0.0,1,1\n1.0,5,6\ninf,1,1\n", "data row 3: arrived_at: inf is not a time"),
    ("0.0,0,6\n", "data row 1: num_prompt_tokens: 0 is not a whole number of tokens from 1 to 10,000,000 (e.g. 512)"),
    ("0.0,5,6\n0,5,-3\n", "data row 2: num_output_tokens: -3 is not a whole number"),
    ("0.0,10000001,6\n", "data row 1: num_prompt_tokens: 10000001 is not"),
    ("0.0,5,99999999999999999999999\n", "data row 1: num_output_tokens: 1e+23 is not"),
    ("0.0,5.5,6\n", "data row 1: num_prompt_tokens: 5.5 is not a whole number"),
    ("0.0,nan,6\n", "data row 1: num_prompt_tokens: nan is not a whole number"),
    ("0.0,5,6\n1.0,many,6\n", "data row 2: num_prompt_tokens: 'many' is not a number (e.g. 512)"),
    ("2023-11-16 18:15:46,5,6\n2023-11-16 18:15,5,6\n3,5,6\n", "data row 3: arrived_at: '3' is not a date and time"),
    ("2023-11-16 18:15:46,5,6\n2023-11-16 18:15:47Z,5,6\n", "data row 2: arrived_at: '2023-11-16 18:15:47Z' is not a "),
    ("2023-11-16 18:15:46,5,6\n2023-11-16 18:15:45,5,6\n", "data row 2: arrived_at: 0.0 is earlier than the row be"),
    ("2023-11-16 18:15:46,5,6\n,5,6\n", "data row 2: arrived_at: an empty cell is not a number"),
    ("0.0,5,0\n", "num_output_tokens: none of the 1 requests has an output"),
    ("0.0,5,0\n1,5,1\n2,0,3\n", "data row 3: num_prompt_tokens: 0 is not"),
    ("0.0,true,6\n", "column num_prompt_tokens: values of type bool are not numbers"),
    ("0.0,5,6\n1.0,,6\n", "data row 2: num_prompt_tokens: an empty cell is not a number"),
    ("0.0,,6\n", "data row 1: num_prompt_tokens: an empty cell is not a number"),
    ("0.0,x,6\n1,,2\n", "data row 1: num_prompt_tokens: 'x' is not a number"),
    ("0.0,5,6\n1.0,5\n", "data row 2: 2 cells, where the header has 3: '1.0,5'"),
    ("0.0,5,6\n1.0,5,6,7\n", "data row 2: 4 cells, where the header has 3"),
]


@pytest.mark.parametrize(("rows", "said"), REFUSED_ROWS)
def test_refused_rows(tmp_path: Path, rows: str, said: str) -> None:
    path = file(tmp_path, HEADER + rows)
    with pytest.raises(WorkloadError, match="^" + re.escape(f"{path}: {said}")) as refused:
        load(path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("replica", ["-1", "2.5", "nan", "2147483648", "a", ""])
def test_refused_replicas(tmp_path: Path, replica: str) -> None:
    path = file(tmp_path, HEADER.replace("\n", ",replica_id\n") + f"0,5,6,0\n1,5,6,{replica}\n")
    with pytest.raises(WorkloadError, match="data row 2: replica_id: "):
        load(path)


def test_refused_columns_of_vidur_go_by_their_own_name(tmp_path: Path) -> None:
    path = file(tmp_path, "arrived_at,num_prefill_tokens,num_decode_tokens\n0,5,-1\n")
    with pytest.raises(WorkloadError, match="data row 1: num_decode_tokens: -1 is not"):
        load(path)


REFUSED_FILES: list[tuple[str, str | bytes, str]] = [
    ("a.csv", "", "empty; a header and a row per request"),
    ("a.csv", " \n\n", "empty; a header and a row per request"),
    ("a.csv", HEADER, "no requests, only a header ('arrived_at', "),
    ("a.csv", b"\x7fELF\0\1\2\3", "binary, not text"),
    ("a.csv", b"PAR1\0\0\0\0", "Parquet: name it .parquet"),
    ("a.csv", "arriv\xe9,b,c\n0,1,2\n".encode("latin-1"), "not a text file in UTF-8"),
    ("a.csv", "arrived_at,num_promt_tokens,num_output_tokens\n0,1,1\n", "rename 'num_promt_tokens'?"),
    ("a.csv", "arrived_at,b,num_output_tokens\n0,1,1\n", "column num_prompt_tokens or num_prefill_tokens is missing"),
    ("a.csv", "time,num_prompt_tokens,num_output_tokens\n0,1,1\n", "column arrived_at is missing from 'time', 'num_"),
    ("a.csv", "num_prompt_tokens,num_output_tokens\n1,1\n", "lengths: {kind: trace, file: ...}"),
    ("a.csv", "arrived_at," + HEADER + "0,0,1,1\n", "column arrived_at is there 2 times; keep one"),
    ("a.parquet", "arrived_at\n", "not a Parquet file"),
    ("a.parquet", b"PAR1\0\0\0\0", "a truncated Parquet file"),
    ("a.parquet", b"PAR1\0\0\0\0\x09\0\0\0PAR1", "cannot be read as parquet ("),
    ("a.jsonl", '{"arrived_at":0,"num_prompt_tokens":1,"num_output_tokens":1}\n[1]\n', ":2: '[1]' is not an object"),
    ("a.jsonl", '{"arrived_at":0\n', ":1: not valid JSON"),
    ("a.jsonl", '{"num_prompt_tokens":1}\n{"num_prompt_tokens":"x"}\n', ":2: num_prompt_tokens: 'x' is not a number"),
    ("a.jsonl", '{"arrived_at":0,"num_prompt_tokens":"x","num_output_tokens":1}\n', ":1: num_prompt_tokens: 'x' is"),
    ("a.jsonl", 'null\n{"arrived_at":0}\n', ":1: 'null' is not an object"),
    ("a.jsonl", '{"x": ' + "[" * 100_000 + "]" * 100_000 + "}\n", ":1: not valid JSON"),
    ("a.jsonl", '{"arrived_at": ' + "9" * 5000 + "}\n", ":1: not valid JSON"),
    ("a.jsonl", '{"arrived_at": ' + "9" * 30 + "}\n", ":1: arrived_at: 9999"),
    ("a.jsonl", '{"arrived_at": true}\n', ":1: arrived_at: True is not a number"),
    ("a.jsonl", "{" + ",".join(f'"k{i}":1' for i in range(100_000)) + "}\n", "arrived_at is missing from 'k0'"),
    (
        "a.jsonl",
        '{"arrived_at":0,"num_prompt_tokens":1,"num_output_tokens":1}\n{"arrived_at":1,"num_output_tokens":1}\n',
        "data row 2: num_prompt_tokens: an empty cell",
    ),
    ("a.xlsx", "PK", "the name ends in '.xlsx', not in .csv, .parquet, .jsonl, .json"),
    ("requests", HEADER + ROWS, "the name ends in '', not in .csv"),
]


@pytest.mark.parametrize(("name", "content", "said"), REFUSED_FILES)
def test_refused_files(tmp_path: Path, name: str, content: str | bytes, said: str) -> None:
    path = file(tmp_path, content, name)
    with pytest.raises(WorkloadError) as refused:
        load(path)
    assert str(refused.value).startswith(f"{path}:")
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_parquet_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "requests.parquet"
    save(load("chat"), path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(WorkloadError, match="a truncated Parquet file"):
        load(path)
    path.write_bytes(content[:4] + bytes(len(content) // 2) + content[4 + len(content) // 2 :])
    with pytest.raises(WorkloadError, match=re.escape(f"{path}: ")):
        load(path)


def test_parquet_of_text_and_nothing(tmp_path: Path) -> None:
    path = str(tmp_path / "requests.parquet")
    columns = {"arrived_at": [0.0], "num_prompt_tokens": ["512"], "num_output_tokens": [1]}
    parquet.write_table(pa.table(columns), path)
    with pytest.raises(WorkloadError, match="data row 1: num_prompt_tokens: '512' is not a number"):
        load(path)
    parquet.write_table(pa.table({"arrived_at": [0.0], "hash_ids": [[1]]}), path)
    with pytest.raises(WorkloadError, match=r"column num_prompt_tokens .* is missing from 'arrived_at'"):
        load(path)


def test_files_larger_than_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parquet of a few kilobytes can hold millions of rows, and a sparse file of any size takes no disk."""
    monkeypatch.setattr(memory, "free_memory", lambda: 2**28)
    table = pa.table({"arrived_at": np.zeros(500_000), "num_prompt_tokens": np.ones(500_000, np.int64)})
    with parquet.ParquetWriter(tmp_path / "rows.parquet", table.schema) as writer:
        for _ in range(10):
            writer.write_table(table)
    assert (tmp_path / "rows.parquet").stat().st_size < 100_000
    os.truncate(file(tmp_path, HEADER + ROWS * 2000), 10**9)
    for name, said in (
        (
            "rows.parquet",
            "5,000,000 rows need about 0.28 GiB of memory, and 0.25 GiB are free",
        ),
        ("requests.csv", "1,000,000,000 bytes need about 2.8 GiB of memory"),
    ):
        with pytest.raises(TooLargeError, match=f"^{tmp_path / name}: {said}"):
            load(tmp_path / name)


def test_places_that_are_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "requests.csv").mkdir()
    cases: list[tuple[str | Path, str]] = [
        (tmp_path / "requests.csv", "a folder, not a file"),
        (tmp_path / "none.csv", "none.csv: no such file"),
        (tmp_path / "none.yaml", "none.yaml: no such file"),
        ("summarization", "neither a file nor a preset; did you mean 'summarisation'?"),
        ("xyz", "valid: agent, chat, code, reasoning, retrieval, summarisation, translation"),
        ("a\0b.csv", "cannot be read"),
    ]
    for path, said in cases:
        with pytest.raises(InputError) as refused:
            load(path)
        assert said in str(refused.value)

    def denied(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "secret.csv").touch()
    os.mkfifo(tmp_path / "pipe.csv")
    for name in (tmp_path / "pipe.csv", "/dev/zero"):
        with pytest.raises(WorkloadError, match="not a regular file but a pipe, socket or device"):
            load(name)
    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(WorkloadError, match="cannot be read: Permission denied"):
        load(tmp_path / "secret.csv")


# Recorded streams


@needs_shared
def test_azure_conversations() -> None:
    stream = load(SHARED / "traces" / "azure_conv_2023.csv")
    assert stream.num_requests == 19_366
    assert int(stream.num_prompt_tokens.sum() + stream.num_output_tokens.sum()) == 26_450_535
    assert stream.arrived_at[-1] == 3501.721937


@needs_shared
def test_arxiv_lengths() -> None:
    path = SHARED / "traces" / "arxiv_summarization_lengths.csv"
    spec = {"lengths": {"kind": "trace", "file": str(path), "order": "file"}, "gaps": POISSON}
    stream = load(spec, num_requests=28_257)
    assert stream.num_prompt_tokens.mean() == pytest.approx(2588.078, abs=1e-3)
    with pytest.raises(WorkloadError, match="column arrived_at is missing"):
        load(path)

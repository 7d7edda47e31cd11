"""Files of sessions and closed loops: read, written, and read again."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

import fastsim
from fastsim.errors import WorkloadError
from fastsim.workload.write import save

SESSIONS = """arrived_at,num_prompt_tokens,num_output_tokens,session_id,think_time
0.0,100,10,anna,
0.5,200,20,ben,
,150,15,anna,2.5
,250,25,ben,0
"""


def test_sessions_are_read_by_their_columns(tmp_path: Path) -> None:
    file = tmp_path / "sessions.csv"
    file.write_text(SESSIONS)
    workload = fastsim.load_workload(file)
    np.testing.assert_array_equal(workload.arrived_at, [0, 0.5, np.nan, np.nan])
    assert workload.session_id is not None
    assert workload.session_id.tolist() == [0, 1, 0, 1]
    assert workload.following is not None
    assert workload.following.follower.tolist() == [2, 3, -1, -1]
    assert workload.describe()["num_sessions"] == 2


def test_a_file_without_sessions_whose_requests_wait_is_a_closed_loop(tmp_path: Path) -> None:
    file = tmp_path / "loop.jsonl"
    row = '{{"arrived_at": {}, "num_prompt_tokens": 10, "num_output_tokens": 5, "think_time": {}}}\n'
    file.write_text(row.format(0, "null") * 2 + row.format("null", 1) * 3)
    workload = fastsim.load_workload(file)
    assert workload.max_concurrency == 2
    assert workload.is_loop
    assert workload.following is not None
    assert workload.following.loop.tolist() == [2, 3, 4]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize("closed", [False, True])
def test_what_is_written_reads_back(suffix: str, closed: bool, tmp_path: Path) -> None:
    file = tmp_path / "sessions.csv"
    file.write_text(SESSIONS)
    workload = fastsim.load_workload(file)
    if closed:
        workload = fastsim.load_workload("chat", num_requests=20).with_users(3)
    save(workload, tmp_path / f"again{suffix}")
    again = fastsim.load_workload(tmp_path / f"again{suffix}")
    assert again.digest == workload.digest


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (SESSIONS.replace("150,15,anna,2.5", "150,15,anna,"), "data row 3: arrived_at is empty, and think_time too"),
        (SESSIONS.replace("anna,2.5", "carl,2.5"), "data row 3: think_time: 2.5 needs an earlier request of session 2"),
        (SESSIONS.replace("anna,2.5", "anna,-2"), "data row 3: think_time: -2.0 is not a time in seconds"),
        (SESSIONS.replace("anna,2.5", "anna,soon"), "think_time: 'soon' is not a number"),
        (SESSIONS.replace("\n,", "\n9,"), "data row 3: think_time: 2.5 is given, and arrived_at 9 too"),
        (
            SESSIONS.replace("0.0,100", ",100").replace("0.5,200", ",200"),
            "arrived_at is empty in every row, so that every request waits for another",
        ),
    ],
)
def test_a_turn_that_cannot_arrive_is_refused(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "sessions.csv"
    file.write_text(text)
    with pytest.raises(WorkloadError, match=message):
        fastsim.load_workload(file)


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_sessions_whose_turns_all_wait_for_each_other_are_refused(suffix: str, tmp_path: Path) -> None:
    """In these files, a column without any value has no type."""
    row = {"arrived_at": None, "num_prompt_tokens": 10, "num_output_tokens": 5, "session_id": 1, "think_time": 1.0}
    file = tmp_path / f"loop.{suffix}"
    if suffix == "jsonl":
        file.write_text(f"{json.dumps(row)}\n" * 2)
    else:
        parquet.write_table(pa.Table.from_pylist([row] * 2), file)
    with pytest.raises(WorkloadError, match="arrived_at is empty in every row, so that every request waits for anoth"):
        fastsim.load_workload(file)

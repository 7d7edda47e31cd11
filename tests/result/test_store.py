"""Reading results from folders that are complete, damaged, mixed, changed, or of another format."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow.csv
import pyarrow.parquet as pq
import pytest

import fastsim
from fastsim.errors import InputError
from fastsim.result.result import Result
from fastsim.result.store import FORMAT, as_json
from fastsim.workload.loading import load

CHAT = load("chat", rate=4.0, num_requests=100, seed=3)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results") / "whole"
    fastsim.simulate(None, CHAT, iterations=True).save(folder, csv=True)
    return folder


def mix(folder: Path) -> None:
    """Put the requests of another simulation into the folder."""
    fastsim.simulate(None, load("chat", rate=5.0, num_requests=100, seed=4)).save(folder / "other")
    shutil.copy(folder / "other" / "requests.parquet", folder / "requests.parquet")


def cut(name: str, share: float) -> Callable[[Path], None]:
    """Return a change that leaves the first ``share`` of a file."""

    def change(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: int(len(content) * share)])

    return change


def set_format(number: object) -> Callable[[Path], None]:
    """Return a change that puts a number of the format into config.json."""

    def change(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "format": number}))

    return change


def change_summary(*keys: str, value: object) -> Callable[[Path], None]:
    """Return a change of one value in summary.json."""

    def change(folder: Path) -> None:
        summary = inner = json.loads((folder / "summary.json").read_text())
        for key in keys[:-1]:
            inner = inner[key]
        inner[keys[-1]] = value
        (folder / "summary.json").write_text(json.dumps(summary))

    return change


def change_column(name: str) -> Callable[[Path], None]:
    """Return a change of the first column of a table to text."""

    def change(folder: Path) -> None:
        table = pq.read_table(folder / name)
        text = table.column(0).cast("string")
        pq.write_table(table.set_column(0, table.column_names[0], text), folder / name)

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (cut("requests.parquet", 0.5), "requests.parquet: cannot be read"),
        (cut("requests.parquet", 0), "requests.parquet: cannot be read"),
        (cut("iterations.parquet", 0.9), "iterations.parquet: cannot be read"),
        (cut("summary.json", 0.5), "summary.json: cannot be read"),
        (cut("config.json", 0), "config.json: cannot be read"),
        (lambda folder: (folder / "summary.json").write_text("[1]"), "summary.json: holds no mapping"),
        (lambda folder: (folder / "summary.json").write_text("{}"), "summary.json and config.json come from different"),
        (lambda folder: (folder / "summary.json").write_bytes(b"\xff\xfe"), "summary.json: cannot be read"),
        (lambda folder: (folder / "config.json").unlink(), "holds no config.json"),
        (lambda folder: shutil.rmtree(folder), "does not exist"),
        (set_format(FORMAT + 1), f"is in format {FORMAT + 1}, and this fastsim reads format {FORMAT}"),
        (set_format("new"), "is in format 'new'"),
        (change_summary("latency", "ttft", "p99", value=0.5), "its files were changed after fastsim wrote them"),
        (change_summary("latency", value=None), "its files were changed"),
        (change_summary("totals", "requests", value=float("nan")), "its files were changed"),
        (change_summary("timing", "kernel_s", value="fast"), "its files were changed"),
        (change_summary("timing", value={}), "its files were changed"),
        (change_column("requests.parquet"), "its files were changed"),
        (change_column("iterations.parquet"), "its files were changed"),
        (mix, "requests.parquet and config.json come from different simulations"),
    ],
)
def test_an_incomplete_result_is_refused_in_one_sentence(
    whole: Path, tmp_path: Path, change: Callable[[Path], None], words: str
) -> None:
    folder = tmp_path / "out"
    shutil.copytree(whole, folder)
    change(folder)
    with pytest.raises(InputError) as caught:
        Result.load(folder)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_csv_holds_the_same_values(whole: Path) -> None:
    result = Result.load(whole)
    for name, table in result.tables():
        read = pyarrow.csv.read_csv(whole / f"{name}.csv")
        assert read.column_names == table.column_names
        assert read.num_rows == table.num_rows
    times = pyarrow.csv.read_csv(whole / "requests.csv")["finished_at"].to_numpy()
    assert (times == result.column("finished_at")).all()


def test_every_column_carries_its_unit_and_meaning(whole: Path) -> None:
    for name in ("requests", "iterations"):
        for field in pq.read_schema(whole / f"{name}.parquet"):
            metadata = field.metadata or {}
            assert set(metadata) == {b"unit", b"meaning"}
            assert metadata[b"meaning"]


def test_json_has_no_nan_and_a_line_for_a_list() -> None:
    assert as_json({"a": [1.5, 2, None], "b": ["x [\\n 1\\n ] y"]}).splitlines()[1] == '  "a": [1.5, 2, null],'
    assert json.loads(as_json({"b": ["x [\n 1\n ] y"]})) == {"b": ["x [\n 1\n ] y"]}
    with pytest.raises(ValueError):
        as_json({"a": float("nan")})

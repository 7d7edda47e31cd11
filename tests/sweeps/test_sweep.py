"""Sweeps in one process: the same rows on any number of threads, in a folder that is always valid; and resuming."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from gate import Gate

import fastsim
from fastsim.cli import cli
from fastsim.errors import ConfigError, OutputError
from fastsim.result.metrics.definitions import flatten
from fastsim.sweeps import batches as batch
from fastsim.sweeps import sweep as sweeps
from fastsim.sweeps.space import Space
from fastsim.sweeps.store import Dataset, column_type
from fastsim.sweeps.sweep import sweep

ROOT = Path(__file__).resolve().parents[2]
SPACE: dict[str, Any] = {
    "workload": {"source": "chat", "rate": 4, "num_requests": 60},
    "axes": {
        "scheduler.policy": ["vllm", "sarathi"],
        "scheduler.max_num_seqs": [8, 16, 32],
        "num_replicas": [1, 2],
        "quantization": [None, "fp8"],
    },
}


def table(folder: Path) -> pa.Table:
    """All rows, as the README reads them, in an order that does not depend on the run."""
    found: pa.Table = pq.read_table(folder)
    return found.sort_by("digest")


def same(first: Path, second: Path) -> bool:
    """Equal to the bit: as bytes of floats, so that none compares equal by chance."""
    one, two = table(first), table(second)
    return bool(one.schema.equals(two.schema)) and one.to_pylist() == two.to_pylist()


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("swept") / "out"
    sweep(SPACE, out, threads=1)
    return out


def test_a_row_for_each_configuration(swept: Path) -> None:
    rows = {row["digest"]: row for row in table(swept).to_pylist()}
    for one in Space.load(SPACE).configurations():
        row = rows.pop(one.digest)
        assert {name: row[name] for name in one.settings} == one.settings
        figures = flatten(fastsim.simulate(one.deployment, one.workload).summary)
        for name in ("latency.ttft.p99", "latency.tbt.mean", "throughput.requests_per_s", "totals.iterations"):
            assert row[name] == figures[name]
    assert rows == {}


@pytest.mark.parametrize("threads", [2, 3])
def test_rows_are_the_same_on_any_number_of_threads(swept: Path, threads: int, tmp_path: Path) -> None:
    done = sweep(SPACE, tmp_path / "out", threads=threads)
    assert (done.configurations, done.computed, done.failed, done.dropped) == (24, 24, 0, {})
    assert same(swept, tmp_path / "out")


def test_columns_say_what_they_are(swept: Path) -> None:
    schema: Any = table(swept).schema
    assert schema.field("latency.ttft.p99").metadata[b"unit"] == b"s"
    assert b"first token" in schema.field("latency.ttft.p99").metadata[b"meaning"]
    assert schema.field("quantization").type == pa.string()
    assert schema.field("num_replicas").type == pa.int64()
    assert json.loads(schema.metadata[b"fastsim"])["varied"] == list(SPACE["axes"])


def test_running_again_computes_nothing(swept: Path) -> None:
    before = table(swept)
    assert sweep(SPACE, swept).computed == 0
    assert table(swept).equals(before)


def test_resuming_computes_what_is_missing(swept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that stops after ten configurations leaves them; the next computes the other fourteen."""
    monkeypatch.setattr(batch, "MOST", 5)

    def stop(done: int, total: int) -> None:
        if done >= 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep(SPACE, tmp_path / "out", threads=1, progress=stop)
    assert len(table(tmp_path / "out")) == 10
    assert sweep(SPACE, tmp_path / "out").computed == 14
    assert same(swept, tmp_path / "out")


def test_a_failed_configuration_is_a_row_with_its_error(tmp_path: Path) -> None:
    space = {**SPACE, "axes": {"scheduler.num_blocks": [2, 4000], "max_model_len": [64, 8192]}}
    done = sweep(space, tmp_path / "out")
    assert (done.configurations, done.failed) == (4, 3)
    rows = table(tmp_path / "out").to_pylist()
    for row in rows:
        whole = row["scheduler.num_blocks"] == 4000 and row["max_model_len"] == 8192
        assert (row["error"] is None) == (row["latency.ttft.p50"] is not None) == whole
    assert "more than max_model_len 64" in next(row["error"] for row in rows if row["max_model_len"] == 64)


def test_all_failed(tmp_path: Path) -> None:
    space = {**SPACE, "axes": {"max_model_len": [32, 64]}}
    assert sweep(space, tmp_path / "out").failed == 2
    assert table(tmp_path / "out").column_names == ["max_model_len", "digest", "error"]
    assert sweep(space, tmp_path / "out").computed == 0


def rows(names: Iterable[int], error: str | None = None) -> list[dict[str, Any]]:
    figures = {} if error else {"latency.ttft.p50": 0.5}
    return [{"seed": name, "digest": str(name), "error": error, **figures} for name in names]


def dataset(folder: Path) -> Dataset:
    return Dataset(folder, {"seed": pa.int64()}, {"digest": "d", "varied": ["seed"]})


def test_errors_wait_for_the_columns_of_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastsim.sweeps.store.EVERY_S", 0)
    monkeypatch.setattr("fastsim.sweeps.store.SHARE", 0)
    with dataset(tmp_path / "out") as found:
        found.add(rows([1, 2], "no"))
        assert not list((tmp_path / "out").glob("part-*"))
        found.add(rows([3]))
        assert len(list((tmp_path / "out").glob("part-*"))) == 1
        found.add(rows([4], "no"))
    assert table(tmp_path / "out")["latency.ttft.p50"].to_pylist() == [None, None, 0.5, None]


def test_what_was_being_written_is_forgotten(tmp_path: Path) -> None:
    with dataset(tmp_path / "out") as found:
        found.add(rows([1]))
    (tmp_path / "out" / ".part-00001.parquet.77").write_bytes(b"PAR1")
    with dataset(tmp_path / "out") as found:
        assert found.done == {"1"}
        found.add(rows([2]))
    assert len(table(tmp_path / "out")) == 2
    assert not list((tmp_path / "out").glob(".part*"))


@pytest.mark.parametrize("size", [0, 10, 600])
def test_a_part_that_was_cut_off_is_put_aside(swept: Path, size: int, tmp_path: Path) -> None:
    out = tmp_path / "out"
    sweep(SPACE, out)
    part = sorted(out.glob("part-*.parquet"))[0]
    part.write_bytes(part.read_bytes()[:size])
    with pytest.warns(UserWarning, match=rf"{part.name}: is damaged .* computed again"):
        assert sweep(SPACE, out).computed > 0
    assert same(swept, out)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"fastsim": "0.1.0"}'])
def test_a_folder_whose_description_is_damaged(content: str, tmp_path: Path) -> None:
    (tmp_path / "_sweep.json").write_text(content)
    (tmp_path / "part-00000.parquet").touch()
    with pytest.raises(OutputError, match=r"_sweep.json: cannot be read; name another folder"):
        sweep(SPACE, tmp_path)


def test_a_folder_whose_description_was_not_written_to_the_end_is_used(tmp_path: Path) -> None:
    (tmp_path / "._sweep.json.0123456789abcdef").touch()
    (tmp_path / ".lock").touch()
    Dataset(tmp_path, {}, {"digest": "1"}).__exit__()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "_sweep.json"]


def test_a_folder_of_something_else(tmp_path: Path, swept: Path) -> None:
    other = {**SPACE, "axes": {"num_replicas": [1, 2, 3]}}
    with pytest.raises(OutputError, match=r"holds another sweep .*24 combinations of scheduler.policy, .*name another"):
        sweep(other, swept)
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(OutputError, match=r"holds thesis.txt and no sweep; name a new or an empty folder"):
        sweep(SPACE, tmp_path)
    with pytest.raises(OutputError, match="is a file, not a folder"):
        sweep(SPACE, tmp_path / "thesis.txt")
    with pytest.raises(OutputError, match="cannot be written"):
        sweep(SPACE, tmp_path / "thesis.txt" / "out")


def test_a_folder_without_any_row_can_be_used_again(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="none of 24 combinations is left"):
        sweep({**SPACE, "where": "num_replicas > 2"}, tmp_path / "out")
    assert sweep({**SPACE, "where": "num_replicas > 1"}, tmp_path / "out").computed == 12


def test_a_folder_of_another_version(swept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastsim.sweeps.store.__version__", "9.9.9")
    with pytest.raises(OutputError, match=r"by fastsim 0\..*, and this is 9.9.9; name another folder"):
        sweep(SPACE, swept)


def test_two_sweeps_do_not_write_into_one_folder(swept: Path) -> None:
    with (
        Dataset(swept, {}, {"digest": Space.load(SPACE).digest}),
        pytest.raises(OutputError, match="another sweep is writing into it"),
    ):
        sweep(SPACE, swept)


def test_the_digest_of_a_space_follows_its_files(tmp_path: Path) -> None:
    file = tmp_path / "requests.csv"
    spaces = []
    for tokens in (10, 11):
        file.write_text(f"arrived_at,num_prompt_tokens,num_output_tokens\n0,{tokens},5\n")
        spaces.append(Space.load({"workload": str(file), "axes": {"seed": [1]}}).digest)
    assert spaces[0] != spaces[1]
    assert Space.load(SPACE).digest == Space.load(dict(SPACE)).digest


def test_types_of_columns() -> None:
    assert column_type([True, None]) == pa.bool_()
    assert column_type([1, 2]) == pa.int64()
    assert column_type([1, 2.5, None]) == pa.float64()
    assert column_type(["x", None]) == pa.string()


def test_workers_and_a_client_are_too_much(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="one of client and workers"):
        sweep(SPACE, tmp_path, object(), workers=2)  # type: ignore[arg-type]


def test_threads_end_when_the_caller_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller that goes away stops the simulations under way, and no other begins."""
    begun = []
    original = batch.simulate

    def counted(*given: Any, **more: Any) -> Any:
        begun.append(1)
        return original(*given, **more)

    monkeypatch.setattr(sweeps, "simulate", counted)
    monkeypatch.setattr(batch, "MOST", 1)
    batches = batch.cut(Space.load(SPACE).configurations(), threads=2)
    results = sweeps.here(iter(batches), 2)
    next(results)
    results.close()
    assert len(begun) < len(batches) == 24


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_process_that_is_stopped_leaves_whole_files(how: signal.Signals, tmp_path: Path) -> None:
    """Behind a gate that stays shut, the process cannot end before the signal arrives."""
    out, file, threads = tmp_path / "out", tmp_path / "space.yaml", os.cpu_count() or 1
    gate = Gate(tmp_path, free=threads * batch.MOST)  # at least one thread finishes a batch
    axes = f"{{scheduler.max_num_seqs: [64, 128], seed: {{from: 1, to: {gate.free}, step: 1}}}}"
    file.write_text(f"workload: {{source: chat, rate: 4, num_requests: 200, seed: 0}}\naxes: {axes}\n")
    command = [sys.executable, "-m", "fastsim", "sweep", str(file), "--out", str(out)]
    process = subprocess.Popen(command, env=gate.environment, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    while not list(out.glob("part-*.parquet")):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(how)
    _, said = process.communicate(timeout=60)
    assert process.returncode == (-how if how is signal.SIGKILL else 128 + how)
    if how is not signal.SIGKILL:
        assert said.strip() == f"fastsim: interrupted; {out} holds what is done, and the same command resumes"
    left = table(out)["digest"].to_pylist()
    assert 0 < len(left) == len(set(left)) <= gate.free
    with Dataset(out, {}, {"digest": Space.load(file).digest}) as again:
        assert again.done == set(left)


def test_the_command(tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text(json.dumps({**SPACE, "where": "num_gpus == 1"}))
    out = str(tmp_path / "out")
    done = CliRunner().invoke(cli, ["sweep", str(tmp_path / "space.yaml"), "--out", out], catch_exceptions=False)
    assert done.exit_code == 0
    assert f"12 configurations in {out}\n" in done.output
    assert "Dropped 12: where num_gpus == 1 (e.g. data_parallel_size=1, num_replicas=2" in done.output


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (["nowhere.yaml"], "nowhere.yaml: no such file"),
        (["space.yaml", "--workers", "2", "--dask", "tcp://127.0.0.1:1"], "give only one of them"),
        (["space.yaml", "--dask", "nowhere.json"], "--dask nowhere.json: neither an address nor a scheduler file"),
        (["space.yaml", "--workers", "0"], "--workers"),
    ],
)
def test_bad_input_is_one_sentence(given: list[str], sentence: str, tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text(json.dumps(SPACE))
    command = [sys.executable, "-m", "fastsim", "sweep", *given, "--out", "out"]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr

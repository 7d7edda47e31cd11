"""`fastsim trace`: describe, convert, synthesise."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fastsim.cli.trace import trace
from fastsim.errors import ConfigError, OutputError, WorkloadError
from fastsim.workload.loading import load


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(trace, [*map(str, arguments)], catch_exceptions=False)


def failed(*arguments: str | Path) -> BaseException | None:
    return CliRunner().invoke(trace, [*map(str, arguments)]).exception


def test_describe(tmp_path: Path) -> None:
    path = tmp_path / "requests.csv"
    path.write_text("arrived_at,num_prompt_tokens,num_output_tokens\n0,1000,10\n2,3000,20\n")
    shown = run("describe", path).output
    assert "2 requests in 2 s, 0.5 requests/s" in shown.replace("\n", " ")
    rows = {line[:16].strip(): line[16:].split() for line in shown.splitlines()}
    assert rows["prompt tokens"] == ["2,000", "2,000", "2,800", "2,980", "3,000", "4,000"]
    assert rows["output tokens"][0] == "15"
    assert rows["prompt : output"][:2] == ["125", "125"]


def test_layouts_and_what_was_left_out_are_said(tmp_path: Path) -> None:
    path = tmp_path / "mooncake.jsonl"
    path.write_text(
        '{"timestamp": 0, "input_length": 1030, "output_length": 5, "hash_ids": [0, 1, 2]}\n'
        '{"timestamp": 500, "input_length": 1030, "output_length": 5, "hash_ids": [0, 3, 4]}\n'
        '{"timestamp": 900, "input_length": 1030, "output_length": 0, "hash_ids": [0, 1, 2]}\n'
    )
    said = run("describe", path)
    assert "2 requests in 0.5 s" in said.stdout.replace("\n", " ")
    assert "Layout: Mooncake\nBlocks: 4 hashes of blocks of 512 tokens, 3 of them different; 50.0 % of" in said.stdout
    assert said.stdout.splitlines()[-1].count("24.9 %") == 6
    assert "1 request without output is left out" in said.stderr
    said = run("convert", path, tmp_path / "requests.csv")
    assert "the layout is Mooncake" in said.stderr.replace("\n", " ")
    assert "CSV has no lists, so the hashes of blocks are left out" in said.stderr.replace("\n", " ")
    assert "500 s, 0.002 requests/s" in run("describe", path, "--unit", "s").stdout.replace("\n", " ")


def test_sessions_are_said(tmp_path: Path) -> None:
    path = tmp_path / "requests.csv"
    path.write_text(
        "arrived_at,num_prompt_tokens,num_output_tokens,session_id,think_time\n0,100,10,1,\n0,100,10,2,\n,150,10,1,3\n"
    )
    said = run("describe", path).stdout.replace("\n", " ")
    assert "Sessions: 2 with 1.5 turns on average, 2 at most; think times of 3 s on average, 3 s in the median" in said
    assert "40 new prompt tokens in a later turn's median" in said


def test_describe_as_json() -> None:
    figures = json.loads(run("describe", "chat", "--json").output)
    assert figures == load("chat").describe()


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
def test_convert_keeps_the_stream(tmp_path: Path, suffix: str) -> None:
    source, target = tmp_path / "azure.csv", tmp_path / "new" / f"requests{suffix}"
    source.write_text("arrived_at,num_prefill_tokens,num_decode_tokens\n0.1,1000,10\n0.30000000000000004,3000,20\n")
    said = run("convert", source, target)
    assert said.stdout == ""
    assert "the layout is Vidur's" in said.stderr.replace("\n", " ")
    assert load(target).digest == load(source).digest
    assert [one.name for one in target.parent.iterdir()] == [target.name]


def test_convert_to_standard_output(tmp_path: Path) -> None:
    source = tmp_path / "azure.csv"
    source.write_text("arrived_at,num_prefill_tokens,num_decode_tokens,replica_id\n0.1,1000,10,2\n")
    expected = "arrived_at,num_prompt_tokens,num_output_tokens,replica_id\n0.1,1000,10,2\n"
    assert run("convert", source).stdout == expected


def test_synthesise(tmp_path: Path) -> None:
    target = tmp_path / "requests.parquet"
    run("synthesise", "code", "--requests", "50", "--rate", "4", "--seed", "7", "--out", target)
    assert load(target).digest == load("code", num_requests=50, rate=4.0, seed=7).digest
    lines = run("synthesise", "chat", "--requests", "5").output.splitlines()
    assert lines[0] == "arrived_at,num_prompt_tokens,num_output_tokens"
    assert len(lines) == 6


def test_faults_are_for_the_main_command_to_tell(tmp_path: Path) -> None:
    assert isinstance(failed("describe", tmp_path / "none.csv"), WorkloadError)
    assert isinstance(failed("synthesise", "chatt"), ConfigError)
    assert isinstance(failed("synthesise", "chat", "--rate", "0"), WorkloadError)
    target = tmp_path / "requests.txt"
    assert "not in .csv, .parquet, .jsonl" in str(failed("synthesise", "chat", "--out", target))
    (tmp_path / "folder.csv").mkdir()
    assert isinstance(failed("synthesise", "chat", "--out", tmp_path / "folder.csv"), OutputError)
    assert isinstance(failed("synthesise", "chat", "--out", tmp_path / "folder.csv" / "a.csv" / "b.csv"), type(None))
    assert isinstance(
        failed("synthesise", "chat", "--out", tmp_path / "folder.csv" / "a.csv" / "b.csv" / "c.csv"), OutputError
    )


def test_a_failed_write_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "requests.jsonl"
    target.write_text("as it was")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fastsim.workload.write._slices", full)
    error = failed("synthesise", "chat", "--out", target)
    assert isinstance(error, OutputError)
    assert str(error).startswith(f"{target}: cannot be written (No space left on device)")
    assert [one.name for one in tmp_path.iterdir()] == [target.name]
    assert target.read_text() == "as it was"


def test_synthesise_like_a_trace(tmp_path: Path) -> None:
    source, target = tmp_path / "trace.jsonl", tmp_path / "drawn.parquet"
    line = '{{"timestamp": {}, "input_length": {}, "output_length": {}, "hash_ids": [{}]}}\n'
    source.write_text("".join(line.format(100 * k, 520 + 7 * k, k % 9 + 1, k % 2) for k in range(60)))
    said = run("synthesise", "--like", source, "--requests", "80", "--seed", "3", "--out", target)
    assert "Kolmogorov-Smirnov distances: prompt tokens" in said.stdout
    assert "prompt tokens that an unbounded prefix cache hits" in said.stdout
    drawn = load(target)
    assert (drawn.num_requests, drawn.block_hashes is not None) == (80, True)
    said = run("synthesise", "--like", source, "--unit", "s", "--rate", "4")
    assert len(said.stdout.splitlines()) == 61 and "rank correlation" in said.stderr
    for arguments in ((), ("chat", "--like", source), ("chat", "--unit", "s")):
        assert isinstance(failed("synthesise", *arguments), ConfigError)


def test_synthesise_prefixes_sessions_and_tenants(tmp_path: Path) -> None:
    path = tmp_path / "mixed.yaml"
    path.write_text(
        "lengths: {kind: fixed, num_prompt_tokens: 40, num_output_tokens: 9}\n"
        "gaps: {kind: weibull, rate: 2, shape: 0.7}\n"
        "tenants:\n"
        "  - {name: chat, share: 1, prefix: {kind: system_prompt, num_tokens: 64}, sessions: {turns: 3}}\n"
        "  - {name: batch, share: 1, priority: 5}\n"
    )
    run("synthesise", path, "--requests", "30", "--out", tmp_path / "mixed.parquet")
    stream = load(tmp_path / "mixed.parquet")
    assert stream.digest == load(path, num_requests=30).digest
    assert stream.tenant is not None and set(stream.tenant) == {"chat", "batch"}
    assert "Requests by tenant: " in run("describe", tmp_path / "mixed.parquet").output
    assert sum(stream.describe()["tenants"].values()) == 30
    assert "lists" in run("synthesise", path, "--requests", "30", "--out", tmp_path / "mixed.csv").stderr

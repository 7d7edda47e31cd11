"""The leaderboard of bench/fidelity: what is replayed, what is scored, and what is written, on files of a few rows."""

import csv
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from fidelity import (
    ablation,
    board,
    loop_runs,
    recorded_runs,
    serving_runs,
    stand_ins,
    throughput_runs,
)
from fidelity.replay import Replayed, replayed
from fidelity.runs import Row
from fidelity.scores import score

from fastsim.catalog import load

GROUNDTRUTH = Path(__file__).resolve().parents[2] / "shared" / "groundtruth"
LOOP = {
    "backend": "vllm",
    "backend_version": "0.12.0",
    "model_path": "meta-llama/Llama-3.1-8B",
    "system": "h100_sxm",
    "isl": "64",
    "osl": "8",
    "gemm_quant_mode": "",
    "tp_size": "1.0",
    "pp_size": "1.0",
    "attention_dp_size": "",
    "moe_tp_size": "1.0",
    "moe_ep_size": "1.0",
    "silicon_ttft_ms": "20.0",
    "silicon_tpot_ms": "7.0",
    "concurrency": "2.0",
    "origin": "nvidia_internal_sweep",
}
PRESET = {
    "system_prompt_len": 32,
    "question_len": 20,
    "output_len": 4,
    "stages": [{"rate": 5, "duration_s": 20}, {"rate": 10, "duration_s": 30}],
}


def loops(folder: Path, *rows: dict[str, str]) -> Path:
    path = folder / loop_runs.FOLDER / "measured.csv"
    path.parent.mkdir()
    with path.open("w") as file:
        writer = csv.DictWriter(file, LOOP)
        writer.writeheader()
        writer.writerows({**LOOP, **row} for row in rows)
    return path


def test_intervals_hold_what_was_measured_or_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A TPOT about as it is predicted, and one ten times as long."""
    loops(tmp_path, {"silicon_tpot_ms": "7.4"}, {"silicon_tpot_ms": "74", "concurrency": "3"})
    assert board.main([str(tmp_path), "--draws", "1", "--intervals", "8"]) == 0
    *_, tpot_share, _, _, _, _ = capsys.readouterr().out.splitlines()[2].split()
    assert tpot_share == "50"


def test_a_row_is_replayed_scored_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    unfit = {"model_path": "meta-llama/Llama-3.1-405B", "concurrency": "3"}
    path = loops(tmp_path, {}, unfit)
    assert board.main([str(tmp_path), "--draws", "1", "--out", str(tmp_path / "out" / "result.json")]) == 0
    printed = capsys.readouterr().out
    assert "closed loop, vLLM 0.12, Llama-3.1-8B bf16, H100" in printed
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    inputs = {f"{loop_runs.FOLDER}/measured.csv": hashlib.sha256(path.read_bytes()).hexdigest()}
    assert result["inputs"] == inputs and result["draws"] == 1
    large, small = result["sets"]
    assert large["rows"] == [] and any("405B needs" in why for why in large["left_out"])
    (row,) = small["rows"]
    measured, predicted = row["tpot_mean"]
    assert measured == 0.007 and row["split"] == "tested"
    assert small["errors"]["tpot_mean"]["signed"] == pytest.approx(100 * (predicted / measured - 1), abs=0.01)
    assert 0.002 < predicted < 0.02  # of a model of 16 GB on 3.35 TB/s


def test_only_what_was_asked_for_is_replayed_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loops(tmp_path, {}, {"system": "h200_sxm"})
    before = sorted(board.DATA.glob("*"))
    assert board.main([str(tmp_path), "--only", "h200", "--rows"]) == 0
    printed = capsys.readouterr().out
    assert "H200" in printed and "H100" not in printed and "64/8 TP1, 2 users" in printed
    assert sorted(board.DATA.glob("*")) == before


def test_a_term_that_is_left_out_comes_back(tmp_path: Path) -> None:
    """An engine without asynchronous scheduling waits for its host."""
    loops(tmp_path, {"system": "a100_sxm"})
    (run,) = board.run_sets(tmp_path, 1, "")[0].runs

    def tpot() -> float:
        (found,), _ = replayed([run])
        return found.predicted["tpot_mean"]

    whole, less = tpot(), {}
    for term in ablation.TERMS:
        with ablation.without(term):
            less[term] = tpot()
    assert tpot() == whole and less["async_host"] == less["hidden_host"] == less["eager"] == less["front_end"] == whole
    assert less["host"] == pytest.approx(whole - 0.74e-3, rel=0.01)  # of two requests
    assert less["sampler"] < whole
    with ablation.without("mixed_decode"):
        assert load.load_device("a100").mixed_decode == 1.0
    assert load.load_device("a100").mixed_decode == 2.2


def test_offline_throughput_is_of_as_many_requests_as_fit() -> None:
    dense, experts, ranks = throughput_runs.throughput_runs()
    assert len(dense.runs) + len(experts.runs) == 68 and len(ranks.runs) == 16
    assert all(run.fields["data_parallel_size"] == 8 for run in ranks.runs)
    fits = {run.rows[0].name: run.fields["scheduler"]["max_num_seqs"] for run in dense.runs}
    assert fits["Llama-3.1-8B fp8 h100 128/128"] == 2048 > fits["Llama-3.1-8B fp8 h100 2048/2048"] > 100


@pytest.mark.parametrize(
    ("arguments", "sentence"), [((), "has none of the folders"), (("--draws", "0"), "--draws: 0 is not a positive")]
)
def test_mistakes_end_in_a_sentence(
    arguments: tuple[str, ...], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if arguments:
        loops(tmp_path, {})
    assert board.main([str(tmp_path), *arguments]) == 2
    printed = capsys.readouterr()
    assert sentence in printed.err and printed.err.count("\n") == 1 and not printed.out


def test_a_file_that_lacks_a_column_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = loops(tmp_path, {})
    path.write_text("backend,model_path\nvllm,x\n")
    assert board.main([str(tmp_path)]) == 2
    assert "cannot be read" in capsys.readouterr().err


def test_scores_are_signed_absolute_and_median() -> None:
    rows = [Replayed(Row("", {"x": 10.0}), {"x": value}, {}, {}) for value in (9.0, 12.0, 16.0)]
    found = score(rows, "x")
    assert found is not None and str(found) == "+23.3/30.0/20.0"
    assert str(score(rows[:1], "x")) == "-10.0" and score(rows, "y") is None


def test_prompts_recur_and_stages_have_their_length() -> None:
    """The same prompt comes every 100 requests; those of its group share the system prompt, others nothing."""
    workload = serving_runs.requests(PRESET, 52, "small", seed=3)
    stages = serving_runs.stages_of(PRESET)
    assert workload.num_requests == len(stages) == 400
    assert workload.arrived_at[99] == pytest.approx(20) and workload.arrived_at[-1] == pytest.approx(50)
    hashes = workload.block_hashes
    assert hashes is not None
    assert (hashes[0] == hashes[100]).all() and len(hashes[0]) == 52 // 16
    assert (hashes[0][:2] == hashes[9][:2]).all() and hashes[0][2] != hashes[9][2]
    assert not np.intersect1d(hashes[9], hashes[10]).size


def test_all_measured_rows_are_read() -> None:
    """As many as the files have, with the split that the coefficients of today were fitted by."""
    if not GROUNDTRUTH.exists():
        pytest.skip("needs the measured runs")
    readers = (serving_runs.serving_runs, recorded_runs.recorded_runs, loop_runs.loop_runs)
    rows, left_out = [], 0
    for read in readers:
        for one in read(GROUNDTRUTH, 1):
            rows += [row for run in one.runs for row in run.rows]
            left_out += len(one.left_out)
    with (GROUNDTRUTH / loop_runs.FOLDER / "measured.csv").open() as file:
        of_loops = sum(1 for _ in csv.DictReader(file))
    assert len(rows) + left_out == 44 + 2 + of_loops
    assert sum(row.fitted for row in rows) == 6 + 1 + 9 + 11 + 2


def test_rows_of_sglang_are_scheduled_in_several_ways(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every way keeps the row's users and GPUs, and one that is not chosen is not printed."""
    loops(tmp_path, {"backend": "sglang", "backend_version": "0.5.6"}, {})
    (run,) = (run for one in loop_runs.loop_runs(tmp_path, 1) if "SGLang" in one.title for run in one.runs)
    assert {stand_ins.WAYS[way](run)["tensor_parallel_size"] for way in stand_ins.WAYS} == {1}
    assert stand_ins.WAYS["sglang-mixed"](run)["scheduler"]["max_running_requests"] == 2
    stand_ins.main([str(tmp_path), "--as", "vllm-v0", "sglang", "--by", "users"])
    shown = capsys.readouterr().out
    assert "users 2, as vllm-v0" in shown
    assert "users 2, as sglang" in shown
    assert "sarathi" not in shown
    assert "vLLM 0.12" not in shown

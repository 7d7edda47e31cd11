"""Known coefficients are found within intervals; what cannot be told apart is left; bad input is refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from calibration_runs import BENT, TRUE, batches, requests_file, seconds, steps_file

import fastsim
from fastsim.calibration import engine_log, steps
from fastsim.calibration.affine import seconds_of
from fastsim.calibration.bounded import solve
from fastsim.calibration.calibrate import calibrate
from fastsim.calibration.gather import gathered
from fastsim.calibration.observed import Observed
from fastsim.calibration.recorder import text
from fastsim.calibration.written import save
from fastsim.cli import run
from fastsim.deployment.calibration import Calibration, load
from fastsim.deployment.description import Deployment
from fastsim.deployment.resolve import resolve
from fastsim.errors import ConfigError, InputError, WorkloadError

ROOT = Path(__file__).resolve().parents[2]
RECORDED = ROOT / "tests" / "data" / "vllm_cpu"
FIELDS: dict[str, Any] = {
    "model": "meta-llama/Meta-Llama-3-8B",
    "device": "h100",
    "engine": "vllm-0.33",
    "max_model_len": 4096,
    "scheduler": {"max_num_seqs": 64, "num_blocks": 4000, "async_scheduling": False, "enable_prefix_caching": False},
    "predictor": {"source": "affine"},
}
SERVED = Deployment.load(FIELDS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with recorded steps."""
    made = tmp_path_factory.mktemp("run")
    steps_file(made)
    return made


@pytest.fixture(scope="module")
def made(folder: Path) -> Calibration:
    """What is found on them."""
    return calibrate(gathered(folder, None, None, None, None), SERVED).calibration


def test_terms_are_found_within_their_intervals(made: Calibration) -> None:
    found = {one.name: one for one in made.coefficients}
    assert found["per_token_ns"].left == "the data cannot tell it apart from how times bend with the number of tokens"
    for name in ("per_sequence_ns", "per_context_token_ns", "per_prefill_token_ns", "per_attention_pair_ns"):
        low, high = found[name].low, found[name].high
        assert low is not None and high is not None and low < high
        # Means hold the pauses, of which the truth knows nothing: up to 6 % of the time.
        assert low / 1.06 <= TRUE[name] <= high, name
        assert found[name].value == pytest.approx(TRUE[name], rel=0.1)
    assert made.affine is not None and made.affine.by_tokens_ns is not None
    held = {one.name: one.error for one in made.held_out}
    assert abs(held["time of all steps"]) < 0.01 and held["time of a step, median distance"] < 0.05


def test_times_bend_where_they_do(made: Calibration) -> None:
    """Of batches with as many decodes as never were together, to 3 %, the pauses aside."""
    assert made.affine is not None
    of = batches(500, seed=9)
    counts: dict[str, Any] = {name: one.astype(np.float64) for name, one in of.items()}
    unseen = steps.Steps("", np.zeros(500), np.ones(500), **counts)
    true, ours = seconds(of, TRUE, BENT), seconds_of(made.affine, unseen)
    for number in range(1, 16):
        alone = (of["num_decode_seqs"] == number) & (of["num_prefill_seqs"] == 0)
        assert ours[alone].mean() / true[alone].mean() == pytest.approx(1.03, abs=0.04), number


def test_a_calibration_is_written_named_and_repeated(made: Calibration, tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    save(made, file)
    assert load(file) == made and load(file).digest == made.digest
    named = SERVED.model_copy(update={"calibration": str(file)})
    chat = fastsim.load_workload("chat", rate=2.0, num_requests=30)
    result = fastsim.simulate(named, chat)
    assert made.affine is not None
    assert result.config["predictor"]["affine"] == made.affine.model_dump()
    assert result.config["predictor"]["calibration"] == {"sha256": made.digest}
    result.save(tmp_path / "result")
    file.unlink()
    again = Deployment.load(tmp_path / "result" / "config.json")
    assert again.calibration == made
    assert fastsim.simulate(again, chat).requests.equals(result.requests)


def test_what_a_deployment_says_itself_goes_first(made: Calibration) -> None:
    logged = made.model_copy(update={"front_end_ms": 4.5, "num_blocks": 2000})
    fields = {**FIELDS, "scheduler": {"max_num_seqs": 64}}
    one = resolve(Deployment.load(fields | {"calibration": logged}))
    assert (one.deployment.front_end_ms, one.memory.num_blocks) == (4.5, 2000)
    two = resolve(Deployment.load(FIELDS | {"calibration": logged, "front_end_ms": 1.0}))
    assert (two.deployment.front_end_ms, two.memory.num_blocks) == (1.0, 4000)
    other = resolve(Deployment.load(FIELDS | {"calibration": logged, "device": "a100"}))
    assert other.warnings == ("calibration: was fitted with device h100, not a100",)


def test_a_restart_needs_only_the_time_of_every_step(folder: Path, made: Calibration, tmp_path: Path) -> None:
    took = pq.read_table(folder / "steps.parquet")["start"].to_numpy() + 7e-4 * np.arange(3000)
    late = gathered(steps_file(tmp_path, start=took), None, None, None, None)
    again = calibrate(late, SERVED, made).calibration
    assert again.affine is not None and made.affine is not None
    assert again.affine.constant_ns - made.affine.constant_ns == pytest.approx(7e5, rel=0.1)
    assert again.affine.model_copy(update={"constant_ns": made.affine.constant_ns}) == made.affine


def test_requests_alone_tell_what_a_step_costs(tmp_path: Path) -> None:
    """A run that was simulated is found again, and its latencies with it."""
    affine = {"constant_ns": 7e6, "per_token_ns": 2.4e5, "per_context_token_ns": 1000.0, "per_attention_pair_ns": 200.0}
    true = Deployment.load(FIELDS | {"front_end_ms": 5.0, "predictor": {"source": "affine", "affine": affine}})
    rng = np.random.default_rng(1)
    lengths = rng.integers(20, 900, 150), rng.integers(2, 120, 150)
    stream = fastsim.Workload(np.cumsum(rng.exponential(0.5, 150)), *lengths)
    file = requests_file(fastsim.simulate(true, stream), tmp_path)
    found = calibrate(gathered(file, None, None, None, None), SERVED)
    known = {one.name: one for one in found.calibration.coefficients}
    for name, value in (affine | {"front_end_ms": 5.0}).items():
        low, high = known[name].low, known[name].high
        assert low is not None and high is not None and low <= value <= high, name
    assert known["constant_ns"].value == pytest.approx(7e6, rel=0.1)
    assert all(abs(error) < 0.01 for error in found.errors.values())
    assert {one.name for one in found.calibration.held_out} == set(found.errors)


def test_every_batch_takes_time_whatever_is_fitted(tmp_path: Path) -> None:
    """Times that fall as batches grow, as no engine's do, still make a deployment that runs."""
    of = batches(400)
    tokens = of["num_prefill_tokens"] + of["num_decode_seqs"]
    start = np.concatenate([[0.0], np.cumsum(np.where(tokens < 8, 0.02, 0.0001))[:-1]])
    found = calibrate(gathered(steps_file(tmp_path, 400, start=start), None, None, None, None), SERVED).calibration
    assert found.affine is not None and found.affine.by_tokens_ns is not None
    assert resolve(Deployment.load(FIELDS | {"calibration": found})).predictor.affine == found.affine


def test_steps_that_overlap_last_from_end_to_end(tmp_path: Path) -> None:
    """As with asynchronous scheduling: each is scheduled while the one before it runs."""
    took = seconds(batches(300), TRUE, BENT)
    end = np.cumsum(took)
    start = np.concatenate([[0.0], end[:-1] - 0.5 * np.minimum(took[:-1], took[1:])])
    found = steps.read(steps_file(tmp_path, 300, start=start, end=end))
    assert len(found) == 299 and found.seconds == pytest.approx(took[1:])


def test_idle_times_are_left_out(tmp_path: Path) -> None:
    """Calls that scheduled nothing leave gaps in the numbers of steps."""
    numbers = np.arange(300) + (np.arange(300) >= 200)
    file = steps_file(tmp_path, 300, step=numbers)
    found = steps.read(file)
    assert len(found) == 298 and found.notes == ("2 of 300 steps are left out, whose times hold waits of the engine",)
    pyarrow.csv.write_csv(pq.read_table(file), tmp_path / "steps.csv")
    assert steps.read(tmp_path / "steps.csv").seconds.tolist() == pytest.approx(found.seconds.tolist())


LINE = (
    "INFO 11-29 02:23:{} [loggers.py:123] Engine 000: Avg prompt throughput: {} tokens/s, Avg generation throughput: "
    "{} tokens/s, Running: {} reqs, Waiting: {} reqs, GPU KV cache usage: 0.3%, Prefix cache hit rate: 0.0%\n"
)
LOG = "INFO 11-29 02:20:01 [kv_cache_utils.py:1229] GPU KV cache size: 415,800 tokens\n"
LOG += LINE.format(11, 103.9, 9.6, 3, 1) + LINE.format(21, 0.0, 90.6, 5, 0) + LINE.format(31, 0.0, 0.0, 0, 0)


def test_the_log_of_an_engine_says_its_blocks(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "vllm.log").write_text(LOG)
    log = engine_log.read(tmp_path / "vllm.log")
    assert (log.kv_tokens, log.running, log.waiting, log.lines) == (415_800, 4.0, 0.5, 2)
    assert log.num_blocks(16) == 415_800 // 16 - 1
    observed = gathered(folder, None, tmp_path / "vllm.log", None, None)
    blocks = Deployment.load(FIELDS | {"scheduler": {**FIELDS["scheduler"], "num_blocks": None}})
    logged = calibrate(observed, blocks).calibration
    assert logged.num_blocks == 25_986
    assert "2 lines of statistics with requests, 4 running and 0.5 waiting on average" in logged.notes[-1]


@pytest.mark.parametrize("seed", range(30))
def test_least_squares_within_bounds_are_the_best(seed: int) -> None:
    """No coefficient can be moved within its bounds so that the sum of squares falls."""
    rng = np.random.default_rng(seed)
    columns = rng.normal(size=(40, 6)) @ np.diag(10.0 ** rng.integers(-3, 4, 6))
    target = rng.normal(size=40) * 5
    low = np.where(rng.random(6) < 0.3, -np.inf, -rng.uniform(0, 0.2, 6))
    high = np.where(rng.random(6) < 0.3, np.inf, rng.uniform(0, 0.2, 6))
    found = solve(columns.T @ columns, columns.T @ target, low, high)
    assert ((found >= low) & (found <= high)).all()
    slope = columns.T @ (target - columns @ found) / np.linalg.norm(columns, axis=0)
    assert (np.where(found > low, -slope, 0) < 1e-6).all() and (np.where(found < high, slope, 0) < 1e-6).all()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"decode_context_tokens": None}, "no column decode_context_tokens"),
        ({"step": None}, "neither a column step nor end"),
        ({"num_decode_seqs": np.full(300, -1)}, "row 1: num_decode_seqs: -1 is not a number from 0 up"),
        ({"start": np.zeros(300) - np.arange(300)}, "row 2: start: -1 is not after that of the row before it"),
        ({"step": 2 * np.arange(300)}, "0 steps with a time, and 100 are needed at least"),
    ],
)
def test_bad_steps_are_refused(changed: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(WorkloadError) as caught:
        steps.read(steps_file(tmp_path, 300, **changed))
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_bad_calibrations_are_refused(made: Calibration, tmp_path: Path) -> None:
    def said(fields: dict[str, Any]) -> str:
        with pytest.raises(InputError) as caught:
            resolve(Deployment.load(fields))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    (tmp_path / "no.yaml").write_text("model: a\n")
    (tmp_path / "old.yaml").write_text("format: 7\nsource: affine\n")
    assert "c.yaml: no such file" in said(FIELDS | {"calibration": str(tmp_path / "c.yaml")})
    assert "is no calibration" in said(FIELDS | {"calibration": str(tmp_path / "no.yaml")})
    assert "format: 7 is not known here (valid: 1)" in said(FIELDS | {"calibration": str(tmp_path / "old.yaml")})
    assert "'7' is not the name of a calibration (e.g. calibration.yaml)" in said(FIELDS | {"calibration": 7})
    unlike = FIELDS | {"calibration": made, "predictor": {"source": "default"}}
    assert "fitted with operator times from source affine, not default (valid: predictor.source=affine)" in said(unlike)
    twice = FIELDS | {"calibration": made, "predictor": {"source": "affine", "affine": {"constant_ns": 1.0}}}
    assert "has other terms; leave out either calibration or these" in said(twice)
    wrong = made.model_dump(mode="json") | {"front_end_ms": -1}
    assert "front_end_ms: -1 is not a number from 0 up to 60000" in said(FIELDS | {"calibration": wrong})


def test_what_cannot_be_fitted_is_refused(folder: Path, made: Calibration, tmp_path: Path) -> None:
    observed = gathered(folder, None, None, None, None)
    with pytest.raises(ConfigError, match="'vidur:x' cannot be calibrated"):
        calibrate(observed, Deployment.load(FIELDS | {"predictor": {"source": "vidur:x"}}))
    with pytest.raises(ConfigError, match="the deployment has one already"):
        calibrate(observed, Deployment.load(FIELDS | {"calibration": made}))
    (tmp_path / "log").write_text("nothing\n")
    with pytest.raises(WorkloadError, match="no line of vLLM says its KV cache or statistics"):
        engine_log.read(tmp_path / "log")
    few = gathered(RECORDED, None, None, None, None).requests
    assert few is not None
    with pytest.raises(WorkloadError, match="requests with latencies, and 30 are needed at least"):
        calibrate(Observed(few, None, chosen=np.arange(few.workload.num_requests) < 20), SERVED)


def test_the_command_writes_a_calibration_that_validates(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    deployment = tmp_path / "d.yaml"
    deployment.write_text(json.dumps(FIELDS))
    arguments = ["calibrate", str(folder), "--deployment", str(deployment), "--out", str(tmp_path / "c.yaml")]
    assert run(arguments) == 0
    said = capsys.readouterr().out
    assert "per_attention_pair_ns" in said and "per_token_ns is left at 0: the data cannot tell it apart from" in said
    assert "time of all steps" in said and "a deployment takes it with calibration:" in said
    assert run([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["digest"] == load(tmp_path / "c.yaml").digest
    shutil.copy(tmp_path / "c.yaml", tmp_path / "again.yaml")
    assert (
        run(["simulate", str(deployment), "--set", f"calibration={tmp_path / 'again.yaml'}", "--requests", "20"]) == 0
    )
    assert run(["calibrate", str(folder), "--deployment", str(deployment), "--from", str(deployment)]) == 2
    assert "is no calibration" in capsys.readouterr().err
    assert run(["calibrate"]) == 2


def test_the_recorder_is_python_that_names_every_column(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["calibrate", "--recorder"]) == 0
    printed = capsys.readouterr().out
    assert printed == text()
    compile(printed, "fastsim_recorder.py", "exec")
    names: dict[str, Any] = {"__name__": "fastsim_recorder"}
    exec(printed, names)  # defines functions; vLLM is imported when it registers
    assert {steps.START, steps.END, steps.STEP, steps.BLOCKS, *steps.COUNTS} <= {*names["COLUMNS"]}

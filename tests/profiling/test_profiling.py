"""A profile for real, on the CPU: plan -> measure -> train -> ONNX -> simulate; killed, resumed, refused."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from fastsim import Deployment, load_workload, simulate
from fastsim.catalog.load import load_device, load_model
from fastsim.deployment.operators.decoder import operators
from fastsim.errors import ConfigError, InputError, OutputError, TableError
from fastsim.predictors.forests import cache
from fastsim.predictors.forests.train import train_source
from fastsim.predictors.measurements import profile as rows_of
from fastsim.predictors.measurements.small_kernels import elementwise
from fastsim.profiling.case import SHAPES, Case, Measured, Skipped
from fastsim.profiling.plan import Limits, Plan, limits, plan, tokens
from fastsim.profiling.store import ASKED, Row, Store, held

torch = pytest.importorskip("torch", reason="pip install 'fastsim[profile]'")

from fastsim.profiling import session  # noqa: E402  after the skip
from fastsim.profiling.session import Asked, least_certain, profile  # noqa: E402

SMALL = Limits(1e7, 2e6, 4)
NAN = float("nan")
ABOUT: dict[str, Any] = {
    "system": "toy",
    "name": "toy",
    "model": None,
    "tensor_parallel_sizes": [],
    "precisions": ["bf16"],
}
ABOUT |= {"seed": 0, "torch": "2"}
MACHINE = {"name": "toy", "torch": "2"}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # two threads wait for each other on a busy machine
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("model") / "config.json"
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 64, "num_hidden_layers": 2}
    config |= {"num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 128, "vocab_size": 256}
    path.write_text(json.dumps(config | {"max_position_embeddings": 8192, "torch_dtype": "bfloat16"}))
    return str(path)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few and small cases, so that a profile ends by itself."""
    monkeypatch.setattr(session, "limits", lambda machine: SMALL)
    monkeypatch.setattr(session, "LONGEST", 0.002)
    monkeypatch.setattr(session, "SHORTEST", 0.001)


def measured(ms: float = 1.0, flags: str = "") -> Measured:
    return Measured(ms, ms, ms, 3, False, NAN, NAN, flags)


def planned(model: str, seed: int = 0, limit: Limits = SMALL) -> Plan:
    shape = load_model(model)
    return plan([operators(shape, 1)], shape.vocab_size, ["bf16"], "cpu", limit, seed)


def command(model: str, out: Path) -> list[str]:
    return ["profile", "--device", "cpu", "--model", model, "--tp", "1", "--minutes", "60", "--out", str(out)]


def test_a_plan_is_drawn_from_its_seed_and_stays_within_its_limits(model: str) -> None:
    one, again, other = planned(model), planned(model), planned(model, seed=1)
    assert one == again
    assert one.coarse != other.coarse and set(one.coarse) == set(other.coarse)
    assert len(set(one.coarse) | set(one.candidates)) == len(one.coarse) + len(one.candidates)
    assert {"gemm", "decode_attention", "prefill_attention", "chunk_attention", "decode_skewed"} <= {
        case.family for case in one.coarse
    }
    for case in (*one.coarse, *one.candidates):
        assert len(case.shape) == len(SHAPES[case.family])
        if case.family == "gemm":
            assert 2 * np.prod(case.shape) <= SMALL.flops
    assert len(planned(model, limit=Limits(2e9, 1e8, 4)).coarse) > len(one.coarse)


def test_candidates_stand_on_both_sides_of_tiles_and_waves() -> None:
    found = tokens(132, 4096)
    assert {64, 65, 128, 129, 256, 257, 1024, 1025} <= set(found)
    wave = 132 // (4096 // 128) * 128  # rows whose 128 x 128 tiles fill 132 SMs
    assert {wave, wave + 1} <= set(found)


def test_any_model_has_a_plan_within_what_a_gpu_measures_in_minutes() -> None:
    machine = {"memory_gb": 141.0, "num_sms": 132.0, "gpus": 4.0}
    assert limits(machine).ranks == (2, 4)
    found = plan([], 0, ["bf16"], "cpu", limits(machine), 0)
    assert 1000 < len(found.coarse) < 6000
    assert "all_reduce" in {case.family for case in found.coarse} or any("all_reduce" in k for k in found.unavailable)


def test_a_missing_backend_is_said_and_the_rest_is_measured(model: str) -> None:
    shape = load_model(model)
    found = plan([operators(shape, 1)], shape.vocab_size, ["bf16", "fp8"], "cpu", SMALL, 0)
    assert "fp8" in found.unavailable["prefill_attention fp8"]
    assert any(case.family == "prefill_attention" for case in found.coarse)


def test_from_nothing_to_a_simulation(model: str, tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "rows"
    done = profile(Asked("cpu", 60, out, model, tensor_parallel_sizes=(1,), system="toy"))
    assert done.new == len(done.rows) > 50
    found = rows_of.read(out, "toy")
    assert {records.family for records in found} == {"gemm", "decode_attention", "prefill_attention"}
    assert done.device == str(out / "device.yaml")
    cards = list(train_source(f"profile:{out}", done.device, tmp_path / "forests", "forest", [], True))
    assert {card["family"] for card in cards} == {records.family for records in found}
    for card in cards:
        assert card["error_percent"] and (tmp_path / "forests" / f"{card['family']}.onnx").stat().st_size > 100
    settings = [f"model={model}", f"device={done.device}", "node=pcie_gen4", f"predictor.source=profile:{out}"]
    monkeypatch.setattr(cache, "CACHE_FOLDER", tmp_path / "cache" / "kernels" / "x")
    with pytest.warns(UserWarning, match="training forests of toy"):
        deployment = Deployment.load(None, settings)
        result = simulate(deployment, load_workload("chat", rate=2.0, num_requests=20))
    assert result.config["predictor"]["measured"] == [
        "decode_attention",
        "elementwise",
        "gemm",
        "prefill_attention",
    ]
    assert result.summary["latency"]["ttft"]["p50"] > 0
    assert load_device(result.config["deployment"]["device"]).name == "toy"  # the file, found from anywhere


# Each case is a piece of its own; the process ends while it writes the fourth.
KILLED = """
import os, signal
import pyarrow.parquet
from fastsim.cli import main
from fastsim.profiling import session

session.PIECE = 0.0
write, written = pyarrow.parquet.write_table, []

def write_table(table, path):
    write(table, path)
    written.append(path)
    if len(written) == 4:
        os.kill(os.getpid(), signal.SIGKILL)

pyarrow.parquet.write_table = write_table
main()
"""


def test_a_killed_process_loses_a_piece_at_most_and_is_resumed(model: str, tmp_path: Path, quick: None) -> None:
    out = tmp_path / "rows"
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", KILLED, *command(model, out)], env=env, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    kept = {path: path.read_bytes() for path in out.rglob("piece-*.parquet")}
    before = Store(out, json.loads((out / ASKED).read_text())).rows
    assert len(kept) == len(before) == 3
    with pytest.raises(KeyboardInterrupt):
        profile(Asked("cpu", 60, out, model, tensor_parallel_sizes=(1,)), interrupted_after(5))
    assert all(path.read_bytes() == content for path, content in kept.items())
    rows = Store(out, json.loads((out / ASKED).read_text())).rows
    assert len(rows) == len({row.case for row in rows}) == 3 + 5


def interrupted_after(cases: int) -> Callable[[float], None]:
    """Progress that is interrupted once so many cases are measured."""
    taken: list[float] = []

    def progress(share: float) -> None:
        taken.append(share)
        if len(taken) == cases:
            raise KeyboardInterrupt

    return progress


def test_ctrl_c_keeps_what_is_measured(model: str, tmp_path: Path, quick: None) -> None:
    with pytest.raises(KeyboardInterrupt):
        profile(Asked("cpu", 60, tmp_path / "rows", model), interrupted_after(7))
    assert sum(pq.read_metadata(path).num_rows for path in (tmp_path / "rows").rglob("*.parquet")) == 7


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"system": "other"}, "begun with --system 'toy', not 'other'"),
        ({"model": "b"}, "begun with --model None, not 'b'"),
        ({"name": "NVIDIA L4"}, "begun with the device 'toy', not 'NVIDIA L4'"),
        ({"seed": 1}, "begun with --seed 0, not 1"),
    ],
)
def test_a_folder_of_another_profile_is_refused(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    Store(tmp_path, ABOUT)
    with pytest.raises(OutputError, match=said):
        Store(tmp_path, ABOUT | change)


def test_a_folder_with_other_parquet_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.parquet").write_bytes(b"")
    with pytest.raises(OutputError, match=ASKED):
        Store(tmp_path, ABOUT)


def test_a_second_profile_waits_for_nobody(tmp_path: Path) -> None:
    with held(tmp_path), pytest.raises(OutputError, match="another fastsim profile"), held(tmp_path):
        pass


def test_a_damaged_piece_is_named(tmp_path: Path) -> None:
    Store(tmp_path, ABOUT).write([Row(Case("gemm", "bf16", (1, 2, 3), "torch"), measured())], MACHINE)
    (tmp_path / "piece-00001.parquet").write_bytes(b"PAR1")
    with pytest.raises(TableError, match="piece-00001"):
        Store(tmp_path, ABOUT)


def test_throttled_and_skipped_rows_are_kept_apart(tmp_path: Path) -> None:
    case = Case("gemm", "bf16", (1, 2, 3), "torch")
    rows = [
        Row(case, measured(0.5)),
        Row(case._replace(shape=(2, 2, 3)), measured(9.0, "throttled,noisy")),
        Row(case._replace(shape=(3, 2, 3)), Skipped("out of memory: 4 TB")),
        Row(case._replace(shape=(4, 2, 3)), measured(0.7, "noisy")),
        Row(Case("decode_skewed", "bf16", (4, 64, 128, 4, 2, 32), "sdpa"), measured(0.2)),
    ]
    store = Store(tmp_path, ABOUT)
    store.write(rows[:2], MACHINE)
    store.write(rows[2:], MACHINE)
    (records,) = rows_of.read(tmp_path, "toy")  # of two files
    assert records.ms.tolist() == [0.5, 0.7]
    kept = pq.read_table(tmp_path / "other")
    assert kept["reason"].to_pylist().count("out of memory: 4 TB") == 1
    assert "throttled,noisy" in kept["flags"].to_pylist()
    assert json.loads(pq.read_schema(tmp_path / "piece-00001.parquet").metadata[b"machine"]) == MACHINE
    back = Store(tmp_path, ABOUT).rows
    assert sorted(str(row) for row in back) == sorted(str(row) for row in rows)


def test_out_of_memory_is_recorded_and_not_tried_again(
    model: str, tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    huge = Case("gemm", "bf16", (2**22, 2**22, 2**22), "torch")
    found = planned(model)
    small = found._replace(coarse=[huge, *found.coarse[:5]], candidates=[])
    monkeypatch.setattr(session, "plan", lambda *_: small)
    asked = Asked("cpu", 1, tmp_path / "rows", model, system="toy")
    first = profile(asked)
    (reason,) = [row.outcome.reason for row in first.rows if isinstance(row.outcome, Skipped) and row.case == huge]
    assert "out of memory" in reason
    assert profile(asked).new == 0


def test_what_was_throttled_is_measured_again_by_the_next_run(
    model: str, tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = planned(model)._replace(candidates=[])
    few = few._replace(coarse=[case for case in few.coarse if case.family == "gemm"][:4])
    monkeypatch.setattr(session, "plan", lambda *_: few)
    monkeypatch.setattr("fastsim.profiling.measure.summary", lambda *_: measured(1.0, "throttled"))
    asked = Asked("cpu", 1, tmp_path / "rows", model, system="toy")
    assert [row.throttled for row in profile(asked).rows] == [True] * 4
    with pytest.raises(TableError, match="no Parquet files there"):
        rows_of.read(asked.out, "toy")
    monkeypatch.undo()
    monkeypatch.setattr(session, "plan", lambda *_: few)
    again = profile(asked)
    assert again.new == 4 and not any(row.throttled for row in again.rows[4:])


def test_the_least_certain_are_chosen_where_times_jump() -> None:
    rng = np.random.default_rng(0)
    rows = []
    for m in range(1, 200):
        jump = rng.uniform(1, 30) if m > 150 else 1.0  # beyond 150 rows times are all over the place
        rows.append(Row(Case("gemm", "bf16", (m, 64, 64), "torch"), measured(0.01 * m * jump)))
    cases = [Case("gemm", "bf16", (m, 64, k), "torch") for k in (64, 128) for m in (10, 30, 180)]
    chosen = least_certain(cases, rows, 2)
    assert [case.shape[0] for case in chosen] == [180, 180]
    assert {case.shape[2] for case in chosen} == {64, 128}  # not neighbours of one line
    unknown = Case("prefill_attention", "bf16", (1, 64, 4, 2, 32), "sdpa")
    assert least_certain([*cases, unknown], rows, 1) == [unknown]


def test_small_kernels_get_the_launch_and_the_speed_they_were_measured_at(tmp_path: Path) -> None:
    rows = [
        Row(Case("add", "bf16", (tokens, 4096), "torch"), measured(0.003 + 6 * tokens * 4096 / (0.5 * 1000e6)))
        for tokens in (1, 4, 16, 64, 256, 1024, 4096, 16384)
    ]
    store = Store(tmp_path, ABOUT)
    store.write(rows[:-1], MACHINE)
    assert elementwise(tmp_path, "toy", 1000.0) is None  # too few
    store.write(rows[-1:], MACHINE)
    card = elementwise(tmp_path, "toy", 1000.0)
    assert card is not None and (card["launch_ms"], card["efficiency"]) == (0.003, 0.5)
    assert elementwise(tmp_path, "other", 1000.0) is None


def test_too_few_rows_to_train(tmp_path: Path) -> None:
    Store(tmp_path, ABOUT | {"system": "h100"}).write(
        [Row(Case("gemm", "bf16", (m, 64, 64), "torch"), measured()) for m in (1, 2)], MACHINE
    )
    (tmp_path / "gpu.yaml").write_text("name: h100\nmemory_gib: 1\nbandwidth_gb_s: 10\ntflops: {bf16: 1}\nnum_sms: 2\n")
    with pytest.raises(TableError, match="2 rows are too few"):
        list(train_source(f"profile:{tmp_path}", str(tmp_path / "gpu.yaml"), tmp_path / "out", "forest", [], True))


@pytest.mark.parametrize(
    ("device", "said"),
    [
        ("cuda:99", "does not exist"),
        ("gpu", "give cpu or cuda:0"),
        ("cpu:1", "give cpu"),
        ("cuda:x", "give cpu or cuda:0"),
    ],
)
def test_wrong_devices(tmp_path: Path, device: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        profile(Asked(device, 1, tmp_path))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("memory_gib: 1", "name: missing"),
        (
            "name: a\nmemory_gib: -1\nbandwidth_gb_s: 1\ntflops: {bf16: 1}",
            "memory_gib: -1 is not a number above 0 up to 1e9",
        ),
        (
            "name: a\nmemory_gib: 1\nbandwidth_gb_s: 1\nnum_sms: 1\ntflops: {bf16: 1}\nprice_per_hours: 1",
            "unknown key; did you mean",
        ),
        ("name: a\nmemory_gib: 1\nbandwidth_gb_s: 1\nnum_sms: 1\ntflops: {fp8: 1}", "no bf16"),
        ("name: a\nmemory_gib: 1\nbandwidth_gb_s: 1\nnum_sms: 1.5\ntflops: {bf16: 1}", "1.5 is not a positive integer"),
        ("", "empty"),
    ],
)
def test_device_files_are_checked(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "gpu.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=said):
        load_device(str(path))


def test_a_split_that_the_model_does_not_allow(model: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--tp: 3 does not divide the 4 attention heads"):
        profile(Asked("cpu", 1, tmp_path, model, tensor_parallel_sizes=(3,)))


def test_without_torch_one_sentence_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('no torch')")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])}
    done = subprocess.run(
        [sys.executable, "-m", "fastsim", *command("any", tmp_path / "out")], env=env, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "pip install 'fastsim[profile]'" in done.stderr and len(done.stderr.strip().splitlines()) == 1

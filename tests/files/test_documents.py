"""Reading settings: YAML, TOML, JSON and overrides, and the errors for mistakes in them."""

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field

from fastsim.deployment.description import Deployment
from fastsim.deployment.resolve import resolve
from fastsim.errors import ConfigError, FastsimError
from fastsim.files import DATA
from fastsim.files.documents import Document, parse_json, parse_yaml, read, shipped
from fastsim.files.schema import validate

SMALL: dict[str, Any] = {"model": "llama-2-7b", "device": "a100", "max_model_len": 4096}


def test_the_same_from_yaml_toml_json_and_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    want = Deployment.load(SMALL | {"scheduler": {"policy": "orca", "watermark": 0.02}, "num_replicas": 4})
    yaml = "model: llama-2-7b\ndevice: a100\nmax_model_len: 4096\nnum_replicas: 4\n"
    yaml += "scheduler:\n  policy: orca\n  watermark: 2e-2\n"
    (tmp_path / "d.yaml").write_text(yaml)
    (tmp_path / "d.YML").write_text("\ufeff" + yaml, encoding="utf-8")
    (tmp_path / "d.json").write_text(json.dumps(want.model_dump()))
    toml = 'model = "llama-2-7b"\ndevice = "a100"\nmax_model_len = 4096\nnum_replicas = 4\n'
    (tmp_path / "d.toml").write_text(toml + '[scheduler]\npolicy = "orca"\nwatermark = 0.02\n')
    for name in ("d.yaml", "d.YML", "d.json", "d.toml"):
        assert Deployment.load(tmp_path / name) == want, name
    monkeypatch.setattr(sys, "stdin", io.StringIO(yaml))
    assert Deployment.load("-") == want
    assert Deployment.load(want) == want


def test_yaml_is_version_1_2() -> None:
    text = "a: no\nb: 1e3\nc: 010\nd: 0x1F\ne: .inf\nf: ~\ng: true\nh: 2026-11-21\ni: 1_000\nj: 12:30:00\nk: -.5\nl:\n"
    want: dict[str, Any] = {"a": "no", "b": 1000.0, "c": 10, "d": 31, "e": float("inf"), "f": None, "g": True}
    want |= {"h": "2026-11-21", "i": "1_000", "j": "12:30:00", "k": -0.5, "l": None}
    assert parse_yaml(text, "t").values == want
    assert parse_yaml("x: &x {a: 1}\ny: {<<: *x, b: 2}", "t").values["y"] == {"a": 1, "b": 2}


@pytest.mark.parametrize("path", sorted(DATA.glob("[ce]*/*.yaml")), ids=lambda path: path.stem)
def test_files_that_come_with_fastsim_pass_the_checks_that_are_left_out_for_them(path: Path) -> None:
    assert shipped(path) == parse_yaml(path.read_text(encoding="utf-8"), path.name).values


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\na: 2\n", "t:2: a: given twice"),
        ("s:\n  a: 1\n  a: 2\n", "t:3: a: given twice"),
        ("a: [1\n", "t:2: not valid YAML"),
        ("a: !!python/object:os.system x", "t:1: not valid YAML"),
        ("[a]: 1", "t:1: a key is not plain text"),
        ("- 1\n- 2\n", "is not a mapping of settings"),
        ("", "t: empty"),
        ("# nothing\n", "t: empty"),
        ("a: 1\n---\nb: 2\n", "not valid YAML"),
        ("a: \x00", "not valid YAML"),
        ("[" * 100_000, "not valid YAML"),
        ("- " * 100_000, "not valid YAML"),
        ("a: " + "9" * 5000, "a number too long"),
    ],
)
def test_yaml_that_cannot_be_read(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_yaml(text, "t")


def test_aliases_of_aliases_are_refused_before_they_fill_the_memory() -> None:
    bomb = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 40))
    with pytest.raises(ConfigError, match="more than 1,000,000 values"):
        parse_yaml(bomb, "t")
    with pytest.raises(ConfigError, match="nested more than 64 deep"):
        parse_yaml("a: &a [*a]", "t")


def test_json_that_cannot_be_read() -> None:
    for text, message in (("{", "t:1: not valid JSON"), ('{"a": 1, "a": 2}', "a: given twice"), ("3", "not a mapping")):
        with pytest.raises(ConfigError, match=message):
            parse_json(text, "t")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    def why(name: str) -> str:
        with pytest.raises(ConfigError) as caught:
            read(tmp_path / name)
        assert str(caught.value).startswith(str(tmp_path / name))
        return str(caught.value)

    assert "no such file" in why("missing.yaml")
    (tmp_path / "folder.yaml").mkdir()
    assert "a folder" in why("folder.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\x80\x81\xff")
    assert "not a text file" in why("binary.yaml")
    (tmp_path / "d.txt").write_text("model: x")
    assert ".yaml, .yml, .toml or .json" in why("d.txt")
    (tmp_path / "d.toml").write_text("model = \n")
    assert "not valid TOML" in why("d.toml")
    (tmp_path / "e.yaml").write_text("")
    assert "empty" in why("e.yaml")
    with pytest.raises(ConfigError, match="cannot be read"):
        read("\x00.yaml")


def test_overrides() -> None:
    deployment = Deployment.load(
        SMALL, ["scheduler.max_num_seqs=8", "router={policy: random}", "scheduler.policy = vllm", "seed=7"]
    )
    assert (deployment.scheduler.max_num_seqs, deployment.scheduler.policy) == (8, "vllm")
    assert (deployment.router.policy, deployment.seed) == ("random", 7)
    assert Deployment.load(SMALL, ["node=null"]).node is None
    assert Deployment.load(SMALL, ["predictor.source=tables:/a b: c"]).predictor.source == "tables:/a b: c"
    assert Deployment.load(SMALL, ["model=[x"]).model == "[x"
    assert Deployment.load(SMALL | {"router": "random"}, ["router.policy=pinned"]).router.policy == "pinned"
    assert SMALL == {"model": "llama-2-7b", "device": "a100", "max_model_len": 4096}  # untouched


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "scheduler.max_num_seq=8",
            "--set scheduler.max_num_seq: unknown setting; did you mean 'scheduler.max_num_seqs'?",
        ),
        ("num_blocks=8", "--set num_blocks: unknown setting; did you mean 'scheduler.num_blocks'?"),
        ("policy=orca", "--set policy: unknown setting; did you mean 'router.policy' or 'scheduler.policy'?"),
        ("seed.x=1", "--set seed.x: unknown setting; did you mean"),
        ("=1", "--set : unknown setting; valid: model, device"),
        ("seed", "--set seed: no value; write path=value (e.g. scheduler.max_num_seqs=128)"),
        (
            "scheduler.max_num_seqs=0",
            "--set scheduler.max_num_seqs: 0 is not a positive integer up to 65536 (e.g. 128)",
        ),
        ("scheduler=orca", '--set scheduler: \'orca\' is not a group of settings (e.g. {"policy": "vllm"})'),
        ("scheduler={policy: orka}", "--set scheduler.policy: 'orka' is unknown; did you mean 'orca'?"),
    ],
)
def test_overrides_that_are_refused(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Deployment.load(SMALL, [override])
    assert str(caught.value).startswith(message)


def test_mistakes_name_file_line_setting_value_and_a_valid_value(tmp_path: Path) -> None:
    file = tmp_path / "deploy.yaml"
    file.write_text(
        "model: llama-2-7b\ndevice: a100\ntensor_parallel_size: no\n\nscheduler:\n  max_num_seqs: 0\n  polcy: vllm\n"
        "  policy: vlm\n  watermark: .nan\nrouter: random\n"
    )
    with pytest.raises(ConfigError) as caught:
        Deployment.load(file)
    number = "is not a positive integer up to"
    assert str(caught.value).split("; ") == [
        f"{file}:3: tensor_parallel_size: 'no' {number} 1024 (e.g. 2)",
        f"{file}:6: scheduler.max_num_seqs: 0 {number} 65536 (e.g. 128)",
        f"{file}:7: scheduler.polcy: unknown key",
        "did you mean 'policy'?",
        "and 3 more",
    ]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"chunk_size": 8}, "chunk_size: unknown key; did you mean 'scheduler.chunk_size'?"),
        ({"router": {"num_replicas": 2}}, "router.num_replicas: unknown key; num_replicas belongs at the top level"),
        ({"modle": "x"}, "modle: unknown key; did you mean 'model'?"),
        ({"router": {"polcy": "random"}}, "router.polcy: unknown key; did you mean 'policy'?"),
        ({"model": None}, "model: None is not a name (e.g. meta-llama/Llama-2-7b-hf)"),
        ({"model": ""}, "model: '' is not a name"),
        ({"model": 7}, "model: 7 is not a name"),
        ({"num_replicas": "2"}, "num_replicas: '2' is not a positive integer up to 100000 (e.g. 4)"),
        ({"num_replicas": True}, "num_replicas: True is not a positive integer"),
        ({"num_replicas": 2.0}, "num_replicas: 2.0 is not a positive integer"),
        ({"num_replicas": -1}, "num_replicas: -1 is not a positive integer"),
        ({"num_replicas": 10**9}, "num_replicas: 1000000000 is not a positive integer"),
        ({"num_replicas": 10**400}, "num_replicas: a whole number of 1,329 bits, and numbers have at most 64"),
        ({"seed": -1}, "seed: -1 is not an integer from 0"),
        ({"seed": 2**63}, "seed: 9223372036854775808 is not"),
        ({"max_model_len": 0}, "max_model_len: 0 is not a positive integer"),
        ({"gpu_memory_utilization": 0}, "gpu_memory_utilization: 0 is not a fraction above 0 up to 1 (e.g. 0.9)"),
        ({"gpu_memory_utilization": 1.5}, "gpu_memory_utilization: 1.5 is not a fraction"),
        ({"gpu_memory_utilization": float("nan")}, "gpu_memory_utilization: nan is not a fraction"),
        ({"gpu_memory_utilization": "0.9"}, "gpu_memory_utilization: '0.9' is not a fraction"),
        ({"scheduler": {"watermark": 1}}, "scheduler.watermark: 1 is not a fraction from 0 to below 1 (e.g. 0.01)"),
        ({"scheduler": {"watermark": float("inf")}}, "scheduler.watermark: inf is not a fraction"),
        ({"scheduler": {"block_size": 0}}, "scheduler.block_size: 0 is not a positive integer up to 65536 (e.g. 16)"),
        ({"scheduler": {"num_blocks": -5}}, "scheduler.num_blocks: -5 is not a positive integer"),
        ({"scheduler": {"chunk_size": 0.5}}, "scheduler.chunk_size: 0.5 is not a positive integer"),
        ({"scheduler": {"max_waiting_iters": -1}}, "scheduler.max_waiting_iters: -1 is not an integer from 0"),
        ({"scheduler": {"policy": "vlm"}}, "scheduler.policy: 'vlm' is unknown; did you mean 'vllm'?"),
        ({"scheduler": {"policy": 3}}, "scheduler.policy: 3 is not a policy (e.g. vllm)"),
        ({"scheduler": ["vllm"]}, "scheduler: ['vllm'] is not a group of settings"),
        ({"router": {"policy": "roundrobin"}}, "router.policy: 'roundrobin' is unknown; did you mean 'round_robin'?"),
        ({"memory": {"planner": "vidor"}}, "memory.planner: 'vidor' is unknown; did you mean 'vidur'?"),
        ({"predictor": {"compose": "zzz"}}, "predictor.compose: 'zzz' is unknown; valid: fastsim, vidur"),
        ({1: 2}, "1: a key that is not text; quote it"),
        ({"model": "x" * 5000}, "model: 'xxx"),
    ],
)
def test_values_that_are_refused(settings: dict[Any, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Deployment.load(SMALL | settings)
    assert str(caught.value).startswith(message)
    assert len(str(caught.value)) < 300


def test_missing_settings() -> None:
    with pytest.raises(ConfigError) as caught:
        Deployment.load({"seed": 1})
    assert str(caught.value) == "model: missing (e.g. meta-llama/Llama-2-7b-hf); device: missing (e.g. a100)"


class Item(BaseModel):
    """A schema as other parts of the package write theirs: descriptions, lists, fields without an example."""

    model_config = ConfigDict(strict=True, extra="forbid")
    sizes: list[int] = Field(default=[1], description="a list of sizes", examples=[[1, 2]])
    plain: int = 0


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sizes": [1, "x"]}, "sizes[1]: 'x' is not a list of sizes (e.g. [1, 2])"),
        ({"sizes": 3}, "sizes: 3 is not a list of sizes (e.g. [1, 2])"),
        ({"plain": "x"}, "plain: 'x' is not valid"),
        ({"other": 1}, "other: unknown key; valid: sizes, plain"),
    ],
)
def test_other_schemas(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        validate(Item, Document(values))
    assert str(caught.value) == message


@given(st.text(max_size=60))
def test_no_text_ends_in_a_traceback(text: str) -> None:
    try:
        resolve(Deployment.load(parse_yaml(text, "t").values))
    except FastsimError as error:
        assert str(error)
    for setting in ("model", "device", "node", "predictor.source", "seed", "scheduler"):
        try:
            resolve(Deployment.load(SMALL, [f"{setting}={text}"]))
        except FastsimError as error:
            assert str(error)

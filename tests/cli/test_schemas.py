"""What commands print with --json is what `fastsim schema COMMAND` says.

After a change that is meant, write the schemas again: ``FASTSIM_UPDATE_SCHEMAS=1 python -m pytest
tests/cli/test_schemas.py``. A schema then allows what it allowed before, and what is printed now.
"""

import json
import os
from pathlib import Path
from typing import Any

import json_shapes
import pytest
from click.testing import CliRunner

from fastsim.cli import cli
from fastsim.cli.schema import FOLDER

ROOT = Path(__file__).resolve().parents[2]
GPU = "name: bare\nmemory_gib: 80\nbandwidth_gb_s: 2000\ntflops: {bf16: 300}\nnum_sms: 100\npredictor: h100_sxm\n"
PRICES = "gpus: {h100: {per_hour: 2, interruptions_per_hour: 0.5}}\nenergy: {per_kwh: 0.1, grams_co2_per_kwh: 300}\n"
SPACE = """deployment: {model: Qwen2.5-7B}
workload: {source: chat, num_requests: 60, rate: 2}
axes: {device: [h100, a100]}
"""
TENANTS = """gaps: {kind: poisson, rate: 2}
tenants:
- {name: a, share: 1, lengths: {kind: fixed, num_prompt_tokens: 9, num_output_tokens: 1}}
"""
POOLS = """model: Qwen2.5-7B
device: h100
pools: [{name: prompts, role: prefill}, {name: tokens, role: decode, num_replicas: 2}]
kv_transfer: {link_gb_s: 50}
"""
FEW = ("--requests", "60")
LOW = ("--slo", "ttft:p90<1ms")
QUICK = ("--tolerance", "0.5", "--replicates", "0")
CASES = [
    ("simulate", *FEW),
    ("simulate", *FEW, "--slo", "ttft:p90<2s", "--replicates", "2", "--exclude", "1s,1s"),
    ("simulate", "--input-len", "10", "--output-len", "1", "--requests", "1", "--set", "device=bare.yaml"),
    ("simulate", *FEW, "--prices", "prices.yaml"),
    ("simulate", "--users", "3", *FEW, "--set", "engine=sglang-0.5.23"),
    ("simulate", "tenants.yaml", "--requests", "20"),
    ("simulate", *FEW, "--set", "scheduler.policy=sarathi"),
    ("capacity", *FEW, *QUICK),
    ("capacity", *FEW, *QUICK, *LOW, "--set", "device=bare.yaml"),
    ("capacity", "--users", *FEW, "--tolerance", "0.5", "--replicates", "5"),
    ("curve", *FEW, "--points", "3"),
    ("curve", *FEW, "--points", "3", *LOW, "--set", "device=bare.yaml"),
    ("fleet", "--rate", "2", "--gpu", "h100", *FEW, "--replicates", "1"),
    ("fleet", "--rate", "2", "--gpu", "h100", *FEW, "--replicates", "0", *LOW),
    ("fleet", "pools.yaml", "--rate", "2", *FEW, "--replicates", "0"),
    ("search", "space.yaml", *FEW, "--tolerance", "0.5", "--sensitivity"),
    ("search", "space.yaml", *FEW, "--tolerance", "0.5", "--rank", "cost", "--rate", "3"),
    ("search", "space.yaml", *FEW, "--tolerance", "0.5", *LOW),
    ("sweep", "space.yaml", "--out", "sweep"),
    ("compare", "a", "b", "--slo", "ttft:p90<2s"),
    ("result show", "a"),
    ("result series", "a"),
    ("timeline", "a"),
    ("validate", "vllm_cpu"),
    ("calibrate", "vllm_cpu"),
    ("memory",),
    ("memory", "pools.yaml"),
    ("explain",),
    ("explain", "pools.yaml"),
    ("explain", "--set", "model=Qwen3-30B-A3B", "--set", "tp=2"),
    ("launch", "d.yaml"),
    ("launch", "pools.yaml"),
    ("trace describe", "chat", *FEW),
    ("trace describe", "tenants.yaml", "--requests", "20"),
    ("trace describe", "agent", *FEW),
    ("trace synthesise", "chat", *FEW, "--out", "drawn.csv"),
    ("trace synthesise", "--like", "requests.csv", "--out", "drawn.csv"),
    *(
        ("catalog", kind)
        for kind in ("checkpoints", "devices", "prices", "engines", "metrics", "models", "nodes", "predictors")
    ),
    *(("catalog", kind) for kind in ("policies", "routers")),
    ("catalog", "model", "Qwen3-30B-A3B"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("schemas")
    before = Path.cwd()
    os.chdir(made)
    try:
        for name, text in {
            "bare.yaml": GPU,
            "space.yaml": SPACE,
            "prices.yaml": PRICES,
            "tenants.yaml": TENANTS,
            "pools.yaml": POOLS,
        }.items():
            Path(name).write_text(text)
        Path("d.yaml").write_text("model: Qwen2.5-7B\ndevice: h100\n")
        Path("vllm_cpu").symlink_to(ROOT / "tests" / "data" / "vllm_cpu")
        for out, rate in (("a", "2"), ("b", "4")):
            printed("simulate", "--rate", rate, "--requests", "60", "--iterations", "--out", out)
        CliRunner().invoke(cli, ["trace", "synthesise", "chat", "--requests", "200", "--out", "requests.csv"])
    finally:
        os.chdir(before)
    return made


def printed(*words: str) -> Any:
    done = CliRunner().invoke(cli, [*words[0].split(), *words[1:], "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


@pytest.mark.parametrize("words", CASES, ids=" ".join)
def test_a_command_prints_what_its_schema_says(
    words: tuple[str, ...], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    name = " ".join(words[:2]) if words[0] == "catalog" else words[0]
    path = FOLDER / f"{name.replace(' ', '-')}.json"
    value = printed(*words)
    if os.environ.get("FASTSIM_UPDATE_SCHEMAS"):
        title = {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": f"What `fastsim {name} --json` prints",
        }
        known = json.loads(path.read_text()) if path.exists() else {}
        schema = json_shapes.merged([*([known] if known else []), json_shapes.inferred(value)])
        path.write_text(json.dumps({**title, **schema}, indent=1) + "\n")
    assert list(json_shapes.faults(value, json.loads(path.read_text()))) == []


def test_every_schema_has_a_case() -> None:
    cases = {" ".join(words[:2]) if words[0] == "catalog" else words[0] for words in CASES}
    assert {path.stem.replace("-", " ") for path in FOLDER.glob("*.json")} == cases
    listed = CliRunner().invoke(cli, ["schema"]).stdout.split("\n")
    assert set(listed) - {""} == cases


def test_other_shapes_are_faults() -> None:
    schema = json_shapes.inferred({"rate": 2.5, "names": ["a"], "objectives": {"ttft": True}})
    assert list(json_shapes.faults({"rate": None, "names": [], "objectives": {}}, schema)) == []
    assert list(json_shapes.faults({"rate": "2", "names": [1], "more": 1}, schema)) == [
        "$: no objectives",
        "$.rate: string, not null or number",
        "$.names[]: integer, not string",
        "$: more is not in the schema",
    ]

"""A run of SGLang is shown in SGLang's words: requests are retracted, and hits are those of the radix cache."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import fastsim
from fastsim.cli import cli
from fastsim.report.timeline.timeline import timeline
from fastsim.result import wording
from fastsim.result.metrics.objectives import parse
from fastsim.result.result import Result
from fastsim.workload import Workload
from fastsim.workload.blocks import BlockHashes

SHARED: dict[str, Any] = {
    "model": "meta-llama/Meta-Llama-3-8B",
    "device": "h100",
    "predictor": {"source": "affine", "affine": {"constant_ns": 5_000_000}},
}
SGLANG = SHARED | {
    "engine": "sglang-0.5.23",
    "scheduler": {"max_total_num_tokens": 1000, "schedule_conservativeness": 0.1},
}
VLLM = SHARED | {"engine": "vllm-0.33", "scheduler": {"num_blocks": 63}}


def saved(folder: Path, given: dict[str, Any], *overrides: str) -> Path:
    """Twenty requests whose prompts share 48 of 64 tokens, and whose outputs do not fit together."""
    hashes = BlockHashes.of([[1, 2, 3, 100 + i] for i in range(20)])
    workload = Workload(np.linspace(0.0, 0.38, 20), np.full(20, 64), np.full(20, 150), block_hashes=hashes)
    fastsim.simulate(fastsim.Deployment.load(given, overrides), workload, iterations=True).save(folder)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("runs")
    return {
        "tree": saved(root / "tree", SGLANG),
        "whole": saved(root / "whole", SGLANG, "scheduler.disable_radix_cache=true"),
        "vllm": saved(root / "vllm", VLLM),
    }


def shown(*words: object) -> str:
    ran = CliRunner().invoke(cli, list(map(str, words)))
    assert ran.exit_code == 0, ran.output
    return ran.stdout


def page(folder: Path, *folders: Path) -> str:
    """The text of a report, without its scripts and the names of settings."""
    shown("report", *folders, "-o", folder / "page.html")
    text = re.sub(r"(?s)<(script|style)[^>]*>.*?</\1>", " ", (folder / "page.html").read_text())
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", text))


def test_the_terminal_says_what_was_retracted(folders: dict[str, Path]) -> None:
    retracted = Result.load(folders["tree"]).summary["totals"]["restarts"]
    text = shown("result", "show", folders["tree"])
    assert retracted and f"{retracted} retractions" in text and "evicted from the radix cache" in text
    assert "reempt" not in text and "restarts" not in text
    assert "Cache " not in shown("result", "show", folders["whole"])
    assert "Preempted " in shown("result", "show", folders["vllm"])


def test_a_report_says_what_was_retracted(folders: dict[str, Path], tmp_path: Path) -> None:
    text = page(tmp_path, folders["tree"])
    for part in ("Retractions", "Retractions: For decodes", "Breakdown: Mean retraction", "found in the radix cache"):
        assert part in text
    assert "reemption" not in text
    alone = page(tmp_path, folders["whole"])
    assert "Retractions: For decodes" in alone and "radix cache" not in alone and "Cache: " not in alone
    both = page(tmp_path, folders["tree"], folders["vllm"])
    assert "Preemptions or retractions: For decodes" in both and "prefix cache or radix cache" in both


def test_a_comparison_names_the_part_by_its_engine(folders: dict[str, Path]) -> None:
    text = shown("compare", folders["tree"], folders["whole"])
    assert "Retraction mean" in text and "Retractions" in text and "reemption" not in text
    assert "Preemption or retraction mean" in shown("compare", folders["tree"], folders["vllm"])


def test_a_timeline_counts_retractions(folders: dict[str, Path], tmp_path: Path) -> None:
    timeline(folders["tree"], tmp_path / "t.json")
    events = json.loads((tmp_path / "t.json").read_text())["traceEvents"]
    counted = sum(event["args"]["retracted"] for event in events if event.get("cat") == "batch")
    assert counted == Result.load(folders["tree"]).summary["totals"]["restarts"]
    assert sum(event["args"]["retractions"] for event in events if event.get("name") == "request" and "args" in event)
    assert "preempted" not in (tmp_path / "t.json").read_text()


def test_a_verdict_names_the_setting_that_the_engine_has(folders: dict[str, Path]) -> None:
    for name, setting in (("tree", "max_running_requests"), ("vllm", "max_num_seqs")):
        result = Result.load(folders[name])
        assert wording.of(result.config).slots == setting
        result.judge([parse("ttft:p90<10s")])
        assert "(max_" not in result.summary["verdict"]["sentence"].replace(f"({setting})", "")

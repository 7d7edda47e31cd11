"""The page in Chromium: what it shows after a change is what `fastsim simulate` prints of the copied file."""

import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

if shutil.which("chromium") is None:
    pytest.skip("there is no chromium (Debian: apt install chromium)", allow_module_level=True)
pytest.importorskip("playwright.sync_api")

import json

from click.testing import CliRunner
from explore import Answer, Explored, browsed, served

from fastsim.cli import cli
from fastsim.result.metrics.definitions import flatten

NUMBER = "300"


@pytest.fixture(scope="module")
def explored() -> Iterator[Explored]:
    with (
        served("--requests", NUMBER, "--rate", "4", "--slo", "ttft:p90<500ms") as address,
        browsed(address, viewport={"width": 1200, "height": 900}) as page,
    ):
        yield page
        assert page.said == []


def equal(answer: Answer, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hold the figures of an answer against the command in the first line of its file."""
    monkeypatch.chdir(folder)
    (folder / "deployment.yaml").write_text(answer.yaml)
    command = shlex.split(answer.yaml.partition("\n")[0].removeprefix("# fastsim "))
    printed = CliRunner().invoke(cli, [*command, "--json"], catch_exceptions=False).stdout
    truth = flatten(json.loads(printed))
    assert len(answer.figures) > 8
    assert {key: truth[key] for key in answer.figures} == answer.figures


def test_changes_are_answered(explored: Explored, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in (
        ("rate", 12),
        ("tensor_parallel_size", 2),
        ("scheduler.max_num_seqs", 16),
        ("workload", "mix of these"),
        ("load", "users"),
    ):
        answer = explored.change(key, value)
        assert not answer.refusal
        equal(answer, tmp_path, monkeypatch)


def test_nonsense_is_refused_beside_its_control_and_undone(explored: Explored) -> None:
    page, before = explored.page, explored.answer()
    wrong = explored.change("tensor_parallel_size", 3)
    assert "3 does not divide" in wrong.refusal
    place = ".control[data-key=tensor_parallel_size]"
    assert "3 does not divide" in page.inner_text(f"{place} .wrong")
    assert page.get_attribute(f"{place} input[type=number]", "aria-invalid") == "true"
    assert wrong.figures == before.figures  # the last answer, in grey
    assert explored.click("#undo").figures == before.figures
    assert page.inner_text(f"{place} .wrong") == ""


def test_a_slider_moves_by_keyboard(explored: Explored) -> None:
    page = explored.page
    slider = page.locator(".control[data-key=num_replicas] input[type=range]")
    slider.focus()
    page.keyboard.press("End")
    page.wait_for_selector("html[data-exact=true]")
    explored.settle()
    assert page.input_value("#c-num_replicas") == "32"
    assert "num_replicas: 32" in explored.answer().yaml
    explored.click("#undo")


def test_what_is_pinned_is_compared(explored: Explored) -> None:
    page = explored.page
    explored.click("#pin")
    explored.change("num_replicas", 2)
    assert page.inner_text("#headline thead").split() == ["now", "pinned"]
    explored.click("#pin")
    assert page.locator("#headline thead").count() == 0


def test_a_link_opens_the_same_question(explored: Explored) -> None:
    before = explored.answer()
    explored.open(explored.page.url)
    assert explored.answer().yaml == before.yaml
    assert explored.answer().figures == before.figures


@pytest.mark.parametrize("width", [390, 768, 1024])
def test_nothing_is_wider_than_the_screen(explored: Explored, width: int) -> None:
    explored.page.set_viewport_size({"width": width, "height": 800})
    assert explored.page.evaluate("document.documentElement.scrollWidth") <= width

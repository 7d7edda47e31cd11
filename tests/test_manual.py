"""Every block of the README and of the manual runs, in order, and prints what the page shows."""

import os
import re
from pathlib import Path

import pages
import pytest
from click.testing import CliRunner

from fastsim.cli import cli, run

ROOT = Path(__file__).resolve().parents[1]
MANUAL = sorted((ROOT / "fastsim" / "manual").glob("*.md"))
PAGES = [ROOT / "README.md", *MANUAL]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_a_page_runs(path: Path, tmp_path: Path) -> None:
    """FASTSIM_UPDATE_MANUAL=1 writes what the commands print into the page."""
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    page, texts = path.read_text(), []
    for block, printed in pages.run(page, tmp_path):
        texts.append((block.span, printed))
        if not os.environ.get("FASTSIM_UPDATE_MANUAL"):
            assert pages.same(block.text, printed), f"{path.name}, line {block.line}, prints now:\n{printed}"
    for (begin, end), printed in reversed(texts):
        page = page[:begin] + printed + page[end:]
    if os.environ.get("FASTSIM_UPDATE_MANUAL"):
        path.write_text(page)


def test_the_command_prints_pages() -> None:
    listed = CliRunner().invoke(cli, ["manual"], catch_exceptions=False).stdout
    assert [line.split()[0] for line in listed.splitlines()] == [path.stem for path in MANUAL]
    assert CliRunner().invoke(cli, ["manual", "speed"]).stdout.startswith("# Speed")
    assert run(["manual", "sped"]) == 2


def test_the_readme_links_every_page_and_is_short() -> None:
    readme = (ROOT / "README.md").read_text()
    assert set(re.findall(r"fastsim/manual/(\w+)\.md", readme)) == {path.stem for path in MANUAL}
    assert readme.count("\n") <= 150


def test_what_a_page_shows_is_compared() -> None:
    """Durations may differ, and last digits; words and figures may not."""
    shown = "Computed 1,200 now, in 1.3 s\n"
    assert pages.same(shown, "Computed 1,201 now, in 45.1 ms\n")
    assert not pages.same(shown, "Computed 1,300 now, in 1.3 s\n")
    assert not pages.same(shown, "Computed 1,200 then, in 1.3 s\n")
    assert not pages.same(shown, "Computed 1,200 now, and more, in 1.3 s\n")

"""Reports in a real browser: loaded from disk with the network off, clicked through, and held against summary.json."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from report_runs import save_all

from fastsim.report.page import figures as drawing
from fastsim.report.page.palette import THEMES
from fastsim.report.report import report
from fastsim.result.metrics.definitions import flatten

CHROMIUM = shutil.which("chromium")
if CHROMIUM is None:
    pytest.skip("there is no chromium (Debian: apt install chromium)", allow_module_level=True)
sync_api = pytest.importorskip("playwright.sync_api")

QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
DESK, PHONE = {"width": 1200, "height": 800}, {"width": 390, "height": 844}
UNITS = {"µs": 1e-6, "ms": 1e-3, "%": 1e-2}

Page = Any


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    return save_all(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def pages(saved: dict[str, list[Path]], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("pages")
    for kind, folders in saved.items():
        report(folders, root / f"{kind}.html")
    return {kind: root / f"{kind}.html" for kind in saved}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield started
        started.close()


@pytest.fixture
def visit(browser: Any, pages: dict[str, Path]) -> Iterator[Any]:
    """A function that opens a page; afterwards nothing must have been asked for or complained about."""
    complaints: list[str] = []
    contexts: list[Any] = []

    def opened(kind: str, **more: Any) -> Page:
        context = browser.new_context(offline=True, **{"viewport": DESK, **more})
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "request",
            lambda asked: None if asked.url.startswith(("file:", "data:", "blob:")) else complaints.append(asked.url),
        )
        page.goto(pages[kind].as_uri())
        page.wait_for_selector("html[data-drawn]")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []


def shown(text: str) -> float:
    """The number that a cell or card says, without its interval."""
    found = re.match(r"(?:> )?\$?([-\d,.e+]+)\s*([^\s(]*)", text)
    assert found, text
    return float(found[1].replace(",", "")) * UNITS.get(found[2].partition("/")[0], 1.0)


def figures(page: Page) -> list[dict[str, str]]:
    found: list[dict[str, str]] = page.eval_on_selector_all(
        "[data-key]", "all => all.map(e => ({key: e.dataset.key, value: e.dataset.value ?? '', text: e.textContent}))"
    )
    return found


def test_pools_and_transfers(visit: Any, saved: dict[str, list[Path]]) -> None:
    page = visit("apart")
    summary = json.loads((saved["apart"][0] / "summary.json").read_text())
    table = page.locator("table", has_text="role").first
    rows = [row.split("\t") for row in table.inner_text().splitlines() if row.strip()][-2:]
    assert [row[:3] for row in rows] == [["prompts", "prefill", "h100"], ["tokens", "decode", "h100"]]
    for row, pool in zip(rows, summary["pools"], strict=True):
        assert [shown(cell) for cell in row[3:6]] == [pool["replicas"], pool["gpus"], pool["requests"]]
    slow = page.locator("section", has_text="Where the slowest requests spend their time.").last
    for tab in ("E2E", "TTFT"):
        slow.get_by_role("tab", name=tab).click()
        legend = slow.inner_text()
        assert "Transfer wait" in legend and "Transfer\n" in legend, tab
    assert "batches up to the first token" in slow.inner_text().lower()
    assert "0 (prompts)" in page.inner_text("body") and "deployment.pools.tokens.num_replicas" in page.inner_text(
        "body"
    )


@pytest.mark.parametrize("kind", ["one", "three"])
def test_figures_shown_are_those_of_summary_json(visit: Any, saved: dict[str, list[Path]], kind: str) -> None:
    page = visit(kind)
    truth = [flatten(json.loads((folder / "summary.json").read_text())) for folder in saved[kind]]
    cells = figures(page)
    assert len(cells) > 40
    for cell in cells:
        expected = [one.get(cell["key"]) for one in truth]
        if not cell["value"]:
            assert None in expected
            assert cell["text"] == "–"
            continue
        assert float(cell["value"]) in expected
        assert shown(cell["text"]) == pytest.approx(float(cell["value"]), rel=6e-3, abs=6e-3), cell
    keys = {cell["key"] for cell in cells}
    assert {"latency.ttft.p99", "latency.tbt.p99", "throughput.requests_per_s", "utilisation.busy"} <= keys


@pytest.mark.parametrize("kind", ["one", "three", "many"])
def test_every_figure_is_drawn(visit: Any, kind: str) -> None:
    page = visit(kind)
    plots = page.locator(".plot")
    assert plots.count() >= 10
    for n in range(plots.count()):
        assert plots.nth(n).get_attribute("aria-label")
        # Something is drawn: pixels that are not transparent.
        drawn = plots.nth(n).evaluate(
            """plot => { const roots = [plot]; let most = 0;
            while (roots.length) { const root = roots.pop();
              for (const one of root.querySelectorAll("*")) { if (one.shadowRoot) roots.push(one.shadowRoot);
                if (one.tagName === "CANVAS" && one.width && one.height) {
                  const bytes = one.getContext("2d").getImageData(0, 0, one.width, one.height).data;
                  let inked = 0; for (let i = 3; i < bytes.length; i += 4) inked += bytes[i] > 0;
                  most = Math.max(most, inked); } } }
            return most; }"""
        )
        assert drawn > 1000


def test_light_and_dark(visit: Any) -> None:
    colours = """() => [getComputedStyle(document.body).backgroundColor, ...new Set(
        Bokeh.documents.flatMap(d => d.roots()).map(root => root.below[0].axis_label_text_color))]"""
    page = visit("one", color_scheme="light")
    ink = {theme: THEMES[theme][8] for theme in ("light", "dark")}
    light = page.evaluate(colours)
    assert light[1:] == [ink["light"]]
    page.click("#theme")
    dark = page.evaluate(colours)
    assert dark[0] != light[0]
    assert dark[1:] == [ink["dark"]]
    page.click("#theme")
    assert page.evaluate(colours) == light
    page.emulate_media(color_scheme="dark")
    assert page.evaluate(colours) == light  # a choice made by hand holds
    assert visit("one", color_scheme="dark").evaluate(colours) == dark


def test_tabs(visit: Any) -> None:
    page = visit("one")
    tabs = page.locator(".tabs").first
    buttons, panels = tabs.locator("[role=tab]"), tabs.locator(":scope > .panels > [role=tabpanel]")
    assert panels.nth(0).is_visible()
    assert not panels.nth(1).is_visible()
    buttons.nth(1).click()
    assert panels.nth(1).is_visible()
    assert not panels.nth(0).is_visible()
    assert panels.nth(1).locator(".plot").bounding_box()["width"] > 800
    buttons.nth(1).press("ArrowLeft")
    assert panels.nth(0).is_visible()


def test_hover(visit: Any) -> None:
    page = visit("one")
    term = page.locator(".card .term").first
    term.hover()
    assert page.locator("#tip").inner_text() == term.get_attribute("data-tip")
    page.mouse.move(0, 0)
    assert not page.locator("#tip").is_visible()
    plot = page.locator("section:has(h2:text-is('Batches and utilisation')) .plot").first
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    said = ""
    for part in range(5, 95, 5):
        page.mouse.move(box["x"] + box["width"] * part / 100, box["y"] + box["height"] * 0.75)
        page.wait_for_timeout(60)
        said = " ".join(page.locator(".bk-tooltip-content").all_inner_texts())
        if "batches" in said:
            break
    assert re.search(r"requests in a batch:\s*\d+ to \d+\s*batches:\s*\d", said)


def test_sort_filter_and_choose(visit: Any) -> None:
    page = visit("many")
    table = page.locator(".table:has([data-line])")
    heads = table.locator("thead th")
    names = heads.all_inner_texts()
    column = names.index("TTFT P99")

    def values() -> list[float]:
        found: list[float] = table.locator("tbody tr").evaluate_all(
            f"rows => rows.map(row => Number(row.cells[{column}].dataset.value))"
        )
        return found

    heads.nth(column).locator("button").click()
    assert values() == sorted(values())
    assert heads.nth(column).get_attribute("aria-sort") == "ascending"
    heads.nth(column).locator("button").click()
    assert values() == sorted(values(), reverse=True)
    table.locator("input[type=search]").fill("rate-1")
    assert table.locator("tbody tr:visible").count() == 4
    assert table.locator(".count").inner_text() == "4 of 10 rows"
    table.locator("input[type=search]").fill("")

    shown_lines = (
        "() => Bokeh.documents.map(d => d.get_model_by_name('choice')).filter(Boolean).map(f => f.indices.length)"
    )
    before = page.evaluate(shown_lines)
    assert before == [3, 3, 3]
    table.locator("[data-line]:not(:checked)").first.check()
    assert page.evaluate(shown_lines) == [4, 4, 4]
    for _ in range(4):
        table.locator("[data-line]:checked").first.uncheck()
    assert page.evaluate(shown_lines) == [0, 0, 0]


@pytest.mark.parametrize("kind", ["one", "three", "many"])
def test_nothing_sticks_out_on_a_phone(visit: Any, kind: str) -> None:
    page = visit(kind, viewport=PHONE, is_mobile=True, has_touch=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    assert page.evaluate("innerWidth") == PHONE["width"]
    assert page.locator(".plot").first.bounding_box()["width"] <= PHONE["width"]


def test_print(visit: Any) -> None:
    page = visit("one", color_scheme="dark")
    page.emulate_media(media="print")
    assert not page.locator("nav").is_visible()
    assert not page.locator("#theme").is_visible()
    assert all(panel.is_visible() for panel in page.locator("[role=tabpanel]").all())
    page.wait_for_selector("html[data-theme=light]")
    assert page.pdf()[:5] == b"%PDF-"
    page.emulate_media(media="screen")
    page.wait_for_selector("html[data-theme=dark]")


@pytest.mark.parametrize(("at", "side"), [(0.05, "left"), (0.9, "right")])
def test_the_label_of_a_limit_stands_where_there_is_room(at: float, side: str) -> None:
    plot = drawing.plot("TTFT", "share", x="log", x_range=(0.01, 1.0), y_range=(0.0, 1.0))
    drawing.limit(plot, at, "limit 500 ms for P90")
    (label,) = (one for one in plot.center if type(one).__name__ == "Label")
    assert label.text_align == side and (label.x_offset < 0) == (side == "right")

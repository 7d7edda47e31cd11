"""``result.plot``: figures of a result, and their files."""

import re
from collections.abc import Callable
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

import fastsim
from fastsim.errors import InputError
from fastsim.report.page.picture import Bars, Layer, Limit, Line, Marks, Picture
from fastsim.report.plots import METRICS, PARTS_OF, SERIES
from fastsim.report.still.axes import axis
from fastsim.report.still.png import _dashes, png
from fastsim.report.still.shapes import Stroke, Words
from fastsim.report.still.sheet import sheet
from fastsim.report.still.svg import svg
from fastsim.result.result import Result


@pytest.fixture(scope="module")
def results() -> tuple[Result, Result]:
    slow, quick = (fastsim.simulate(rate=rate, num_requests=200, objectives=["ttft:p90<90ms"]) for rate in (20.0, 2.0))
    return slow, quick


def texts(document: str) -> list[str]:
    return [str(each.text) for each in ElementTree.fromstring(document).iter("{http://www.w3.org/2000/svg}text")]


def test_every_figure_is_drawn(results: tuple[Result, Result]) -> None:
    one, other = results
    drawn = [one.plot.latency(metric) for metric in METRICS]
    drawn += [one.plot.breakdown(of) for of in PARTS_OF] + [one.plot.timeline(of) for of in SERIES]
    for plot in drawn:
        shown = plot._repr_html_()
        assert len(re.findall(r"<(polyline|polygon)", shown)) > 5, plot
        assert plot.figure.renderers
    both = one.plot.latency("e2e", {"at 2 requests/s": other})._repr_html_()
    assert {"this run", "at 2 requests/s"} <= set(texts(both))
    assert "limit 90 ms for P90" in texts(one.plot.latency()._repr_html_())


def test_files_need_no_network_and_no_browser(results: tuple[Result, Result], tmp_path: Path) -> None:
    plot = results[0].plot.timeline("tokens")
    for suffix in ("svg", "png", "html"):
        plot.save(tmp_path / f"figure.{suffix}", width=600)
    document = (tmp_path / "figure.svg").read_text()
    assert "Tokens over time" in texts(document)
    assert re.findall(r'https?://[^"]+', document) == ["http://www.w3.org/2000/svg"]
    image = Image.open(tmp_path / "figure.png")
    assert image.size[0] == 1200 and len(image.getcolors(2**24) or ()) > 20
    page = (tmp_path / "figure.html").read_text()
    assert "Tokens over time" in page and "default-src 'none'" in page


def test_other_names_are_refused(results: tuple[Result, Result], tmp_path: Path) -> None:
    plots, file = results[0].plot, tmp_path / "file"
    file.write_text("no folder")
    refused: tuple[tuple[Callable[[], object], str], ...] = (
        (lambda: plots.latency("tttf"), "metric: 'tttf' is not one; did you mean 'ttft'"),
        (lambda: plots.timeline("que"), "of: 'que' is not one; did you mean 'queue'"),
        (lambda: plots.breakdown("tpot"), "of: 'tpot' is not one; valid: e2e, ttft"),
        (lambda: plots.latency("e2e", {"this run": results[1]}), "others: 'this run' is the name of the result itself"),
        (lambda: plots.timeline(others={"this run": results[1]}), "name the other one (e.g. 'before')"),
        (lambda: plots.latency().save(tmp_path / "a.pdf"), "ends in '.pdf', not in .html, .svg, .png"),
        (lambda: plots.latency().save(tmp_path / "a.svg", width=10), "width: 10 is not a number of pixels"),
        (lambda: plots.latency().save(file / "a.svg"), "cannot be written"),
    )
    for wrong, said in refused:
        with pytest.raises(InputError) as told:
            wrong()
        assert said in str(told.value)


def test_a_line_lies_where_its_axes_say() -> None:
    picture = Picture(
        "s", "n", [Line([1.0, 10.0, np.nan, 100.0, 1000.0], [0.0, 2.0, 3.0, 4.0, 4.0], "a line", 9)], x="log"
    )
    across, upright = axis(picture, "x", 100.0, 700.0), axis(picture, "y", 250.0, 10.0)
    assert np.diff(across.pixels([1.0, 10.0, 100.0, 1000.0])) == pytest.approx(np.full(3, (600 / (1.1 * 3))), rel=1e-9)
    assert upright.pixels(0.0) > upright.pixels(4.0)
    made = sheet(picture)
    lines = [shape for shape in made.shapes if isinstance(shape, Stroke) and shape.width == 2.0 and shape.dash]
    assert [len(line.points) for line in lines] == [2, 2, 2]  # both sides of NaN, and the legend
    for shape in made.shapes:
        points = [shape.at] if isinstance(shape, Words) else shape.points
        assert all(0 <= x <= made.width and 0 <= y <= made.height for x, y in points), shape


def test_bars_marks_and_limits_are_drawn_and_texts_are_escaped() -> None:
    layers: list[Layer] = [
        Bars([0, 1], [1, 2], [3.0, 1.0]),
        Marks([0.5], [2.0], marker="diamond"),
        Marks([1], [1], hollow=True),
    ]
    picture = Picture("<x>", "", layers, [Limit(1.5, "a & b"), Limit(2.0, "c", "y")], y_range="from zero")
    document = svg(sheet(picture, title="T"))
    assert {"<x>", "a & b", "c", "T"} <= set(texts(document))
    assert Image.open(BytesIO(png(sheet(picture)))).format == "PNG"


def test_dashes_cover_what_they_say() -> None:
    parts = _dashes([(0.0, 0.0), (10.0, 0.0), (10.0, 10.0)], [4.0, 2.0])
    length = sum(abs(b[0] - a[0]) + abs(b[1] - a[1]) for part in parts for a, b in pairwise(part))
    assert length == pytest.approx(4 + 4 + 4 + 2)  # of 20: drawn at 0-4, 6-10, 12-16 and 18-20
    assert parts[0] == [(0.0, 0.0), (4.0, 0.0)]

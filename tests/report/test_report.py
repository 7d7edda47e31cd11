"""What a report is made of, without a browser: thin curves that say the truth, and every kind of bad input."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from report_runs import save, save_all

import fastsim
from fastsim.cli import cli
from fastsim.errors import InputError, OutputError
from fastsim.report import Card, Cards, Cell, Section, Table, Text, page
from fastsim.report.page.page import Block
from fastsim.report.report import report
from fastsim.report.runs import read
from fastsim.report.thin import curve, level, rate, spread
from fastsim.report.words import interval, number, seconds, share, title

times = st.lists(st.floats(0, 100, allow_nan=False), min_size=1, max_size=40)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    return save_all(tmp_path_factory.mktemp("runs"))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.floats(0, 1e3) | st.just(float("nan")), max_size=300), st.integers(8, 40))
def test_points_of_a_curve_are_points_of_the_distribution(values: list[float], points: int) -> None:
    found = curve(np.array(values), points)
    known = np.array([value for value in values if value == value])
    assert len(found.value) <= max(points + 1, 1)
    for value, at in zip(found.value, found.share, strict=True):
        assert np.mean(known < value) < at <= np.mean(known <= value) + 1e-12
    if len(known):
        assert found.value[-1] == known.max()
        assert found.share[-1] == 1


@settings(max_examples=60, deadline=None, derandomize=True)
@given(times, st.data(), st.integers(1, 7))
def test_a_level_is_counted_exactly(begins: list[float], data: st.DataObject, bins: int) -> None:
    ends = [data.draw(st.floats(begin, 120) | st.just(float("nan"))) for begin in begins]
    at = np.linspace(0, 120, bins + 1)
    found = level(np.array(begins), np.array(ends), at)

    def now(time: float) -> int:
        return sum(b <= time and not e <= time for b, e in zip(begins, ends, strict=True))

    moments = sorted({*at, *begins, *(end for end in ends if end == end)})
    for i in range(bins):
        inside = [now(time) for time in moments if at[i] <= time <= at[i + 1]]
        assert found.high[i] >= max(now(t) for t in moments if at[i] <= t < at[i + 1])
        assert found.high[i] <= max(inside)
        assert min(inside) <= found.low[i] <= min(now(t) for t in moments if at[i] <= t < at[i + 1])
    whole = sum((120 if e != e else e) - b for b, e in zip(begins, ends, strict=True))
    assert float(found.mean @ np.diff(at)) == pytest.approx(whole, abs=1e-6)


@given(times, st.integers(1, 7))
def test_rates_and_spreads_lose_nobody(values: list[float], bins: int) -> None:
    at, when = np.linspace(0, 100, bins + 1), np.array(values)
    assert float(rate(when, at) @ np.diff(at)) == pytest.approx(len(values))
    found = spread(when, when * 2, at)
    assert np.nanmax(found.high) == when.max() * 2
    assert all(m <= p <= h for m, p, h in zip(found.median, found.p90, found.high, strict=True) if m == m)


def test_figures_in_words() -> None:
    assert [seconds(v) for v in (None, 1e-15, 2.5e-6, 0.0123, 1.0, 61.26, 12345.6)] == [
        "–",
        "0 s",
        "2.5 µs",
        "12.3 ms",
        "1 s",
        "61.3 s",
        "12,346 s",
    ]
    assert [share(v) for v in (None, 0.0, 0.034, 0.5, 0.994, 0.9999, 1.0)] == [
        "–",
        "0%",
        "3.4%",
        "50%",
        "99.4%",
        "> 99.9%",
        "100%",
    ]
    ttft, busy = "latency.ttft.p99", "utilisation.busy"
    assert [interval(ttft, ends) for ends in ((0.14, 0.166), (0.9, 1.2))] == ["140 to 166 ms", "900 ms to 1.2 s"]
    assert interval(busy, (0.9999, 1.0)) == "> 99.9% to 100%"
    assert [number(v) for v in (None, 3, 0.12345, 1234567.8)] == ["–", "3", "0.123", "1,234,568"]
    assert [title(key) for key in ("ttft", "mean_kv", "span_s", "requests_per_s")] == [
        "TTFT",
        "Mean KV",
        "Span",
        "Requests",
    ]


def test_text_cannot_become_markup() -> None:
    evil = "</script><script>alert(1)</script>\"'&"
    blocks: list[Block] = [
        Text(evil),
        Cards([Card(evil, evil, evil, meaning=evil)]),
        Table([evil], [[Cell(evil)]], evil, choices=[evil]),
    ]
    html = page(evil, [Section(evil, blocks, evil)], evil)
    assert "<script>alert" not in html.replace("<script>const THEMES", "")
    assert html.count("&lt;/script&gt;") >= 9


def test_a_page_needs_no_network(saved: dict[str, list[Path]], tmp_path: Path) -> None:
    report(saved["one"], tmp_path / "r.html", curves=False)
    html = (tmp_path / "r.html").read_text()
    assert "default-src 'none'" in html
    assert ' src="' not in html
    assert "<link rel" not in html.replace('<link rel="icon" href="data:,">', "")
    assert len(html) < 3_000_000


@pytest.mark.parametrize("kind", ["one", "three", "many"])
def test_all_kinds_from_the_command_line(saved: dict[str, list[Path]], tmp_path: Path, kind: str) -> None:
    without = ["--no-curve"] if kind == "three" else []
    answer = CliRunner().invoke(cli, ["report", *map(str, saved[kind]), "-o", str(tmp_path / "r.html"), *without])
    assert answer.exit_code == 0, answer.output
    assert answer.output.startswith(f"Written to {tmp_path / 'r.html'}: ")
    assert [path.name for path in tmp_path.iterdir()] == ["r.html"]
    assert ("Latency against load" in (tmp_path / "r.html").read_text()) == (kind == "one")


@pytest.mark.parametrize("empty", [True, False])
def test_a_run_in_which_nothing_finished(saved: dict[str, list[Path]], tmp_path: Path, empty: bool) -> None:
    folder, whole = tmp_path / "none", fastsim.Result.load(saved["one"][0])
    table, summary = whole.requests, dict(whole.summary)
    nothing = pa.array([None] * table.num_rows, pa.float64()).fill_null(float("nan"))
    for index, name in enumerate(table.column_names):
        if name in ("scheduled_at", "first_token_at", "finished_at", "ttft", "e2e", "tpot", "scheduling_delay"):
            table = table.set_column(index, table.field(index), nothing)
    table = table.slice(0, 0) if empty else table
    for key in ("throughput", "energy"):
        summary[key] = dict.fromkeys(summary[key])
    summary["latency"] = {key: dict.fromkeys(figures) for key, figures in summary["latency"].items()}
    summary["totals"] = summary["totals"] | {"requests": table.num_rows, "finished": 0}
    summary["cost"] = summary["cost"] | {"dollars_per_million_output_tokens": None}
    for key in set(summary) - {
        "throughput",
        "latency",
        "totals",
        "cost",
        "utilisation",
        "definitions",
        "warnings",
        "timing",
    }:
        summary.pop(key)
    fastsim.Result(table, None, summary, whole.config).save(folder)
    report([folder], tmp_path / "r.html", curves=False)
    assert f"None of {table.num_rows} requests finished." in (tmp_path / "r.html").read_text()
    report([folder, *saved["three"]], tmp_path / "r.html", curves=False)
    report([folder, *saved["many"]], tmp_path / "r.html")


def test_bad_input(saved: dict[str, list[Path]], tmp_path: Path) -> None:
    out, one = tmp_path / "r.html", saved["one"][0]
    cases: list[tuple[list[Path], Any, str]] = [
        ([], InputError, "no result is named"),
        ([tmp_path / "nothing"], InputError, "does not exist"),
        ([tmp_path], InputError, r"holds no requests\.parquet"),
        ([one, one], InputError, "is given twice"),
        ([one, one.parent / "x" / ".." / one.name], InputError, "is given as"),
    ]
    for folders, kind, words in cases:
        with pytest.raises(kind, match=words):
            report(folders, out)
    with pytest.raises(OutputError, match="is a folder; name a file"):
        report([one], tmp_path)
    for name in ("requests.parquet", "summary.json"):
        cut = shutil.copytree(one, tmp_path / f"cut-{name}")
        (cut / name).write_bytes((cut / name).read_bytes()[:100])
        with pytest.raises(InputError, match="cannot be read"):
            report([one, cut], out)
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        report([one], tmp_path / "file" / "r.html")
    assert not out.exists()
    answer = CliRunner().invoke(cli, ["report"])
    assert answer.exit_code == 2


def test_what_is_excluded_is_in_no_curve(tmp_path: Path) -> None:
    workload = fastsim.load_workload("chat", rate=10.0, num_requests=200)
    fastsim.simulate(None, workload, exclude=(4.0, 3.0)).save(tmp_path / "run")
    run = read([tmp_path / "run"], True, 1000, lambda share: None)[0]
    assert run.summary["excluded"]["requests"] > 0
    for key, found in run.curves.items():
        figures = run.summary["latency"][key]
        assert found.value[[0, -1]].tolist() == [figures["min"], figures["max"]]
    assert run.detail is not None
    assert run.detail.by_e2e[0].parts == pytest.approx(run.summary["breakdown"]["mean"])
    report([tmp_path / "run"], tmp_path / "r.html", curves=False)
    assert "Latencies leave out" in (tmp_path / "r.html").read_text()


def test_names_that_tell_runs_apart(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save(tmp_path / name / "run", 5.0, requests=5)
    report([tmp_path / "a" / "run", tmp_path / "b" / "run"], tmp_path / "r.html", curves=False)
    html = (tmp_path / "r.html").read_text()
    assert "a/run" in html
    assert "b/run" in html


def test_reading_imports_no_bokeh() -> None:
    import subprocess
    import sys

    code = "import sys, fastsim.report, fastsim.cli.report; sys.exit('bokeh' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert fastsim.__version__ in page("x", [])


def test_the_example_of_the_package_runs() -> None:
    import doctest

    tried = doctest.testmod(fastsim.report)
    assert (tried.failed, tried.attempted) == (0, 3)


def test_runs_side_by_side_have_their_curves(tmp_path: Path) -> None:
    folders = [save(tmp_path / device, 5.0, f"device={device}", requests=300) for device in ("a100", "h100")]
    report(folders, tmp_path / "r.html")
    html = (tmp_path / "r.html").read_text()
    for part in ("Capacity, a100", "Knee, h100", "Latency by requests/s", "With the requests of each run"):
        assert part in html


def test_a_sweep_has_a_page(tmp_path: Path) -> None:
    space = {
        "workload": {"source": "chat", "num_requests": 200},
        "axes": {"device": ["a100", "h100"], "num_replicas": [1, 2], "workload.rate": [2, 8, 16]},
    }
    done = fastsim.sweep(space, tmp_path / "sweep")
    assert done.configurations == 12
    answer = CliRunner().invoke(cli, ["report", str(tmp_path / "sweep"), "-o", str(tmp_path / "r.html")])
    assert answer.exit_code == 0, answer.output
    html = (tmp_path / "r.html").read_text()
    for part in ("Ranking", "Latency against load", "Pareto front", "Settings", "The best 12 of 12 configurations"):
        assert part in html
    cheapest = min(
        (row for part in (tmp_path / "sweep").glob("part-*.parquet") for row in pq.read_table(part).to_pylist()),
        key=lambda row: row["cost.dollars_per_million_output_tokens"],
    )
    best = (
        f"GPU {cheapest['device']}, replicas {cheapest['num_replicas']}, rate, requests/s {cheapest['workload.rate']}"
    )
    assert html.index(best) < html.index("form the Pareto front")
    with pytest.raises(InputError, match="a sweep has a page of its own"):
        report([tmp_path / "sweep", tmp_path / "other"], tmp_path / "r.html")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "_sweep.json").write_text("{}")
    with pytest.raises(InputError, match="holds a sweep without a row"):
        report([tmp_path / "empty"], tmp_path / "r.html")

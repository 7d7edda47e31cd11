"""Tables of all figures with their definitions, and of the configuration that a run depends on."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from fastsim.report.page.page import Block, Cell, Table
from fastsim.report.runs import Run
from fastsim.report.words import NOTHING, figure, interval, meaning, number, seconds, share, statistic, title
from fastsim.result import wording
from fastsim.result.metrics.definitions import METRICS, STATISTICS
from fastsim.result.wording import Wording

DIGEST = re.compile("[0-9a-f]{40,}")
SHOWN = ("mean", "p50", "p90", "p99", "p999", "max")


def distributions(run: Run, section: str) -> Table:
    """Return a row for each distribution in a section of the summary: latency, request or batch."""
    names = [
        m.name
        for m in METRICS
        if m.name.startswith(f"{section}.") and any(f"{m.name}.{stat}" in run.figures for stat in STATISTICS)
    ]
    words = wording.of(run.config)
    rows = [
        [
            Cell(title(wording.section(name.partition(".")[2], words))),
            *(
                Cell(figure(key, run.figures.get(key)), run.figures.get(key), key)
                for key in (f"{name}.{s}" for s in SHOWN)
            ),
        ]
        for name in names
    ]
    meanings = {title(wording.section(name.partition(".")[2], words)): meaning(name) for name in names}
    return Table(["", *(statistic(name) for name in SHOWN)], rows, meanings=meanings)


def scalars(runs: Sequence[Run]) -> Table:
    """Return a row for each other figure and a column for each run, with 90 % intervals where there are any."""
    apart = tuple(f"{m.name}." for m in METRICS if m.kind == "distribution")
    keys = [key for key in runs[0].figures if not key.startswith((*apart, "objectives.", "latency."))]
    words = wording.of(*(run.config for run in runs))
    rows = []
    for key in keys:
        cells = [Cell(_value(run, key), run.figures.get(key), key) for run in runs]
        rows.append([Cell(_heading(key, words)), *cells])
    meanings = {_heading(key, words): text for key in keys if (text := meaning(key))}
    return Table(
        ["", *(run.name for run in runs)] if len(runs) > 1 else ["", "value"],
        rows,
        filtered=len(rows) > 12,
        meanings=meanings,
    )


SLOWEST = {
    "request_id": "request",
    "replica_id": "replica",
    "arrived_at": "arrived",
    "num_prompt_tokens": "prompt",
    "num_cached_tokens": "cached",
    "num_output_tokens": "output",
    "num_restarts": "restarts",
}


def slowest(run: Run) -> list[Block]:
    """Return a table of the slowest requests, if the detail of the run is kept."""
    if run.detail is None or not run.detail.slowest:
        return []
    parts = [key for key in run.detail.slowest[0] if key.startswith("part.")]
    parts = [key for key in parts if any(row[key] > 0 for row in run.detail.slowest)]
    counts = [name for name in SLOWEST if name in run.detail.slowest[0]]
    again = {"num_restarts": wording.OF_SGLANG.losses} if wording.is_sglang(run.config) else {}
    head = [*((SLOWEST | again)[name] for name in counts), "TTFT", "E2E"]
    words = wording.of(run.config)
    head += [title(wording.section(key.removeprefix("part."), words)) for key in parts]
    rows = []
    for row in run.detail.slowest:
        cells = [Cell(seconds(row[key]) if key == "arrived_at" else f"{row[key]:.0f}", row[key]) for key in counts]
        cells += [Cell(seconds(row[key]), row[key]) for key in ("ttft", "e2e", *parts)]
        rows.append(cells)
    return [Table(head, rows, "The slowest requests by end-to-end time")]


def replicas(run: Run) -> list[Block]:
    """Return a row for each replica, if there are several and the summary holds them."""
    listed = run.summary.get("replicas") or []
    if len(listed) < 2:
        return []
    keys = [key for key in listed[0] if key not in ("replica", "rank")]
    head = ["replica", *map(title, keys)]
    rows: list[list[Cell | str]] = []
    pools = run.config["deployment"].get("pools") or ()
    pool_of = [pool["name"] for pool in pools for _ in range(int(pool["num_replicas"]))]
    for replica, figures in enumerate(listed):
        cells = [_of_replica(key, figures[key]) for key in keys]
        name = f"{figures['replica']}, rank {figures['rank']}" if "rank" in figures else str(replica)
        name += f" ({pool_of[replica]})" if pool_of else ""
        rows.append([Cell(name, replica), *cells])
    return [
        Table(head, rows, "Figures of each replica, and of each stage where there are several", filtered=len(rows) > 12)
    ]


def pools(run: Run) -> list[Block]:
    """Return a row for each pool, if the summary holds them."""
    listed = run.summary.get("pools") or []
    rows: list[list[Cell | str]] = []
    names = ("name", "role", "device")
    keys = [key for key in (listed[0] if listed else ()) if key not in names]
    for entry in listed:
        rows.append([*(str(entry[name]) for name in names), *(_of_replica(key, entry[key]) for key in keys)])
    return [Table(["pool", "role", "GPU", *map(title, keys)], rows, "Figures of each pool")] if rows else []


def tenants(run: Run) -> list[Block]:
    """Return a row for each tenant, if the summary holds them."""
    listed = run.summary.get("tenants") or []
    shown = [(name, key) for name in ("ttft", "tpot", "e2e") for key in ("p50", "p99")]
    counts = ("requests", "finished", "prompt_tokens", "output_tokens")
    rows: list[list[Cell | str]] = []
    for entry in listed:
        figures = [entry["latency"][name][key] for name, key in shown]
        cells = [Cell(number(entry[name]), entry[name]) for name in counts]
        rows.append([entry["tenant"] or NOTHING, *cells, *(Cell(seconds(value), value) for value in figures)])
    head = ["tenant", *map(title, counts), *(f"{title(name)} {statistic(key)}" for name, key in shown)]
    return [Table(head, rows, "Figures of each tenant", filtered=len(rows) > 12)] if rows else []


def _of_replica(key: str, value: Any) -> Cell:
    """A figure of a replica, or a list with one figure for each of its stages."""
    values = value if isinstance(value, list) else [value]
    text = share if key in ("busy", "mfu", "mean_kv", "peak_kv") else number
    known = [figure for figure in values if figure is not None]
    return Cell(", ".join(map(text, values)), math.fsum(known) / len(known) if known else None)


def configuration(runs: Sequence[Run]) -> Table:
    """Return a row for each field of config.json, with its value in each run."""
    return _fields(runs, fields(runs))


def differences(runs: Sequence[Run]) -> Table:
    """Return the fields of deployment and workload that differ between the runs, without those that are derived."""
    values_of = fields(runs)
    asked = {
        key: values
        for key, values in values_of.items()
        if key.startswith(("deployment.", "workload.")) and not key.endswith("num_blocks") and len(set(values)) > 1
    }
    return _fields(runs, asked)


def _fields(runs: Sequence[Run], values_of: dict[str, list[str]]) -> Table:
    """A table with a row for each field and a column for each run."""
    rows: list[list[Cell | str]] = [[key, *values] for key, values in values_of.items()]
    return Table(["", *(run.name for run in runs)] if len(runs) > 1 else ["", "value"], rows, filtered=len(rows) > 12)


def common(runs: Sequence[Run]) -> Table:
    """Return the fields of config.json that are the same in all runs."""
    same = [[key, values[0]] for key, values in fields(runs).items() if len(set(values)) == 1]
    return Table(["", "value"], same, filtered=True)


def fields(runs: Sequence[Run]) -> dict[str, list[str]]:
    """Return the value in each run of each field of config.json, by its dotted key."""
    flat = [{key: _plain(value) for key, value in _flat(run.config)} for run in runs]
    keys = dict.fromkeys(key for each in flat for key in each)
    return {key: [each.get(key, NOTHING) for each in flat] for key in keys}


def _flat(value: Mapping[str, Any], before: str = "") -> list[tuple[str, Any]]:
    """The leaves of a nested mapping, by their dotted keys; items of a list go by their names, if they have any."""
    flat: list[tuple[str, Any]] = []
    for key, part in value.items():
        name = f"{before}.{key}" if before else key
        if isinstance(part, list) and part and all(isinstance(one, Mapping) and "name" in one for one in part):
            part = {one["name"]: {inner: of for inner, of in one.items() if inner != "name"} for one in part}
        flat += _flat(part, name) if isinstance(part, Mapping) else [(name, part)]
    return flat


def _plain(value: Any) -> str:
    """The value of a field as text, with digests shortened."""
    if isinstance(value, list):
        return ", ".join(map(_plain, value)) if value else NOTHING
    if value is None:
        return NOTHING
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return f"{text[:12]}…" if DIGEST.fullmatch(text) else text


def _value(run: Run, key: str) -> str:
    """A figure with its 90 % interval, if it has one."""
    text = figure(key, run.figures.get(key))
    ends = run.summary.get("replicates", {}).get("intervals", {}).get(key)
    return text if ends is None else f"{text} ({interval(key, ends)})"


def _heading(name: str, words: Wording) -> str:
    """The heading of a figure: Utilisation: Busy for utilisation.busy."""
    first, _, key = name.partition(".")
    section = wording.section(first, words)
    return (
        f"{title(section)}: {title(key.replace('.', ' ').replace(wording.OF_VLLM.loss, words.loss))}"
        if key
        else title(section)
    )

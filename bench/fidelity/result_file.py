"""A dated result of the leaderboard: what was measured and predicted, row by row, and from which inputs."""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

from fastsim.files.writing import atomic_file
from fastsim.version import __version__

from .peers import peers_of
from .replay import Replayed
from .runs import METRICS, THROUGHPUT, RunSet
from .scores import score


class Scored(NamedTuple):
    """A set, its replayed rows, and why others are missing."""

    runs: RunSet
    rows: Sequence[Replayed]
    left_out: Sequence[str]


def write(path: Path, groundtruth: Path, scored: Sequence[Scored], draws: int) -> None:
    """Write a JSON file with a line per row; times are in s, throughput in tokens/s, errors in %. Raises OSError."""
    files = sorted({file for one in scored for file in one.runs.files})
    about = {
        "date": date.today().isoformat(),
        "version": __version__,
        "draws": draws,
        "inputs": {str(file.relative_to(groundtruth)): _sha256(file) for file in files},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as part, part.open("w") as file:
        head = json.dumps(about, indent=1)
        sets = ",\n".join(map(_set, scored))
        file.write(f'{head[:-2]},\n "sets": [\n{sets}\n ]\n}}\n')


def _set(one: Scored) -> str:
    """A set as JSON, with a line per row: its split, and per figure what was measured and predicted.

    Where the draws differ, the lowest and the highest prediction follow.
    """
    never = [row for row in one.rows if not row.row.fitted]
    about = {
        "set": one.runs.title,
        "protocol": one.runs.protocol,
        "num_rows": len(one.rows),
        "num_fitted": len(one.rows) - len(never),
        "errors": _errors(one.rows),
        "errors_never_fitted": _errors(never),
        "left_out": Counter(one.left_out),
        "peers": [{**peer._asdict(), "errors": dict(peer.errors)} for peer in peers_of(one.runs.title)],
    }
    rows = ",\n".join(json.dumps(_row(row)) for row in one.rows)
    return f'{json.dumps(about)[:-1]}, "rows": [\n{rows}]}}'


def _errors(rows: Sequence[Replayed]) -> dict[str, dict[str, float]]:
    found = {metric: score(rows, metric) for metric in (*METRICS, THROUGHPUT)}
    return {
        metric: {"signed": round(one.signed, 2), "absolute": round(one.absolute, 2), "median": round(one.median, 2)}
        for metric, one in found.items()
        if one is not None
    }


def _row(one: Replayed) -> dict[str, Any]:
    found: dict[str, Any] = {"row": one.row.name, "split": "fitted" if one.row.fitted else "tested"}
    for name, value in one.predicted.items():
        values = [one.row.measured[name], value]
        if one.lowest[name] < one.highest[name]:
            values += [one.lowest[name], one.highest[name]]
        found[name] = [_six(value) for value in values]
    return found


def _six(value: float) -> float:
    return float(f"{value:.6g}")


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()

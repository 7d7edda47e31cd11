"""The batches of a chosen second: what each replica computes when, and on which stage."""

import numpy as np
from numpy.typing import NDArray

from fastsim.report.page.page import Figure
from fastsim.report.page.picture import Blocks, Picture
from fastsim.report.words import number, seconds
from fastsim.result.result import Result

MOST_ROWS = 12  # replicas and stages
MOST_BATCHES = 2000  # that are drawn


def busiest(result: Result) -> float:
    """The second of a run in which most requests wait, s."""
    arrived, scheduled = result.column("arrived_at"), result.column("scheduled_at")
    moments = np.arange(np.floor(np.nanmin(arrived)), np.floor(np.nanmax(scheduled)) + 1)
    waiting = np.searchsorted(np.sort(arrived), moments + 1) - np.searchsorted(np.sort(scheduled), moments)
    return float(moments[int(np.argmax(waiting))])


def second(result: Result, begin: float, length: float = 1.0) -> Figure:
    """Return a figure of the batches between ``begin`` and ``begin + length``, s, of a result with iterations."""
    assert result.iterations is not None
    column = {name: result.iterations[name].to_numpy() for name in result.iterations.column_names}
    rows = np.flatnonzero((column["end"] > begin) & (column["start"] < begin + length))
    names = _names(column, rows)
    kept = np.isin(names, list(dict.fromkeys(sorted(set(names), key=_order)))[:MOST_ROWS])
    hidden = len(set(names)) - len(set(names[kept]))
    rows, names = rows[kept][:MOST_BATCHES], names[kept][:MOST_BATCHES]
    prompts = column["num_prefill_tokens"][rows] > 0
    shown = sorted(set(names), key=_order) or ["replica 0"]
    picture = Picture(
        "time in s",
        "",
        [
            _layer(column, rows[prompts], names[prompts], "batches with prompts", 1),
            _layer(column, rows[~prompts], names[~prompts], "decodes only", 0),
        ],
        x_range=(begin, begin + length),
        y_range=shown[::-1],
        height=max(150, 100 + 40 * len(shown)),
    )
    others = f" {hidden} further replicas or stages are not shown." if hidden else ""
    caption = f"{len(rows):,} batches from {begin:g} to {begin + length:g} s, each from its start to its end.{others}"
    return Figure(picture, caption)


def _names(column: dict[str, NDArray[np.generic]], rows: NDArray[np.int64]) -> NDArray[np.str_]:
    """The row of each batch in the figure."""
    replicas, stages = column["replica_id"][rows].tolist(), column["stage_id"][rows].tolist()
    several = int(np.max(column["stage_id"], initial=0)) > 0
    texts = [
        f"replica {replica}, stage {stage}" if several else f"replica {replica}"
        for replica, stage in zip(replicas, stages, strict=True)
    ]
    return np.array(texts, dtype=np.str_)


def _order(name: str) -> list[int]:
    return [int(word) for word in name.replace(",", "").split() if word.isdigit()]


def _layer(
    column: dict[str, NDArray[np.generic]], rows: NDArray[np.int64], names: NDArray[np.str_], name: str, place: int
) -> Blocks:
    begin, end = (column[key][rows].astype(np.float64) for key in ("start", "end"))
    prompts, tokens = column["num_prefill_tokens"][rows].tolist(), column["num_tokens"][rows].tolist()
    tips = {
        "time": [seconds(each) for each in (end - begin).tolist()],
        "requests": [number(each) for each in column["num_seqs"][rows].tolist()],
        "prompt tokens": [number(each) for each in prompts],
        "decodes": [number(each - prompt) for each, prompt in zip(tokens, prompts, strict=True)],
        "KV blocks": [number(each) for each in column["kv_blocks_used"][rows].tolist()],
    }
    return Blocks(begin, end, names.tolist(), name, place, tips)

"""What the page shows of an answer: headline figures as HTML, and figures as data that drawn figures take over."""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fastsim.explore.question import Question
from fastsim.planning.load_curve import Curve
from fastsim.report.charts.curve import against_load
from fastsim.report.charts.distribution import latencies
from fastsim.report.charts.over_time import over_time
from fastsim.report.charts.time_spent import operators, tail
from fastsim.report.comparison import compared
from fastsim.report.headline import answers
from fastsim.report.page.page import Block, Figure, Tabs, fragment
from fastsim.report.page.picture import Limit, Picture
from fastsim.report.runs import Run, run_of
from fastsim.report.thin import POINTS
from fastsim.result.result import Result

NOW, PINNED = "now", "pinned"
SECOND = "Timeline of a second"
_drawings: dict[str, Any] = {}  # by shape, of which there are few


def runs_of(result: Result, pinned: Result | None, detail: bool = True) -> list[Run]:
    """The runs that the page shows side by side: that of now and, if there is one, the pinned one.

    ``detail``: include what the charts need; the headline alone is quicker without it.
    """
    found = [(NOW, result)] if pinned is None else [(NOW, result), (PINNED, pinned)]
    return [run_of(name, number, each, detail, POINTS) for number, (name, each) in enumerate(found)]


def headline(runs: Sequence[Run]) -> str:
    """The headline as HTML: the verdict, the objectives and the main figures, or a comparison with what is pinned."""
    section = answers(runs[0]) if len(runs) == 1 else compared(runs)
    return fragment(section.blocks, "answer")


def sections(runs: Sequence[Run]) -> dict[str, list[tuple[str, Figure]]]:
    """The figures by section and by tab."""
    return {
        "Latency": _tabs(latencies(runs, log=True)),  # an axis that changes its kind while settings change misleads
        "Slow requests": [*_tabs(tail(runs)), *_tabs(Tabs([("GPU time", operators(runs))]))],
        "Over time": _tabs(over_time(runs)),
    }


def loads(curve: Curve, question: Question) -> dict[str, list[tuple[str, Figure]]]:
    """The figures of latency and cost against load, in which the load of the question is marked."""
    load = question.users if curve.users else question.rate
    now = [("now", float(load), 0)] if load is not None else []
    found = _tabs(against_load([curve], now))
    order = sorted(found, key=lambda pair: pair[0] != "Cost")  # the cost first
    return {"Cost and latency against load": order}


def _tabs(block: Block) -> list[tuple[str, Figure]]:
    """The figures of tabs by name."""
    if not isinstance(block, Tabs):
        return []
    return [(name, each) for name, inside in block.tabs for each in inside if isinstance(each, Figure)]


def as_json(
    shown: Mapping[str, Sequence[tuple[str, Figure]]], opened: Mapping[str, str], known: frozenset[str]
) -> list[dict[str, Any]]:
    """The sections as the page reads them.

    Only the tab of each section that is ``opened``, the first where none is, has data; and the drawing itself where
    its shape is not among those ``known``.
    """
    made = []
    for name, tabs in shown.items():
        if not tabs:
            continue
        names = [tab for tab, _ in tabs]
        current = opened.get(name) if opened.get(name) in names else names[0]
        figure = tabs[names.index(str(current))][1]
        made.append({"name": name, "tabs": names, "open": current, "figure": _figure(figure, known)})
    return made


def _figure(shown: Figure, known: frozenset[str]) -> dict[str, Any]:
    picture = shown.figure
    assert isinstance(picture, Picture)
    shape = picture.shape
    made: dict[str, Any] = {
        "shape": shape,
        "caption": shown.caption,
        "names": list(shown.names),
        "height": picture.height,
        **_data(picture),
    }
    if shape not in known:
        made["item"] = _drawing(shape, picture)
    return made


def _drawing(shape: str, picture: Picture) -> Any:
    """The drawing of a picture, which takes long and is made once for each shape."""
    from bokeh.embed import json_item

    if shape not in _drawings:
        _drawings[shape] = json_item(picture.draw(spare=True))
    return _drawings[shape]


def _data(picture: Picture) -> dict[str, Any]:
    """The data of a picture: columns, ends and ticks of the axes, and limits."""
    return {
        "layers": [{name: _packed(values) for name, values in columns.items()} for columns in picture.columns],
        "x_range": _ends(picture.x_range),
        "y_range": _ends(picture.y_range),
        "x_ticks": list(picture.x_ticks.items()),
        "y_ticks": list(picture.y_ticks.items()),
        "limits": [_limit(picture, limit) for limit in picture.limits],
    }


def _packed(values: Any) -> Any:
    """Numbers as the bytes of float32 in base64, and texts as they are."""
    if isinstance(values, np.ndarray):
        return {"float32": base64.b64encode(np.ascontiguousarray(values, "<f4").tobytes()).decode()}
    return values


def _ends(ends: Any) -> Any:
    return None if ends is None or ends == "from zero" else list(ends)


def _limit(picture: Picture, limit: Limit) -> dict[str, Any]:
    return {"at": limit.at, "text": limit.text, "axis": limit.axis}

"""Lays a picture out as shapes: axes, layers, limits and a legend below."""

from collections.abc import Iterator
from itertools import pairwise
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastsim.report.page.bars import legend_of
from fastsim.report.page.figures import DASHES
from fastsim.report.page.palette import GRID, INK, LINES, MUTED
from fastsim.report.page.picture import Band, Bars, Layer, Line, Marks, Picture, Stack
from fastsim.report.still.axes import Axis, axis
from fastsim.report.still.shapes import Area, Points, Shape, Sheet, Stroke, Words, box

Entry: TypeAlias = tuple[str, str, tuple[float, ...]]  # of a legend: name, colour, dashes
WIDTH = 760
TOP, RIGHT, BOTTOM = 14, 22, 46  # pixels beside the axes
LETTER = 6.4  # width of a letter of 12 pixels, about
ROW = 20  # height of a row of the legend
GAPS = {"solid": (), "dashed": (6.0, 4.0), "dotdash": (2.0, 4.0, 6.0, 4.0), "dotted": (2.0, 4.0)}


def sheet(picture: Picture, width: int = WIDTH, title: str = "") -> Sheet:
    """Lay a picture out, ``width`` pixels wide."""
    head = TOP + (22 if title else 0)
    foot = picture.height + head - TOP - BOTTOM
    upright = axis(picture, "y", foot, head)
    left = 26.0 * bool(picture.y_label) + 14 + LETTER * max((len(text) for text in upright.ticks.values()), default=4)
    across = axis(picture, "x", left, width - RIGHT)
    rows = _wrapped(_names(picture), width - RIGHT - left)
    height = foot + BOTTOM + ROW * len(rows)
    shapes: list[Shape] = [Area(box(0, 0, width, height), "#ffffff")]
    if title:
        shapes.append(Words((left, 18), title, INK, size=14))
    shapes += _frame(picture, across, upright)
    for layer in picture.layers:
        shapes += _layer(layer, across, upright)
    shapes += _limits(picture, across, upright)
    for number, row in enumerate(rows):
        shapes += _legend(row, left, foot + BOTTOM + ROW * (number + 0.5))
    return Sheet(width, int(height), shapes)


def _frame(picture: Picture, across: Axis, upright: Axis) -> Iterator[Shape]:
    """Grid, ticks and labels."""
    head, foot, left, right = upright.last, upright.first, across.first, across.last
    for at, text in across.ticks.items():
        x = float(across.pixels(at))
        yield Stroke([(x, head), (x, foot)], GRID)
        yield Words((x, foot + 17), text, MUTED, "middle")
    for at, text in upright.ticks.items():
        y = float(upright.pixels(at))
        if not upright.rows:
            yield Stroke([(left, y), (right, y)], GRID)
        yield Words((left - 7, y + 4), text, MUTED, "end")
    yield Stroke([(left, head), (left, foot), (right, foot)], MUTED)
    yield Words(((left + right) / 2, foot + 37), picture.x_label, INK, "middle", 13)
    if picture.y_label:
        yield Words((16, (head + foot) / 2), picture.y_label, INK, "middle", 13, turned=True)


def _layer(layer: Layer, across: Axis, upright: Axis) -> Iterator[Shape]:
    match layer:
        case Line(x, y, _, number, step):
            look = LINES[number % len(LINES)], 2.0, GAPS[DASHES[number // len(LINES) % len(DASHES)]]
            for points in _pieces(across.pixels(x), upright.pixels(y), step):
                yield Stroke(points, *look)
        case Band(x, low, high, number):
            at, lower, upper = across.pixels(x), upright.pixels(low), upright.pixels(high)
            known = np.isfinite(at) & np.isfinite(lower) & np.isfinite(upper)
            there = list(zip(at[known].tolist(), lower[known].tolist(), strict=True))
            back = list(zip(at[known].tolist(), upper[known].tolist(), strict=True))
            if there:
                yield Area(there + back[::-1], LINES[number % len(LINES)], 0.2)
        case Bars(left, right, top, number):
            floor = float(upright.pixels(max(0.0, upright.low)))
            edges = (across.pixels(left).tolist(), across.pixels(right).tolist(), upright.pixels(top).tolist())
            for one, other, high_ in zip(*edges, strict=True):
                yield Area(box(one, high_, other, floor), LINES[number % len(LINES)], 0.75)
        case Marks(x, y, number, _, marker, size, hollow):
            colour = LINES[number % len(LINES)]
            for point in zip(across.pixels(x).tolist(), upright.pixels(y).tolist(), strict=True):
                outline = _outline(point, size / 2, marker)
                yield Stroke([*outline, outline[0]], colour, 1.5) if hollow else Area(outline, colour)
        case Stack():
            yield from _stack(layer, across, upright)


def _stack(layer: Stack, across: Axis, upright: Axis) -> Iterator[Shape]:
    begin = np.zeros(len(layer.rows))
    for (_, colour), part in zip(legend_of([*layer.parts]), layer.parts.values(), strict=True):
        end = begin + np.asarray(part, np.float64)
        for row, first, last in zip(layer.rows, begin.tolist(), end.tolist(), strict=True):
            middle = upright.rows.index(row) + 0.5
            ends = across.pixels([first, last]).tolist()
            high, low = upright.pixels([middle + 0.31, middle - 0.31]).tolist()
            if last > first:
                yield Area(box(ends[0], high, ends[1], low), colour)
        begin = end


def _limits(picture: Picture, across: Axis, upright: Axis) -> Iterator[Shape]:
    for limit in picture.limits:
        if limit.axis == "x":
            x = float(across.pixels(limit.at))
            yield Stroke([(x, upright.last), (x, upright.first)], INK, 1.0, (4.0, 4.0))
            is_right = x > (across.first + across.last) / 2
            place = (x - 5, upright.first - 6) if is_right else (x + 5, upright.first - 6)
            yield Words(place, limit.text, INK, "end" if is_right else "start")
        else:
            y = float(upright.pixels(limit.at))
            yield Stroke([(across.first, y), (across.last, y)], INK, 1.0, (4.0, 4.0))
            yield Words((across.first + 5, y - 5), limit.text, INK)


def _pieces(x: NDArray[np.float64], y: NDArray[np.float64], step: bool) -> Iterator[Points]:
    """The unbroken parts of a line."""
    known = np.isfinite(x) & np.isfinite(y)
    for part in np.split(np.arange(len(x)), np.flatnonzero(np.diff(known.astype(np.int8))) + 1):
        if not len(part) or not known[part[0]]:
            continue
        points = list(zip(x[part].tolist(), y[part].tolist(), strict=True))
        if step:
            points = [points[0], *(q for p, n in pairwise(points) for q in ((n[0], p[1]), n))]
        yield points


def _outline(at: tuple[float, float], radius: float, marker: str) -> Points:
    """The corners of a marker: a square or a diamond, else a circle."""
    corners = {"square": (4, 0.25), "diamond": (4, 0.0), "triangle": (3, 0.75)}.get(marker, (24, 0.0))
    angles = 2 * np.pi * (np.arange(corners[0]) / corners[0] + corners[1] / 2)
    return [(at[0] + radius * float(np.cos(a)), at[1] + radius * float(np.sin(a))) for a in angles]


def _names(picture: Picture) -> list[Entry]:
    """The entries of the legend."""
    lines = [layer for layer in picture.layers if isinstance(layer, Line) and layer.name]
    drawn = [
        (line.name, LINES[line.number % len(LINES)], GAPS[DASHES[line.number // len(LINES) % len(DASHES)]])
        for line in lines
    ]
    return [*drawn, *((name, colour, ()) for name, colour in picture.names)]


def _wrapped(names: list[Entry], width: float) -> list[list[Entry]]:
    """The entries of the legend in rows."""
    rows: list[list[Entry]] = []
    used = width
    for name in names:
        size = 38 + LETTER * len(name[0])
        if used + size > width:
            rows.append([])
            used = 0.0
        rows[-1].append(name)
        used += size
    return rows


def _legend(row: list[Entry], left: float, y: float) -> Iterator[Shape]:
    x = left
    for name, colour, dash in row:
        yield Stroke([(x, y - 4), (x + 16, y - 4)], colour, 4.0 if not dash else 2.0, dash)
        yield Words((x + 21, y), name, INK)
        x += 38 + LETTER * len(name)

"""A page in one file: sections of cards, tables, tabs and figures, with style, script and BokehJS inside.

Blocks take plain text, which is escaped here; code stands between backticks. A page asks for nothing from a network,
and its content security policy forbids it to.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from fastsim.files.writing import write_text
from fastsim.report.page.palette import THEMES
from fastsim.version import __version__

if TYPE_CHECKING:
    from bokeh.plotting import figure

CODE = re.compile("`([^`]+)`")
HERE = Path(__file__).parent
POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
Tone = Literal["plain", "good", "bad", "unknown"]


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str
    tone: Literal["plain", "note"] = "plain"


@dataclass(frozen=True)
class Card:
    """A headline figure. ``key``: its dotted key in summary.json, ``raw``: its value there."""

    label: str
    value: str
    note: str = ""
    tone: Tone = "plain"
    key: str = ""
    raw: float | None = None
    meaning: str = ""  # shown on hover


@dataclass(frozen=True)
class Cards:
    """Headline figures side by side; ``wide`` ones, with sentences in them, one below the other on a phone."""

    cards: Sequence[Card]
    wide: bool = False


@dataclass(frozen=True)
class Cell:
    """A cell of a table; ``raw`` is what it sorts by, ``key`` as in Card. ``colour``: of a swatch before it."""

    text: str
    raw: float | None = None
    key: str = ""
    tone: Tone = "plain"
    colour: str = ""


@dataclass(frozen=True)
class Table:
    """Rows of cells (text does for a cell). Click a head to sort; ``filtered`` adds a box to search the rows in.

    ``meanings``: definitions by text of a head or of a first cell, shown on hover. ``choices``: for each row, the name
    of its line in figures made by figures.choosable; adds boxes to tick, those of ``chosen`` already are.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[Cell | str]]
    caption: str = ""
    filtered: bool = False
    meanings: Mapping[str, str] = field(default_factory=dict)
    choices: Sequence[str] = ()
    chosen: Sequence[str] = ()
    colours: Sequence[str] = ()  # of swatches in the head


@dataclass(frozen=True)
class Figure:
    """A Bokeh figure (from figures.plot, to follow light and dark) with what it shows in a sentence.

    ``legend``: names and colours, for figures with more of them than fit beside the lines.
    """

    figure: "figure"
    caption: str
    legend: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class Tabs:
    """Blocks of which one group is seen at a time; all of them in print."""

    tabs: Sequence[tuple[str, Sequence["Block"]]]


Block: TypeAlias = Text | Cards | Table | Figure | Tabs


@dataclass(frozen=True)
class Section:
    """A titled part of a page; ``lead`` is a sentence below the title."""

    title: str
    blocks: Sequence[Block]
    lead: str = ""


def page(title: str, sections: Sequence[Section], lead: str = "") -> str:
    """The whole page as HTML, about 1.3 MB with BokehJS in it."""
    from bokeh.resources import Resources

    bokeh = Resources(mode="inline", components=["bokeh"], minified=True)
    parts = [_section(section, number) for number, section in enumerate(sections)]
    links = "".join(f'<a href="#s{n}">{escape(section.title)}</a>' for n, section in enumerate(sections))
    script = (HERE / "page.js").read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" '
        'content="light dark"><link rel="icon" href="data:,">'
        f"<title>{escape(title)}</title>\n<style>{(HERE / 'page.css').read_text(encoding='utf-8')}</style></head>\n"
        f"<body><header><h1>{escape(title)}</h1>"
        '<button id="theme" type="button" aria-label="Light or dark">◐</button>'
        f'{_lead(lead)}<nav aria-label="Sections">{links}</nav></header>\n<main>{"".join(parts)}</main>\n'
        f"<footer>Written by fastsim {__version__}. This file needs no network.</footer>\n"
        f"{bokeh.render_js()}\n<script>const THEMES = {json.dumps(THEMES)};\n{script}</script></body></html>\n"
    )


def write(html: str, path: str | Path) -> None:
    """Write a page in one piece, or not at all. Raises OutputError where it cannot be written."""
    write_text(Path(path), html)


def _section(section: Section, number: int) -> str:
    blocks = "".join(_blocks(section.blocks, f"s{number}"))
    return f'<section id="s{number}"><h2>{escape(section.title)}</h2>{_lead(section.lead)}{blocks}</section>\n'


def _lead(text: str) -> str:
    return f'<p class="lead">{_prose(text)}</p>' if text else ""


def _blocks(blocks: Sequence[Block], place: str) -> Iterator[str]:
    for number, block in enumerate(blocks):
        match block:
            case Text(text, tone):
                yield f'<p class="{tone}">{_prose(text)}</p>'
            case Cards(cards, wide):
                yield f'<div class="cards{" wide" if wide else ""}">{"".join(map(_card, cards))}</div>'
            case Table():
                yield _table(block)
            case Figure():
                yield _figure(block)
            case Tabs(tabs):
                yield _tabs(tabs, f"{place}-{number}")


def _prose(text: str) -> str:
    """`` `code` `` in a text is set as such."""
    return CODE.sub(r"<code>\1</code>", escape(text))


def _card(card: Card) -> str:
    figure, _, unit = card.value.partition(" ") if card.value[:1].isdigit() else (card.value, "", "")
    value = f'{escape(figure)} <span class="unit">{escape(unit)}</span>' if unit else escape(figure)
    note = f'<div class="note">{_prose(card.note)}</div>' if card.note else ""
    return (
        f'<div class="card {card.tone}"><div class="label">{_term(card.label, card.meaning)}</div>'
        f'<div class="value"{_data(card.key, card.raw)}>{value}</div>{note}</div>'
    )


def _table(table: Table) -> str:
    head = "".join(
        f'<th scope="col"><button type="button">{_swatch(colour)}{_term(name, table.meanings.get(name, ""))}'
        "</button></th>"
        for name, colour in zip_longest(table.head, table.colours, fillvalue="")
    )
    choosing = '<th scope="col"><button type="button">show</button></th>' if table.choices else ""
    rows = "".join(_row(table, number) for number in range(len(table.rows)))
    box = '<input type="search" placeholder="Filter rows" aria-label="Filter rows">' if table.filtered else ""
    count = f'<span class="count">{len(table.rows)} rows</span>' if table.filtered else ""
    caption = f"<caption>{escape(table.caption)}</caption>" if table.caption else ""
    kind = "scroll tall" if len(table.rows) > 20 else "scroll"
    return (
        f'<div class="table">{box}{count}<div class="{kind}" tabindex="0"><table>{caption}'
        f"<thead><tr>{choosing}{head}</tr></thead><tbody>{rows}</tbody></table></div></div>"
    )


def _row(table: Table, number: int) -> str:
    cells = [cell if isinstance(cell, Cell) else Cell(cell) for cell in table.rows[number]]
    choice = ""
    if table.choices:
        name = escape(table.choices[number])
        on = " checked" if table.choices[number] in table.chosen else ""
        choice = (
            f'<td><input type="checkbox" data-line="{name}" aria-label="Show {name}"{on}>'
            '<i class="swatch" data-slot=""></i></td>'
        )
    name = _inside(cells[0], table.meanings.get(cells[0].text, ""))
    if not table.meanings:
        name = name.replace("_", "_<wbr>").replace(".", ".<wbr>")  # a dotted key may go on in the next line
    first = f'<th scope="row">{name}</th>'
    rest = "".join(
        f'<td class="{cell.tone}{" number" if cell.raw is not None or cell.text in ("", "–") else ""}"'
        f"{_data(cell.key, cell.raw)}>{_inside(cell, '')}</td>"
        for cell in cells[1:]
    )
    return f"<tr>{choice}{first}{rest}</tr>"


def _inside(cell: Cell, meaning: str) -> str:
    return _swatch(cell.colour) + _term(cell.text, meaning)


def _swatch(colour: str) -> str:
    return f'<i class="swatch" data-colour="{colour}" style="background:{colour}"></i>' if colour else ""


def _figure(block: Figure) -> str:
    from bokeh.embed import json_item

    plot, caption = block.figure, block.caption
    names = "".join(f"<span>{_swatch(colour)}{escape(name)}</span>" for name, colour in block.legend)
    legend = f'<div class="legend">{names}</div>' if names else ""
    data = json.dumps(json_item(plot), separators=(",", ":")).replace("<", "\\u003c")
    height = (plot.height or 300) + 4
    return (
        f'<figure><div class="plot" role="img" aria-label="{escape(caption)}" style="min-height:{height}px">'
        f'<script type="application/json">{data}</script></div>{legend}'
        f"<figcaption>{_prose(caption)}</figcaption></figure>"
    )


def _tabs(tabs: Sequence[tuple[str, Sequence[Block]]], place: str) -> str:
    buttons = "".join(
        f'<button type="button" role="tab" id="{place}-t{n}" aria-controls="{place}-p{n}" '
        f'aria-selected="{str(n == 0).lower()}" tabindex="{0 if n == 0 else -1}">{escape(name)}</button>'
        for n, (name, _) in enumerate(tabs)
    )
    panels = "".join(
        f'<div role="tabpanel" id="{place}-p{n}" aria-labelledby="{place}-t{n}"{"" if n == 0 else " class=away"}>'
        f"<h3>{escape(name)}</h3>{''.join(_blocks(blocks, f'{place}-{n}'))}</div>"
        for n, (name, blocks) in enumerate(tabs)
    )
    return f'<div class="tabs"><div role="tablist">{buttons}</div><div class="panels">{panels}</div></div>'


def _term(text: str, meaning: str) -> str:
    if not meaning:
        return escape(text)
    return f'<span class="term" tabindex="0" data-tip="{escape(meaning)}">{escape(text)}</span>'


def _data(key: str, raw: float | None) -> str:
    name = f' data-key="{escape(key)}"' if key else ""
    return name + (f' data-value="{raw!r}"' if raw is not None else "")

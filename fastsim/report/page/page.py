"""A page in one file: sections of cards, tables, tabs and figures, with style, script and BokehJS inside.

Blocks take plain text, which the templates escape; code stands between backticks. A page loads nothing from a network,
and its content security policy forbids that it does.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from fastsim.files.writing import write_text
from fastsim.report.page.palette import THEMES
from fastsim.version import __version__

if TYPE_CHECKING:
    from bokeh.plotting import figure
    from jinja2 import Environment
    from markupsafe import Markup

    from fastsim.report.page.picture import Picture

CODE = re.compile("`([^`]+)`")
HERE = Path(__file__).parent
Tone = Literal["plain", "good", "bad", "unknown"]


@dataclass(frozen=True)
class Text:
    """A paragraph; a ``note`` is set smaller."""

    text: str
    tone: Literal["plain", "note"] = "plain"


@dataclass(frozen=True)
class Card:
    """A headline figure. ``key`` is its dotted key in summary.json, and ``raw`` its value there."""

    label: str
    value: str
    note: str = ""
    tone: Tone = "plain"
    key: str = ""
    raw: float | None = None
    meaning: str = ""  # shown on hover


@dataclass(frozen=True)
class Cards:
    """Headline figures side by side. ``wide`` cards, which hold sentences, are stacked on a phone."""

    cards: Sequence[Card]
    wide: bool = False


@dataclass(frozen=True)
class Cell:
    """A cell of a table, which sorts by ``raw``. ``key`` is as in Card, ``colour`` that of a swatch before the text."""

    text: str
    raw: float | None = None
    key: str = ""
    tone: Tone = "plain"
    colour: str = ""


@dataclass(frozen=True)
class Table:
    """Rows of cells, where a string stands for a Cell. A click on a heading sorts the rows.

    ``filtered`` adds a box to search the rows in. ``meanings`` are definitions by the text of a heading or of a first
    cell, shown on hover. ``choices`` adds a checkbox to each row and gives the name of its line in figures made by
    ``figures.choosable``; those of ``chosen`` are ticked at first.
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
    """A Picture or a Bokeh figure, made by ``figures.plot`` so that it follows the theme, with a caption.

    ``legend`` holds names and colours for a legend below the figure; by default that of the Picture.
    """

    figure: "figure | Picture"
    caption: str
    legend: Sequence[tuple[str, str]] = ()

    @property
    def names(self) -> Sequence[tuple[str, str]]:
        """Names and colours of the legend."""
        return self.legend or getattr(self.figure, "names", ())


@dataclass(frozen=True)
class Tabs:
    """Groups of blocks by name, of which the reader sees one at a time; a print shows all of them."""

    tabs: Sequence[tuple[str, Sequence["Block"]]]


Block: TypeAlias = Text | Cards | Table | Figure | Tabs


@dataclass(frozen=True)
class Section:
    """A part of a page with a title, and with a sentence ``lead`` below it."""

    title: str
    blocks: Sequence[Block]
    lead: str = ""


def page(title: str, sections: Sequence[Section], lead: str = "") -> str:
    """Return the whole page as HTML, about 1.3 MB with BokehJS in it.

    Parameters
    ----------
    title : str
        Title of the page and of its browser tab.
    sections : sequence of Section
        Parts of the page, from top to bottom; the head of the page links to each.
    lead : str, default ""
        A sentence below the title.
    """
    from bokeh.resources import Resources
    from markupsafe import Markup

    bokeh = Resources(mode="inline", components=["bokeh"], minified=True)
    return (
        _templates()
        .get_template("page.html")
        .render(
            title=title,
            sections=sections,
            lead=lead,
            version=__version__,
            themes=THEMES,
            style=Markup(asset("page.css")),
            script=Markup(asset("theme.js") + asset("page.js")),
            bokeh=Markup(bokeh.render_js()),
        )
    )


def asset(name: str) -> str:
    """Return the text of a style sheet or script of a page."""
    return (HERE / name).read_text(encoding="utf-8")


def fragment(blocks: Sequence[Block], place: str) -> str:
    """Return blocks as HTML for a part of a page whose identifiers begin with ``place``."""
    macros: Any = _templates().get_template("blocks.html").module
    return str(macros.blocks(blocks, place))


def write(html: str, path: str | Path) -> None:
    """Write a page to a file, completely or not at all.

    Parameters
    ----------
    html : str
        What ``page`` returned.
    path : str or Path
        The file to write.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    write_text(Path(path), html)


@cache
def _templates() -> "Environment":
    """The templates, which escape every text that no filter below has marked as HTML."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "apart": _apart,
        "breakable": _breakable,
        "cells": _cells,
        "drawing": _drawing,
        "kind": lambda block: type(block).__name__,
        "prose": _prose,
    }
    return environment


def _prose(text: str) -> "Markup":
    """Escaped text in which `` `code` `` is set as code."""
    from markupsafe import Markup, escape

    return Markup(CODE.sub(r"<code>\1</code>", str(escape(text))))


def _breakable(text: str) -> "Markup":
    """An escaped dotted key that may continue on the next line after a dot or an underscore."""
    from markupsafe import Markup, escape

    return Markup(str(escape(text)).replace("_", "_<wbr>").replace(".", ".<wbr>"))


def _apart(value: str) -> tuple[str, str]:
    """A figure and its unit, which is empty where the value is a word."""
    number, _, unit = value.partition(" ") if value[:1].isdigit() else (value, "", "")
    return number, unit


def _cells(row: Sequence[Cell | str]) -> list[Cell]:
    """The cells of a row, with each string made a Cell."""
    return [cell if isinstance(cell, Cell) else Cell(cell) for cell in row]


def _drawing(figure: "figure | Picture") -> "Markup":
    """A figure as JSON that cannot end the script element around it."""
    from bokeh.embed import json_item
    from markupsafe import Markup

    from fastsim.report.page.picture import Picture

    drawn = figure.draw() if isinstance(figure, Picture) else figure
    return Markup(json.dumps(json_item(drawn), separators=(",", ":")).replace("<", "\\u003c"))

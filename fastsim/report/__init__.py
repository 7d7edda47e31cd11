"""Pages in one file for a browser: what `fastsim report` writes, and the blocks that other pages are made of.

``page`` makes HTML of Sections, ``write`` puts it into a file; ``fastsim.report.page.figures`` draws Bokeh figures that
follow light and dark.
"""

from fastsim.report.page.page import Card, Cards, Cell, Figure, Section, Table, Tabs, Text, page, write

__all__ = ["Card", "Cards", "Cell", "Figure", "Section", "Table", "Tabs", "Text", "page", "write"]

"""The HTML pages that `fastsim report` writes, and the blocks for pages of your own.

``page`` turns Sections into HTML and ``write`` writes it to a file. ``fastsim.report.page.figures`` makes Bokeh figures
that follow the light or dark theme of the page.

Examples
--------
>>> from fastsim.report import Card, Cards, Section, page
>>> html = page("A page", [Section("Answers", [Cards([Card("TTFT P99", "12 ms")])])])
>>> "<h2>Answers</h2>" in html
True
"""

from fastsim.report.page.page import Card, Cards, Cell, Figure, Section, Table, Tabs, Text, page, write

__all__ = ["Card", "Cards", "Cell", "Figure", "Section", "Table", "Tabs", "Text", "page", "write"]

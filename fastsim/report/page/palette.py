"""The colours of a page. Each light colour has a dark counterpart at the same position; eight of them are for lines.

Figures are drawn in the colours of the light theme, and the script of the page replaces each by its counterpart.
"""

# Distinct for readers with red-green colour blindness, with a contrast of at least 4.5 : 1 to the background.
LINES = ("#1f5fa8", "#b8500a", "#00756a", "#7b3fa0", "#a3215f", "#6f6200", "#4a5a6a", "#7a3b22")
INK, MUTED, GRID, FAINT = "#1c2630", "#5a6673", "#e4e8ec", "#f1f4f7"
GOOD, BAD = "#1c7a3d", "#b42318"
# From low to high: light to dark in the light theme, dark to light in the dark one.
RAMP = ("#eef4fb", "#d3e3f4", "#b2cfeb", "#8cb7df", "#649bd0", "#417ebd", "#28629f", "#17487c", "#0c3058")

_DARK_LINES = ("#7fb4f2", "#f2a35e", "#55c7b5", "#c99bea", "#f08fbf", "#d6c64f", "#a9b8c6", "#d8a08a")
_DARK = ("#e7ecf1", "#9ba8b5", "#2b3540", "#1a222b", "#6fcf8e", "#ff8f85")
_DARK_RAMP = ("#16202b", "#1a2f45", "#1f4161", "#27567f", "#336d9e", "#4587bb", "#64a3d3", "#90c1e6", "#c6e0f5")

SLOTS = tuple(str(number) for number in range(len(LINES)))

THEMES = {
    "light": [*LINES, INK, MUTED, GRID, FAINT, GOOD, BAD, *RAMP],
    "dark": [*_DARK_LINES, *_DARK, *_DARK_RAMP],
    "slots": list(SLOTS),
}

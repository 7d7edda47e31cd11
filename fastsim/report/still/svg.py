"""A still picture as SVG."""

from html import escape

from fastsim.report.page.figures import FONT
from fastsim.report.still.shapes import Area, Points, Shape, Sheet, Stroke, Words


def svg(sheet: Sheet) -> str:
    """Return a sheet as an SVG document that names nothing outside it."""
    size = f'width="{sheet.width}" height="{sheet.height}" viewBox="0 0 {sheet.width} {sheet.height}"'
    font = f'font-family="{escape(FONT)}"'
    shapes = "\n".join(_element(shape) for shape in sheet.shapes)
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} {font}>\n{shapes}\n</svg>\n'


def _element(shape: Shape) -> str:
    match shape:
        case Stroke(points, colour, width, dash):
            dashes = f' stroke-dasharray="{" ".join(f"{each:g}" for each in dash)}"' if dash else ""
            look = f'fill="none" stroke="{colour}" stroke-width="{width:g}" stroke-linejoin="round"{dashes}'
            return f'<polyline points="{_text(points)}" {look}/>'
        case Area(points, colour, alpha):
            opacity = f' fill-opacity="{alpha:g}"' if alpha < 1 else ""
            return f'<polygon points="{_text(points)}" fill="{colour}"{opacity}/>'
        case Words((x, y), text, colour, anchor, size, turned):
            turn = f' transform="rotate(-90 {x:.1f} {y:.1f})"' if turned else ""
            place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}"'
            return f'<text {place} fill="{colour}"{turn}>{escape(text)}</text>'


def _text(points: Points) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)

"""A still picture as PNG, drawn by Pillow, which Bokeh brings along."""

import math
from io import BytesIO
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from fastsim.report.still.shapes import Area, Points, Sheet, Stroke, Words

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont, ImageFont

SCALE = 2  # pixels of the file for one of the sheet, so that it is sharp on dense screens
FINER = 2  # so many times finer are lines drawn, and then made smaller, which smoothes them


def png(sheet: Sheet) -> bytes:
    """Return a sheet as the content of a PNG file."""
    from PIL import Image, ImageDraw

    by = SCALE * FINER
    image = Image.new("RGB", (sheet.width * by, sheet.height * by), "#ffffff")
    pen = ImageDraw.Draw(image, "RGBA")
    for shape in sheet.shapes:
        match shape:
            case Stroke(points, colour, width, dash):
                for part in _dashes([(x * by, y * by) for x, y in points], [each * by for each in dash]):
                    pen.line(part, fill=colour, width=max(1, round(width * by)), joint="curve")
            case Area(points, colour, alpha):
                pen.polygon([(x * by, y * by) for x, y in points], fill=(*_rgb(colour), round(255 * alpha)))
            case Words():
                _write(image, pen, shape, by)
    small = image.resize((sheet.width * SCALE, sheet.height * SCALE), Image.Resampling.LANCZOS)
    file = BytesIO()
    small.save(file, "PNG")
    return file.getvalue()


def _write(image: Any, pen: Any, words: Words, by: int) -> None:
    from PIL import Image, ImageDraw

    font = _font(words.size * by)
    length = round(pen.textlength(words.text, font=font))
    (x, y), back = words.at, {"start": 0.0, "middle": 0.5, "end": 1.0}[words.anchor] * length
    if not words.turned:
        pen.text((x * by - back, y * by), words.text, fill=words.colour, font=font, anchor="ls")
        return
    line = Image.new("RGBA", (length, 2 * words.size * by))
    ImageDraw.Draw(line).text((0, round(1.5 * words.size * by)), words.text, fill=words.colour, font=font, anchor="ls")
    turned = line.rotate(90, expand=True)
    image.paste(turned, (round(x * by - 1.5 * words.size * by), round(y * by - length + back)), turned)


def _font(size: int) -> "FreeTypeFont | ImageFont":
    from PIL import ImageFont

    return ImageFont.load_default(size)


def _rgb(colour: str) -> tuple[int, int, int]:
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return red, green, blue


def _dashes(points: Points, dash: list[float]) -> list[Points]:
    """The parts of a line that are drawn."""
    if not dash:
        return [points]
    parts: list[Points] = []
    drawn, left, at = True, dash[0], 0
    current = [points[0]]
    for (x0, y0), (x1, y1) in pairwise(points):
        length = math.hypot(x1 - x0, y1 - y0)
        gone = 0.0
        while length - gone > left:
            gone += left
            corner = (x0 + (x1 - x0) * gone / length, y0 + (y1 - y0) * gone / length)
            if drawn:
                parts.append([*current, corner])
            drawn, at = not drawn, (at + 1) % len(dash)
            left, current = dash[at], [corner]
        left -= length - gone
        if drawn:
            current.append((x1, y1))
        else:
            current = [(x1, y1)]
    return [*parts, current] if drawn and len(current) > 1 else parts

"""Draws boxes, tags and maps on a picture. Imports Pillow, numpy and matplotlib only when it draws."""

from __future__ import annotations

import base64
import io
import math
from contextlib import suppress
from functools import cache
from html import escape
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unicodedata import east_asian_width

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from matplotlib.axes import Axes
    from numpy.typing import NDArray
    from PIL import Image

    Rectangle = tuple[float, float, float, float]

_COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7")
"""The palette of Okabe and Ito (2008), which people with any kind of colour blindness can tell apart."""
_DARK = "#1A1A1A"
_LIGHT = "#FFFFFF"
_SMALLEST = 480  # pixels of the longer side
_MOST_ENLARGED = 16
_SMALLEST_TEXT = 12
_MOST_SHOWN = 480  # pixels of a side in a notebook
_MOST_PLOTTED = 1600
_PLOT_INCHES = 6.0  # of the longer side of the photograph
_NARROWEST_PLOT = 3.5  # inches, for the words beside a narrow photograph
_LETTER = 0.62  # the width of a letter in sizes of its font, on average
_LINE = 1.35  # the height of a line, likewise
_POINTS = 72  # of an inch
_BETWEEN_TAGS = " · "
_STOPS = ((0, 0, 0), (0, 114, 178), (230, 159, 0), (255, 255, 255))
"""Black, blue, orange, white: lightness grows all along, so colours are not needed (Okabe and Ito 2008)."""
_STRENGTH = 0.65
_NARROWEST_BAND = 240
_FONTS = (
    "DejaVuSans.ttf", "NotoSans-Regular.ttf", "LiberationSans-Regular.ttf", "segoeui.ttf", "Arial.ttf",
    "Arial Unicode.ttf", "NotoSansCJK-Regular.ttc", "msyh.ttc", "malgun.ttf", "Hiragino Sans GB.ttc",
)  # fmt: skip
"""Fonts of Linux, Windows and macOS, those of European languages first; Pillow knows where each may be."""
_NO_CHARACTER = "\uffff"


def drawn(
    image: Image.Image, boxes: Sequence[tuple[str, float, Rectangle]], tags: Sequence[str]
) -> Image.Image:
    """Return a copy of an image with boxes, their labels and scores, and a band of tags below.

    Text and lines grow with the image, and an image whose longer side has less than 480 pixels is enlarged,
    so that the text can be read. Each label has one colour of a palette that is safe for colour-blind people,
    on a dark line, so that a box is seen on any ground.

    Args:
        image: upright, of any mode.
        boxes: label, score, and left, top, right, bottom in pixels of the image, best first.
        tags: texts for the band; no band without any.
    """
    from PIL import ImageDraw

    picture = _enlarged(image.convert("RGB"))
    scale = picture.width / image.width, picture.height / image.height
    size = max(_SMALLEST_TEXT, round(math.sqrt(picture.width * picture.height) / 36))
    colours = {
        label: _COLOURS[place % len(_COLOURS)]
        for place, label in enumerate(dict.fromkeys(label for label, _, _ in boxes))
    }
    draw = ImageDraw.Draw(picture)
    lines = max(2, size // 6)
    placed = [_scaled(box, scale) for _, _, box in boxes]
    for (label, _, _), box in reversed(list(zip(boxes, placed, strict=True))):
        draw.rectangle(_outset(box, lines // 2 + 1), outline=_DARK, width=lines + 2)
        draw.rectangle(box, outline=colours[label], width=lines)
    taken: list[Rectangle] = []
    for (label, score, _), box in zip(boxes, placed, strict=True):
        texts = label, f" {score:.0%}"
        taken.append(_write_label(draw, texts, box, colour=colours[label], size=size, taken=taken))
    return _with_band(picture, tags, size) if tags else picture


def heat_map(
    image: Image.Image, values: NDArray[np.float32], box: tuple[float, float, float, float]
) -> Image.Image:
    """Return a photograph in grey under a map in colours: none where there is nothing, white at the maximum.

    Args:
        image: RGB.
        values: (h, w) float32; what is below half of the way from the lowest to the highest is nothing. A map
            that is the same everywhere shows nothing.
        box: left, top, right, bottom of the map, in pixels of the image; may reach beyond it.
    """
    import numpy as np
    from PIL import Image

    stops = np.array(_STOPS, dtype=np.float32)
    lowest, highest = float(values.min()), float(values.max())
    spread = (values - lowest) / (highest - lowest) if highest > lowest else np.zeros_like(values)
    left, top, right, bottom = (round(edge) for edge in box)
    size = (max(1, right - left), max(1, bottom - top))
    whole = Image.new("F", image.size, 0.0)
    whole.paste(
        Image.fromarray(spread.astype(np.float32)).resize(size, Image.Resampling.BICUBIC), (left, top)
    )
    heat = np.clip(np.asarray(whole) * 2 - 1, 0, 1)[..., None]
    place = heat * (len(stops) - 1)
    below = np.minimum(place.astype(np.intp), len(stops) - 2)
    colours = stops[below[..., 0]] + (place - below) * (stops[below[..., 0] + 1] - stops[below[..., 0]])
    grey = np.asarray(image.convert("L").convert("RGB"), dtype=np.float32)
    mixed = grey * (1 - _STRENGTH * heat**0.5) + colours * _STRENGTH * heat**0.5
    return Image.fromarray(np.clip(mixed * (0.6 + 0.4 * heat), 0, 255).astype(np.uint8))


def page_of(
    title: str, picture: Image.Image | None, texts: Sequence[str], rows: Sequence[tuple[str, float]]
) -> str:
    """Return HTML with a title, a picture, texts below it, and a table of words with scores, all escaped.

    Args:
        title: in bold.
        picture: RGB, or None for none.
        texts: one line each.
        rows: of the table.
    """
    parts = [f"<b>{_isolated(title)}</b>"]
    if picture is not None:
        source = f"data:image/jpeg;base64,{_encoded(picture)}"
        parts.append(f'<img src="{source}" alt="{escape(title)}" style="max-width:100%">')
    parts += map(_isolated, texts)
    cells = (
        f'<td style="text-align:left">{_isolated(word)}</td><td>{score:.3f}</td>' for word, score in rows
    )
    if rows:
        table = "".join(f"<tr>{cell}</tr>" for cell in cells)
        parts.append(f'<table style="margin:0">{table}</table>')  # notebooks centre tables
    return "".join(f'<div style="overflow-wrap:anywhere">{part}</div>' for part in parts)


def _isolated(text: str) -> str:
    """Return a text in HTML whose direction is its own: Arabic and Hebrew are read from the right."""
    return f"<bdi>{escape(text)}</bdi>"


def photograph_at(source: str, most: int = _MOST_PLOTTED) -> Image.Image | None:
    """Return the photograph in a file, upright RGB, at most ``most`` pixels a side; None if there is none."""
    from PIL import Image, ImageOps

    try:
        with Image.open(source) as opened:
            opened.draft("RGB", (most, most))
            picture = ImageOps.exif_transpose(opened).convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    picture.thumbnail((most, most))
    return picture


def plotted(picture: Image.Image, title: str, below: Sequence[str], axes: Axes | None) -> Axes:
    """Show a picture in matplotlib, with a title above it and texts below it, in lines as wide as the axes.

    Args:
        picture: RGB.
        title: may be empty.
        below: may be empty; a line breaks between two texts where it can.
        axes: where; None makes a figure with pyplot, as high as the lines need.

    Raises:
        ImportError: there are no axes, and matplotlib is missing.
    """
    import numpy as np
    from matplotlib.font_manager import FontProperties

    sizes = [FontProperties(size=name).get_size_in_points() for name in ("medium", "small")]
    scale = _PLOT_INCHES / max(picture.size)
    wide = max(_NARROWEST_PLOT, picture.width * scale) if axes is None else axes.bbox.width / axes.figure.dpi
    lines = [
        _lines(texts, int(wide * _POINTS / (_LETTER * size)))
        for texts, size in zip(([title], below), sizes, strict=True)
    ]
    if axes is None:
        from matplotlib import pyplot as plt

        words = sum(_LINE * size * (len(some) + 1) for some, size in zip(lines, sizes, strict=True)) / _POINTS
        _, axes = plt.subplots(figsize=(wide, picture.height * scale + words), layout="compressed")
    axes.imshow(np.asarray(picture))
    axes.set(xticks=[], yticks=[])
    above, under = ("\n".join(some) for some in lines)
    for shown, texts in (
        (axes.set_title(above, fontsize=sizes[0]), [title]),
        (axes.set_xlabel(under, fontsize=sizes[1]), below),
    ):
        shown.set_parse_math(False)  # a dollar sign in a caption is one
        shown.set_fontfamily([*shown.get_fontfamily(), *_families(texts)])
    return axes


def _lines(texts: Sequence[str], columns: int) -> list[str]:
    """Return texts in lines of at most about so many columns; a Chinese or Japanese letter takes two."""
    import textwrap

    lines: list[str] = []
    for text in filter(None, texts):
        longer = f"{lines[-1]}{_BETWEEN_TAGS}{text}" if lines else text
        if lines and _columns(longer) <= columns:
            lines[-1] = longer
        else:
            lines += textwrap.wrap(text, max(1, columns * len(text) // _columns(text)))
    return lines


def _columns(text: str) -> int:
    return sum(2 if east_asian_width(letter) in "WF" else 1 for letter in text)


def _families(texts: Sequence[str]) -> list[str]:
    """Return the families of ``font_for``, as matplotlib knows them, for letters that its own font lacks."""
    from matplotlib.font_manager import fontManager

    paths = [font_for(text, _SMALLEST_TEXT).path for text in texts]
    families = []
    for path in dict.fromkeys(path for path in paths if isinstance(path, str)):  # Pillow's own has none
        if all(font.fname != path for font in fontManager.ttflist):
            fontManager.addfont(path)
        families.append(next(font.name for font in fontManager.ttflist if font.fname == path))
    return families


def _encoded(picture: Image.Image) -> str:
    """Return a picture as a JPEG of at most 480 pixels a side, in base64."""
    small = picture.copy()
    small.thumbnail((_MOST_SHOWN, _MOST_SHOWN))
    kept = io.BytesIO()
    small.save(kept, "JPEG", quality=85)
    return base64.b64encode(kept.getvalue()).decode("ascii")


def _enlarged(picture: Image.Image) -> Image.Image:
    """Return a small picture larger by a whole factor; others as they are."""
    from PIL import Image

    factor = min(_MOST_ENLARGED, -(-_SMALLEST // max(picture.size)))
    if factor <= 1:
        return picture
    return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.BICUBIC)


def _scaled(box: Rectangle, scale: tuple[float, float]) -> Rectangle:
    left, top, right, bottom = box
    return left * scale[0], top * scale[1], right * scale[0], bottom * scale[1]


def _outset(box: Rectangle, by: int) -> Rectangle:
    return box[0] - by, box[1] - by, box[2] + by, box[3] + by


def font_for(text: str, size: int) -> Any:
    """Return a Pillow font of a size in pixels that has the most of a text's characters.

    Pillow's own font has only those of English. For others, the fonts of this computer are tried.
    """
    from PIL import ImageFont

    own = ImageFont.load_default(size)
    if text.isascii():
        return own
    return min((own, *(font.font_variant(size=size) for font in _installed_fonts())), key=_missing(text))


@cache
def _installed_fonts() -> tuple[Any, ...]:
    from PIL import ImageFont

    names = list(_FONTS)
    matplotlib = find_spec("matplotlib")
    if matplotlib and matplotlib.origin:
        names.append(str(Path(matplotlib.origin).with_name("mpl-data") / "fonts" / "ttf" / _FONTS[0]))
    found = []
    for name in names:
        with suppress(OSError):
            found.append(ImageFont.truetype(name))
    return tuple(found)


def _missing(text: str) -> Callable[[Any], int]:
    """Return a function that counts the characters of a text that a font draws as an empty box."""

    def missing(font: Any) -> int:
        box = bytes(font.getmask(_NO_CHARACTER))
        return sum(bytes(font.getmask(character)) == box for character in set(text))

    return missing


def _write_label(
    draw: Any, texts: tuple[str, str], box: Rectangle, *, colour: str, size: int, taken: Sequence[Rectangle]
) -> Rectangle:
    """Write a label above its box, else inside or below it, where it covers no other; return its place.

    Label and score are written one after the other: after Arabic, the sign of percent would come first.
    """
    width, height = draw.im.size
    pad = max(2, size // 5)
    label, score = texts
    font = font_for(label, size)
    label = cut_to(label, font, width - 2 * pad - font.getlength(score))
    after = font.getlength(label)
    wide, high = after + font.getlength(score) + 2 * pad, size * 1.3 + pad
    left = min(max(box[0], 0), max(0, width - wide))
    tops = (box[1] - high, box[1], box[3] - high, box[3])
    fitting = [top for top in tops if 0 <= top <= height - high] or [max(0, min(box[1], height - high))]
    rectangles = [(left, top, left + wide, top + high) for top in fitting]
    place = next((one for one in rectangles if not any(_overlap(one, old) for old in taken)), rectangles[0])
    draw.rectangle(place, fill=colour)
    for start, text in ((0, label), (after, score)):
        at = place[0] + pad + start, place[1] + high / 2
        draw.text(at, text, font=font, fill=_on(colour), anchor="lm")
    return place


def _on(colour: str) -> str:
    """Return the text colour with more contrast on a ground (WCAG's relative luminance, 2.1)."""
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in channels]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return _DARK if luminance > 0.18 else _LIGHT


def _overlap(one: Rectangle, other: Rectangle) -> bool:
    across = min(one[2], other[2]) - max(one[0], other[0])
    return across > 0 and min(one[3], other[3]) > max(one[1], other[1])


def cut_to(text: str, font: Any, width: float) -> str:
    """Return a text that is at most so many pixels wide, with an ellipsis where it is cut."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}…") > width:
        text = text[:-1]
    return f"{text}…" if text else ""


def _with_band(picture: Image.Image, tags: Sequence[str], size: int) -> Image.Image:
    """Return the picture on top of a dark band with the tags, each in a font that has its letters."""
    from PIL import Image, ImageDraw

    pad, wide = max(4, size // 2), max(picture.width, _NARROWEST_BAND)
    dot, plain = "  ·  ", font_for("", size)
    lines: list[list[tuple[float, str, Any]]] = []
    end = 0.0
    for tag in tags:
        font = font_for(tag, size)
        text = cut_to(tag, font, wide - 2 * pad)
        start = end + plain.getlength(dot)
        if lines and start + font.getlength(text) <= wide - 2 * pad:
            lines[-1] += [(end, dot, plain), (start, text, font)]
        else:
            start = 0.0
            lines.append([(start, text, font)])
        end = start + font.getlength(text)
    step = round(size * 1.4)
    whole = Image.new("RGB", (wide, picture.height + step * len(lines) + 2 * pad), _DARK)
    whole.paste(picture)
    draw = ImageDraw.Draw(whole)
    for place, line in enumerate(lines):
        foot = picture.height + pad + step * place + size
        for left, text, font in line:
            draw.text((pad + left, foot), text, font=font, fill=_LIGHT, anchor="ls")
    return whole

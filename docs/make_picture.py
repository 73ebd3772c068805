"""Draws the picture in the README from a real run: python docs/make_picture.py

Each example photograph with its best caption and its tags, on one sheet.
"""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

import autotag
from autotag.records import Result

DOCS = Path(__file__).resolve().parent
COLUMNS = 3
CELL = (330, 360)
PHOTO = (310, 210)
MARGIN = 10
INK, FAINT, PAPER = "#1f2328", "#59636e", "#ffffff"


def contact_sheet(results: Sequence[Result]) -> Image.Image:
    """One cell per result; the photographs are read from ``result.source``."""
    rows = -(-len(results) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * CELL[0], rows * CELL[1]), PAPER)
    for number, result in enumerate(results):
        corner = (number % COLUMNS * CELL[0] + MARGIN, number // COLUMNS * CELL[1] + MARGIN)
        _draw_cell(sheet, corner, result)
    return sheet


def _draw_cell(sheet: Image.Image, corner: tuple[int, int], result: Result) -> None:
    left, top = corner
    with Image.open(result.source) as photo:
        sheet.paste(ImageOps.fit(photo.convert("RGB"), PHOTO, Image.Resampling.LANCZOS), corner)
    tags = ", ".join(f"{tag.text} {tag.score:.2f}" for tag in result.tags)
    draw = ImageDraw.Draw(sheet)
    caption = textwrap.fill(result.caption, 44, max_lines=2, placeholder=" ...")
    place = (left, top + PHOTO[1] + 8)
    draw.multiline_text(place, caption, fill=INK, font=ImageFont.load_default(15), spacing=4)
    place = (left, top + PHOTO[1] + 54)
    wrapped = textwrap.fill(tags or "no tag kept", 50, max_lines=3, placeholder=" ...")
    draw.multiline_text(place, wrapped, fill=FAINT, font=ImageFont.load_default(13), spacing=4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="mini")
    parser.add_argument("--output", type=Path, default=DOCS / "images" / "output.jpg")
    arguments = parser.parse_args()
    with autotag.load(arguments.preset) as tagger:
        results = list(tagger.stream(autotag.find_images(DOCS / "examples")))
    arguments.output.parent.mkdir(exist_ok=True)
    contact_sheet(results).save(arguments.output, quality=85, optimize=True)
    print(f"{arguments.output}: {len(results)} photographs")


if __name__ == "__main__":
    main()

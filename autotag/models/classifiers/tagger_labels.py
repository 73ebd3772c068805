"""Taggers as SmilingWolf publishes them (WD14 and later): the table of tags, and the input on white."""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from PIL import Image

from autotag.errors import ModelLoadError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from autotag.models.fast.views import SquareView

TAGS_FILE = "selected_tags.csv"
RATING = "rating"
_CATEGORIES = {
    "0": "general",
    "1": "artist",
    "3": "copyright",
    "4": "character",
    "5": "meta",
    "9": RATING,
}
"""Danbooru's numbers of kinds of tags; 9 is SmilingWolf's."""
_COLUMNS = ("name", "category")
_THRESHOLDS = {"character": 0.85}
_USUAL_THRESHOLD = 0.35
"""The thresholds of SmilingWolf's own demo."""
_FACES = frozenset(
    {"0_0", "(o)_(o)", "+_+", "+_-", "._.", "<o>_<o>", "<|>_<|>", "=_=", ">_<", "3_3", "6_9", ">_o", "@_@"}
    | {"^_^", "o_o", "u_u", "x_x", "|_|", "||_||"}
)
"""Tags that are little faces, whose underscores stay."""
_MOST_LARGER = 8


@dataclass(frozen=True, slots=True)
class TaggerLabels:
    """What a tagger knows, in the order of its outputs.

    Attributes:
        labels: the tags, with spaces instead of underscores but in little faces such as ``^_^``.
        categories: of each tag: ``"general"``, ``"character"``, ``"rating"`` and others.
        thresholds: of each tag, in [0, 1].
    """

    labels: tuple[str, ...]
    categories: tuple[str, ...]
    thresholds: tuple[float, ...]

    @classmethod
    def read(cls, model: str, file: Path, count: int | None = None) -> TaggerLabels:
        """Read ``selected_tags.csv``, which has the columns name and category.

        The threshold of a tag is in the column ``best_threshold``; without one it is 0.85 for characters and
        0.35 for others.

        Args:
            model: its name, for messages.
            file: the table.
            count: of the model's outputs; None when the model is not loaded yet.

        Raises:
            ModelLoadError: the table cannot be read, lacks a column or a field, or has too many or few rows.
        """
        try:
            with file.open(encoding="utf-8-sig", newline="") as lines:
                table = csv.DictReader(lines)
                rows = list(table)
                columns = table.fieldnames or ()
        except (OSError, ValueError, csv.Error) as error:
            raise ModelLoadError(model, f"model {model!r}: {file} cannot be read: {error}") from error
        lacking = [name for name in _COLUMNS if rows and name not in columns]
        if lacking:
            raise ModelLoadError(model, f"model {model!r}: {file} has no column {lacking[0]!r}")
        for number, row in enumerate(rows, 1):
            if None in row or any(row[name] is None for name in _COLUMNS):
                raise ModelLoadError(
                    model,
                    f"model {model!r}: {file}: tag {number} has fewer or more fields than there are columns",
                )
        if count is not None and len(rows) != count:
            raise ModelLoadError(
                model, f"model {model!r}: {file} has {len(rows)} tags, and the model {count}"
            )
        categories = tuple(_CATEGORIES.get(row["category"], row["category"]) for row in rows)
        try:
            limits = tuple(map(_threshold, rows, categories))
        except ValueError as error:
            raise ModelLoadError(model, f"model {model!r}: {file}, best_threshold: {error}") from error
        return cls(tuple(_words(row["name"]) for row in rows), categories, limits)


def on_white_square(image: Image.Image, side: int) -> Image.Image:
    """Return an upright RGB image in the middle of a white square.

    An image that is much larger than the model's input is made smaller first.

    Args:
        image: upright RGB.
        side: of the model's input, in pixels.
    """
    small = image
    if max(image.size) > _MOST_LARGER * side:
        small = image.copy()
        small.thumbnail((_MOST_LARGER * side,) * 2, Image.Resampling.BOX)
    edge = max(small.size)
    square = Image.new("RGB", (edge, edge), "white")
    square.paste(small, ((edge - small.width) // 2, (edge - small.height) // 2))
    return square


def white_view(view: SquareView | None) -> SquareView | None:
    """Return the view that pads an image with white to a square, for a model's own view; None for None."""
    return replace(view, geometry="longest", edge=0, fill=255) if view is not None else None


def _threshold(row: Mapping[str, str | None], category: str) -> float:
    own = row.get("best_threshold")
    value = float(own) if own else _THRESHOLDS.get(category, _USUAL_THRESHOLD)
    if not 0 <= value <= 1:
        raise ValueError(f"{own} is not in [0, 1]")
    return value


def _words(name: str) -> str:
    return name if name in _FACES else name.replace("_", " ")

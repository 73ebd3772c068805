"""Names that other programs give to files that belong to a photograph, beyond its own name and one extension.

- Google Takeout: ``IMG_1.jpg.supplemental-metadata.json``, cut anywhere so that 46 characters are left
  before ``.json``, down to ``IMG_1.jpg..json``; of ``IMG_1(2).jpg`` it is
  ``IMG_1.jpg.supplemental-metadata(2).json``.
- darktable: ``IMG_1_01.jpg.xmp``, the edits of a duplicate of ``IMG_1.jpg``.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

TAKEOUT_LENGTH = 46
"""Characters that Takeout leaves before ``.json``."""
_TAKEOUT = ".supplemental-metadata"
_COUNTER = re.compile(r"\((\d+)\)\Z")
_DUPLICATES = 99


@dataclass(frozen=True, slots=True)
class ForeignName:
    """The name that a companion would have.

    Attributes:
        name: of the companion.
        infix: what it has between the stem and the extension of its photograph.
        ending: what follows the extension of its photograph.
        owner: a picture whose companion it is instead, if that is there.
        is_cut: whether it has only the beginning of the photograph's name, which others may share.
    """

    name: str
    infix: str
    ending: str
    owner: str = ""
    is_cut: bool = False

    def renamed(self, stem: str, suffix: str) -> str:
        """Return its name beside a photograph with this stem and extension."""
        return f"{stem}{self.infix}{suffix}{self.ending}"


def foreign_names(photo: str) -> Iterator[ForeignName]:
    """Yield every name that such a companion of a photograph may have."""
    stem, suffix = os.path.splitext(photo)  # noqa: PTH122 - a name, no path
    yield from _of_takeout(photo, "")
    counter = _COUNTER.search(stem)
    if counter is not None:
        yield ForeignName(f"{stem[: counter.start()]}{suffix}{counter[0]}.json", "", ".json")
        yield from _of_takeout(f"{stem[: counter.start()]}{suffix}", counter[0])
    if len(photo) > TAKEOUT_LENGTH:
        yield ForeignName(f"{photo[:TAKEOUT_LENGTH]}.json", "", ".json", is_cut=True)
    for number in range(1, _DUPLICATES + 1):
        infix = f"_{number:02}"
        yield ForeignName(f"{stem}{infix}{suffix}.xmp", infix, ".xmp", owner=f"{stem}{infix}{suffix}")


def _of_takeout(title: str, counter: str) -> Iterator[ForeignName]:
    for length in range(len(_TAKEOUT), 0, -1):
        ending = _TAKEOUT[:length]
        yield ForeignName(f"{title}{ending}{counter}.json", "", f"{ending}.json")

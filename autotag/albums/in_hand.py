"""Read each photograph of an album once: for the models, for its digest and for its metadata.

The threads that read ahead ask a ``PhotoInHand`` for the file's bytes. It takes the digest and the metadata
from these bytes and lets them go; only for a writer that embeds it keeps them until that writer has planned,
and not more than ``MOST_BYTES`` of all photographs together. What was not kept, or changed since, is read
again where it is needed.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, BinaryIO, cast

from autotag.errors import AutotagError
from autotag.images.raw_files import is_raw
from autotag.images.reading import file_bytes
from autotag.metadata import read_existing
from autotag.metadata.photograph import FileMoment, ReadPhotograph
from autotag.metadata.pixel_digest import pixel_digest

if TYPE_CHECKING:
    from autotag.albums.sources import Photo
    from autotag.images.reading import ImageInput

MOST_BYTES = 128 * 2**20
"""Bytes of photographs that are kept at the most until they are written."""
_LARGEST_PACKET = 2**18  # bytes; more XMP is parsed again instead of kept


@dataclass(slots=True)
class Hand:
    """Decide what is kept of photographs between reading and writing. Safe to use from several threads.

    Attributes:
        metadata: whether a writer needs a photograph's metadata.
        contents: whether a writer needs its bytes.
        most: bytes that are kept at the most.
    """

    metadata: bool
    contents: bool
    most: int = MOST_BYTES
    _held: int = 0
    _lock: Lock = field(default_factory=Lock, repr=False)

    def reserve(self, size: int) -> bool:
        """Return whether this many more bytes may be kept, and count them if so."""
        with self._lock:
            fits = self._held + size <= self.most
            self._held += size if fits else 0
            return fits

    def release(self, size: int) -> None:
        """Count bytes as let go."""
        with self._lock:
            self._held -= size


@dataclass(slots=True)
class PhotoInHand:
    """Keep what one reading of a photograph gave, from the models to the writers.

    Attributes:
        photo: the photograph.
        hand: says what is kept.
        pixels: the digest of what was read; empty before, and for one in an archive.
        facts: its metadata as it was read; None before, or where it is not kept.
        has_result: whether its result is the ledger's, which stays as it is.
    """

    photo: Photo
    hand: Hand
    pixels: str = ""
    facts: ReadPhotograph | None = None
    has_result: bool = False

    @property
    def image(self) -> ImageInput:
        """What the pipeline reads: the file, read through this object."""
        return self.photo.image if self.photo.path is None else cast("BinaryIO", self)

    @property
    def name(self) -> str:
        """The path of the file, as the pipeline names images."""
        return os.fspath(self.photo.path or self.photo.name)

    def read(self, _size: int = -1, /) -> bytes:
        """Return the bytes of the file, after taking from them what writing needs.

        Raises:
            ImageReadError: it cannot be read.
        """
        path = Path(self.name)
        before = FileMoment.of(path)
        content = file_bytes(self.name, self.name)
        self.let_go()
        if before is not None and len(content) == before.state.size and FileMoment.of(path) == before:
            self.pixels = pixel_digest(content)
            if self.hand.metadata:
                with suppress(
                    AutotagError, OSError, ValueError
                ):  # its writer will read it, and say what is wrong
                    self.facts = self._facts(path, before, content)
        return content

    def let_go(self) -> None:
        """Forget what was read; what is still needed is read again."""
        if self.facts is not None and self.facts.content is not None:
            self.hand.release(len(self.facts.content))
        self.pixels, self.facts = "", None

    def _facts(self, path: Path, moment: FileMoment, content: bytes) -> ReadPhotograph | None:
        existing = read_existing(content)
        if len(existing.packet or b"") > _LARGEST_PACKET:
            return None
        keeps = self.hand.contents and not is_raw(path.name) and self.hand.reserve(len(content))
        return ReadPhotograph(Path(os.path.realpath(path)), moment, existing, content if keeps else None)

"""Limits on reading the metadata of one file, so that a small hostile file cannot stop a run.

Every reader asks the budget before it spends memory or time. Over the budget, reading ends with a
``ValueError`` that says why, as the end of a sentence.
"""

from __future__ import annotations

import time
import zlib

MOST_BYTES = 16 * 2**20
"""Bytes of metadata, decompressed."""
MOST_PARTS = 20_000
"""Elements, attributes, records and parts of keywords."""
DEEPEST = 100
"""Levels of nested elements."""
LONGEST_TEXT = 2**16
"""Characters of a keyword or description."""
MOST_SECONDS = 0.4
"""Processor time of the thread that reads."""
_BLOCKS, _BYTES_PER_BLOCK = 10_000, 2048  # of a container; a PNG of 1 GiB has 131,072 blocks of pixels
_MOST_QUOTES = 200_000  # of an XML document, two per attribute; expat collects a tag's before it reports it
_OFTEN = 1000  # parts between two looks at the clock


class Budget:
    """Keep count of the bytes, parts and time left for one file."""

    def __init__(self) -> None:
        self._bytes = MOST_BYTES
        self._parts = MOST_PARTS
        self._end = time.thread_time() + MOST_SECONDS
        self._look_at = self._parts - _OFTEN

    def take_bytes(self, count: int) -> None:
        """Take bytes of metadata.

        Raises:
            ValueError: the budget of bytes is used up.
        """
        self._bytes -= count
        if self._bytes < 0:
            raise ValueError(f"it holds more than {MOST_BYTES // 2**20} MiB of metadata")

    def take_parts(self, count: int = 1) -> None:
        """Take elements, attributes, records or parts of keywords; check the time every 1,000 parts.

        Raises:
            ValueError: the budget of parts or of time is used up.
        """
        self._parts -= count
        if self._parts < 0:
            raise ValueError(f"its metadata has more than {MOST_PARTS:,} parts")
        if self._parts < self._look_at:
            self._look_at = self._parts - _OFTEN
            if time.thread_time() > self._end:
                raise ValueError(f"reading its metadata takes more than {MOST_SECONDS} s")

    def take_xml(self, xml: bytes) -> None:
        """Take an XML document before it is parsed.

        Raises:
            ValueError: the document is too large, or has too many attributes.
        """
        self.take_bytes(len(xml))
        if xml.count(b'"') + xml.count(b"'") > _MOST_QUOTES:
            raise ValueError(f"its metadata has more than {_MOST_QUOTES // 2:,} attributes")

    def inflated(self, deflated: bytes) -> bytes:
        """Return the decompressed bytes of a zlib stream.

        Raises:
            ValueError: the stream is damaged, or larger than the bytes left in the budget.
        """
        unpacker = zlib.decompressobj()
        try:
            found = unpacker.decompress(deflated, self._bytes + 1)
        except zlib.error as error:
            raise ValueError(f"a compressed text in it is damaged: {error}") from error
        self.take_bytes(len(found))
        return found


def check_depth(depth: int) -> None:
    """Refuse elements that are nested too deeply.

    Raises:
        ValueError: the depth is more than ``DEEPEST``.
    """
    if depth > DEEPEST:
        raise ValueError(f"its XML is nested more than {DEEPEST} levels deep")


def check_blocks(count: int, size: int) -> None:
    """Refuse a file with too many blocks for its size.

    Args:
        count: the number of blocks (segments, chunks) so far.
        size: the size of the file in bytes.

    Raises:
        ValueError: there are too many.
    """
    if count > _BLOCKS + size // _BYTES_PER_BLOCK:
        raise ValueError("it has too many blocks for its size")


def check_text(text: str | bytes) -> None:
    """Refuse a keyword or description that is too long for a person to have written.

    Raises:
        ValueError: it is longer than ``LONGEST_TEXT``.
    """
    if len(text) > LONGEST_TEXT:
        raise ValueError(f"it has a keyword or description of more than {LONGEST_TEXT:,} characters")

"""Limits on reading the metadata of one file, so that a small hostile file cannot stop a run.

Every reader takes what it is about to spend from here first. Over the budget, reading ends with a
``ValueError`` that says why, as the end of a sentence.
"""

from __future__ import annotations

import time
import zlib

MOST_BYTES = 16 * 2**20
"""Bytes of metadata, inflated."""
MOST_PARTS = 20_000
"""Elements, attributes, records and parts of keywords."""
DEEPEST = 100
"""Elements inside each other."""
LONGEST_TEXT = 2**16
"""Characters of a keyword or description."""
MOST_SECONDS = 0.4
"""Processor time of the thread that reads."""
_BLOCKS, _BYTES_PER_BLOCK = 10_000, 2048  # of a container; a PNG of 1 GiB has 131,072 blocks of pixels
_MOST_QUOTES = 200_000  # of an XML document, two per attribute; expat collects a tag's before it reports it
_OFTEN = 1000  # parts after which the clock is looked at


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
            ValueError: there are not that many left.
        """
        self._bytes -= count
        if self._bytes < 0:
            raise ValueError(f"it holds more than {MOST_BYTES // 2**20} MiB of metadata")

    def take_parts(self, count: int = 1) -> None:
        """Take elements, attributes, records or parts of keywords, and look at the clock now and then.

        Raises:
            ValueError: there are not that many left, or it takes too long.
        """
        self._parts -= count
        if self._parts < 0:
            raise ValueError(f"its metadata has more than {MOST_PARTS:,} parts")
        if self._parts < self._look_at:
            self._look_at = self._parts - _OFTEN
            if time.thread_time() > self._end:
                raise ValueError(f"its metadata takes more than {MOST_SECONDS} s to read")

    def take_xml(self, xml: bytes) -> None:
        """Take a document before it is parsed.

        Raises:
            ValueError: it is too large.
        """
        self.take_bytes(len(xml))
        if xml.count(b'"') + xml.count(b"'") > _MOST_QUOTES:
            raise ValueError(f"its metadata has more than {_MOST_QUOTES // 2:,} attributes")

    def inflated(self, deflated: bytes) -> bytes:
        """Return the decompressed bytes of a zlib stream.

        Raises:
            ValueError: it is damaged, or larger than what is left.
        """
        unpacker = zlib.decompressobj()
        try:
            found = unpacker.decompress(deflated, self._bytes + 1)
        except zlib.error as error:
            raise ValueError(f"a compressed text in it is damaged: {error}") from error
        self.take_bytes(len(found))
        return found


def check_depth(depth: int) -> None:
    """Refuse elements that are nested too deep.

    Raises:
        ValueError: they are.
    """
    if depth > DEEPEST:
        raise ValueError(f"it is nested more than {DEEPEST} deep")


def check_blocks(count: int, size: int) -> None:
    """Refuse a container of so many bytes with far too many blocks.

    Raises:
        ValueError: it has.
    """
    if count > _BLOCKS + size // _BYTES_PER_BLOCK:
        raise ValueError("it has too many blocks for its size")


def check_text(text: str | bytes) -> None:
    """Refuse a keyword or description that nobody wrote; to take it apart into words would cost memory.

    Raises:
        ValueError: it is too long.
    """
    if len(text) > LONGEST_TEXT:
        raise ValueError(f"it has a keyword or description of more than {LONGEST_TEXT:,} characters")

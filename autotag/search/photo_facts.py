"""The facts about a file that an index stores besides the models' results."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from autotag.errors import ImageReadError, MetadataError
from autotag.files.file_states import read_with_state
from autotag.metadata import read_existing, read_packet, sidecar_stamp, sidecars_of
from autotag.metadata.pixel_digest import pixel_digest
from autotag.search.shot import Shot, read_shot

if TYPE_CHECKING:
    from pathlib import Path

_logger = logging.getLogger("autotag")


@dataclass(frozen=True, slots=True)
class PhotoFacts:
    """Facts about a file at one moment.

    Attributes:
        bytes: its size.
        mtime_ns: when it was changed last, as the file system says.
        digest: of its pixels (``pixel_digest``), the same when only metadata change.
        keywords: what people wrote into it or its sidecar.
        shot: when, with what and where it was taken.
        sidecars: stamp of its sidecars (``sidecar_stamp``), as they were before they were read.
    """

    bytes: int
    mtime_ns: int
    digest: str
    keywords: tuple[str, ...] = ()
    shot: Shot = field(default_factory=Shot)
    sidecars: str = ""


def read_facts(path: Path) -> PhotoFacts:
    """Return the facts about a file, read whole.

    Raises:
        ImageReadError: it cannot be read.
    """
    return read_content(path)[1]


def read_content(path: Path) -> tuple[bytes, PhotoFacts]:
    """Return a file's content and the facts about it.

    Raises:
        ImageReadError: it cannot be read.
    """
    stamp = sidecar_stamp(path)
    try:
        content, state = read_with_state(path)
    except MetadataError as error:
        raise ImageReadError(str(path), error.reason) from error
    except OSError as error:
        raise ImageReadError(str(path), error.strerror or str(error)) from error
    digest, keywords = pixel_digest(content), _keywords(path, content)
    time = stored_time(state.mtime_ns)
    return content, PhotoFacts(len(content), time, digest, keywords, read_shot(content), stamp)


def stored_time(nanoseconds: int) -> int:
    """Return a file's time of change as databases can hold it, in 64 bits: from 1677 to 2262."""
    return max(-(2**63), min(nanoseconds, 2**63 - 1))


def _keywords(path: Path, content: bytes) -> tuple[str, ...]:
    """Return what people wrote into a file and its sidecar; a damaged sidecar is logged and left out."""
    found = read_existing(content).by_people
    try:
        for _, packet in sidecars_of(path).existing:
            found |= read_packet(packet).by_people
    except (MetadataError, ValueError, OSError) as error:
        _logger.warning("the sidecar of %s is left out of the index: %s", path, error)
    return found.flat

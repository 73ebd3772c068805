"""Check that a JPEG has scans for every coefficient of every component, to the last bit.

Layout: ITU-T T.81, B.2 (markers), B.2.3 (scan header), G.1.1.1 (content of progressive scans).
"""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])")  # no stuffed byte, no restart
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SCAN, _END = 0xDA, 0xD9
_COEFFICIENTS = 64


def all_scans_begun(jpeg: bytes) -> bool:
    """Return True if a JPEG has at least the start of all scans: every coefficient to its last bit.

    The last scan may be cut short. Return False for a file without a frame.
    """
    missing: set[tuple[int, int]] | None = None
    try:
        for marker, content in _segments(jpeg):
            if marker in _FRAMES:
                components = (content[6 + 3 * place] for place in range(content[5]))
                missing = {(one, place) for one in components for place in range(_COEFFICIENTS)}
            elif marker == _SCAN and missing is not None:
                missing -= _finished(content)
    except (IndexError, ValueError, struct.error):
        return False
    return missing is not None and not missing


def _segments(jpeg: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the markers with content, and their content, up to the end mark of the first image."""
    position = 2
    while (found := _MARKER.search(jpeg, position)) and found[1][0] != _END:
        (length,) = struct.unpack_from(">H", jpeg, found.end())
        yield found[1][0], jpeg[found.end() + 2 : found.end() + length]
        position = found.end() + length


def _finished(scan: bytes) -> set[tuple[int, int]]:
    """Return the (component, coefficient) pairs that a scan completes to the last bit."""
    components = scan[1 : 1 + 2 * scan[0] : 2]
    first, last, bits = scan[1 + 2 * scan[0] : 4 + 2 * scan[0]]
    if bits & 0x0F:
        return set()
    return {(component, place) for component in components for place in range(first, last + 1)}

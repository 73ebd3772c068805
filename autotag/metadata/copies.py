"""Decide whose a copy of a person's keyword is when its original is nowhere.

A copy follows its original: without it, the copy goes. When the file that held the original is gone, nobody
deleted the keyword, and the copy is the person's. A file is known by ids in its own record, so another file
of the same name is not taken for it.
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

from autotag.metadata.keywords import Keywords
from autotag.metadata.xmp_fields import THIS_FILE

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from autotag.metadata.existing import Existing
    from autotag.metadata.xmp import Packet

PHOTOGRAPH = "photograph"
"""The id of the photograph itself."""


def new_id(file: Path, content: bytes = b"") -> str:
    """Return an id for a file whose record has none yet."""
    told = os.fsencode(f"{file.resolve().parent.name}/{file.name}/") + content
    return hashlib.blake2b(told, digest_size=8).hexdigest()


def ids_of(
    photograph: tuple[Path, Existing], own: Mapping[Path, Packet], shared: Mapping[Path, Packet]
) -> dict[Path, tuple[str, ...]]:
    """Return the ids by which records of copies know each file; an own sidecar without a record has none."""
    path, existing = photograph
    ids = {path: (PHOTOGRAPH, *existing.ids)}
    ids |= {path: packet.ids for path, packet in own.items()}
    return ids | {path: packet.ids or (new_id(path),) for path, packet in shared.items()}


def without_original(
    files: Mapping[Path, Existing | Packet], ids: Mapping[Path, tuple[str, ...]]
) -> dict[Path, Keywords]:
    """Return the copies in each file whose original is nowhere, where a source of the file is gone."""
    known = {THIS_FILE}.union(*ids.values())
    everything = Keywords()
    for one in files.values():
        everything |= one.by_people
    found = {
        path: one.by_people_or_copied.uncovered(everything)
        for path, one in files.items()
        if not known >= set(one.copied_from)
    }
    return {path: words for path, words in found.items() if words != Keywords()}

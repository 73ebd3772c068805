"""Tell people's keywords from tags of earlier runs where another program dropped autotag's record of them."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from autotag.albums.sources import album_root
from autotag.albums.state.identity import JOURNAL, check_state
from autotag.albums.state.journal import Journal
from autotag.albums.state.ledger import locked, state_folder
from autotag.albums.writers.xmp_writer import XmpChange
from autotag.metadata.keywords import fold

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from autotag.learning.photographs import KeywordedPhoto


def written_by_runs(
    album: Path, *, state: Path | None = None, adopt: bool = False
) -> dict[str, tuple[str, ...]]:
    """Return the tags that the newest run wrote for each photograph, by real path, from the album's journal.

    A tag that no run added, because a person had given the photograph that keyword, is not among them.

    Args:
        album: the album's folder; one that no run wrote to has none.
        state: the ``--state`` folder of its runs.
        adopt: use a state of another folder, machine or user.

    Raises:
        ConfigError: another run is at work, or the state is of another album, machine or user.
        OSError: the journal cannot be read.
    """
    root, key = album_root([album])
    folder = state_folder(key, state)
    if not (folder / JOURNAL).is_file():
        return {}
    check_state(folder, key, adopt=adopt)
    newest: dict[str, tuple[str, ...]] = {}
    added: dict[str, set[str]] = {}
    with locked(root, folder), Journal(folder / JOURNAL, album=root) as journal:
        for _, step in journal.newest_first():
            if isinstance(step, XmpChange):
                photo = os.path.realpath(step.change.path)
                newest.setdefault(photo, tuple(tag.text for tag in step.change.tags))
                added.setdefault(photo, set()).update(map(fold, step.change.added))
    return {photo: tuple(tag for tag in tags if fold(tag) in added[photo]) for photo, tags in newest.items()}


def with_runs(
    photos: Iterable[KeywordedPhoto], written: Mapping[str, tuple[str, ...]]
) -> Iterator[KeywordedPhoto]:
    """Yield photographs, and take what runs wrote for no keyword of a person.

    It matters for a photograph that has keywords and no record of the machine's: another program wrote the
    keywords again and dropped the record. A tag of the run that is there was left in, one that is not there
    was removed. A photograph without any keyword says nothing: its metadata may merely be lost.
    """
    for photo in photos:
        tags = written.get(os.path.realpath(photo.name), ())
        if not tags or photo.left or photo.removed or not photo.keywords.flat:
            yield photo
            continue
        there = photo.keywords.leaves()
        left = tuple(tag for tag in tags if fold(tag) in there)
        removed = tuple(tag for tag in tags if fold(tag) not in there)
        keywords = photo.keywords.without(map(fold, left))
        yield replace(photo, keywords=keywords, left=left, removed=removed)

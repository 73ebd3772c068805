"""Read what people decided on the Review page: about a plan, or about the tags of an album."""

from __future__ import annotations

import os
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

from autotag.albums.sources import album_root
from autotag.albums.state.identity import check_state
from autotag.albums.state.ledger import state_folder
from autotag.errors import ConfigError
from autotag.learning.photographs import KeywordedPhoto, in_files
from autotag.metadata.keywords import Keywords, each_once, fold
from autotag.review.from_album import DECISIONS, PLAN, decisions_of
from autotag.review.session import Review

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from autotag.review.table import TagOfPhoto


def in_decisions(source: Path, *, state: Path | None = None) -> list[KeywordedPhoto]:
    """Return the photographs about whose tags somebody decided, with what is in their files, too.

    A confirmed or added tag is a keyword that a person gave; a rejected tag, and the old name of a renamed
    one, was removed. Photographs that are missing or were changed since are left out.

    Args:
        source: a plan of ``autotag album --plan`` that was reviewed, or the folder of an album; an album that
            nobody reviewed has no decisions.
        state: the ``--state`` folder of the album's runs.

    Raises:
        ConfigError: the plan has no decisions, its review is open, or plan, decisions or state cannot be
            used.
    """
    if not source.is_dir():
        return _in_review(source, decisions_of(source))
    _, key = album_root([source])
    folder = state_folder(key, state)
    if not (folder / PLAN).is_file() or not (folder / DECISIONS).is_file():
        return []
    check_state(folder, key)
    return _in_review(folder / PLAN, folder / DECISIONS)


def _in_review(plan: Path, decisions: Path) -> list[KeywordedPhoto]:
    if not decisions.is_file():
        raise ConfigError(
            f"no decision about {str(plan)!r} is known; review it first: autotag review {plan} (decisions "
            f"are kept in {str(decisions)!r})."
        )
    with closing(Review(plan, decisions)) as review:
        return [
            photo
            for place in range(len(review.table))
            if (photo := _decided(review, place)) is not None and photo.teaches
        ]


def _decided(review: Review, place: int) -> KeywordedPhoto | None:
    """Return a photograph with what was decided about it; None if it is not as it was then."""
    tags = [tag for tag in review.table.tags(place) if tag.state != "undecided" or tag.text != tag.was]
    if not tags:
        return None
    there = review.photographs.located(place)
    if there.status != "as planned":
        return None
    given = Keywords.of(tag.text for tag in tags if tag.state == "confirmed")
    kept = set(map(fold, given.flat))
    removed = [word for word in _removed(tags) if fold(word) not in kept]
    decided = KeywordedPhoto(os.fspath(there.path), there.path, given, each_once(removed))
    return next((_joined(photo, decided) for photo in in_files([there.path])), None)


def _removed(tags: Sequence[TagOfPhoto]) -> Iterable[str]:
    for tag in tags:
        if tag.text != tag.was:
            yield tag.was
        if tag.state == "rejected":
            yield tag.text


def with_decisions(
    photos: Iterable[KeywordedPhoto], decided: Sequence[KeywordedPhoto]
) -> list[KeywordedPhoto]:
    """Return photographs with the decisions about them; photographs of decisions alone follow.

    What people wrote into or took out of the file itself counts more than a decision about the same keyword.
    """
    found = {os.path.realpath(photo.name): photo for photo in photos}
    for one in decided:
        key = os.path.realpath(one.name)
        before = found.get(key)
        found[key] = one if before is None else _joined(before, one)
    return list(found.values())


def _joined(photo: KeywordedPhoto, decided: KeywordedPhoto) -> KeywordedPhoto:
    given = decided.keywords.without(map(fold, photo.removed))
    there = set(map(fold, photo.keywords.flat))
    removed = [word for word in decided.removed if fold(word) not in there]
    return replace(photo, keywords=photo.keywords | given, removed=each_once((*photo.removed, *removed)))

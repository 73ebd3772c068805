"""Read what people decided about tags: by editing a plan, or on the Review page of a plan or an album."""

from __future__ import annotations

import os
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from autotag.albums.plan_reader import read_plan
from autotag.albums.sources import album_root
from autotag.albums.state.identity import check_state
from autotag.albums.state.ledger import state_folder
from autotag.errors import ConfigError
from autotag.learning.photographs import KeywordedPhoto, in_files
from autotag.metadata.keywords import Keywords, each_once, fold
from autotag.review.from_album import DECISIONS, PLAN, decisions_of
from autotag.review.photographs import Photographs
from autotag.review.session import Review

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from autotag.albums.plan import Plan
    from autotag.review.table import TagOfPhoto


@dataclass(frozen=True, slots=True)
class Decided:
    """Hold what people decided.

    Attributes:
        photos: the photographs about whose tags somebody decided, without what is in their files (see
            ``with_decisions``); one may be there twice, the older decisions first.
        left: a tag in normal form -> number of photographs in which people left it undecided.
    """

    photos: list[KeywordedPhoto] = field(default_factory=list)
    left: Counter[str] = field(default_factory=Counter)


def in_decisions(source: Path, *, state: Path | None = None) -> Decided:
    """Return what people decided about the tags of photographs.

    In a plan that was edited by hand, a tag that came is a keyword that a person gave, and one that is gone
    was removed. On the Review page a confirmed or added tag is a keyword that a person gave; a rejected tag,
    and the old name of a renamed one, was removed. Photographs that are missing or were changed since are
    left out.

    Args:
        source: a plan of ``autotag album --plan`` that was reviewed or edited, or the folder of an album; an
            album that nobody reviewed has no decisions.
        state: the ``--state`` folder of the album's runs.

    Raises:
        ConfigError: nobody reviewed or edited the plan, its review is open, or plan, decisions or state
            cannot be used.
    """
    if not source.is_dir():
        return _in_plan(source)
    _, key = album_root([source])
    folder = state_folder(key, state)
    if not (folder / PLAN).is_file() or not (folder / DECISIONS).is_file():
        return Decided()
    check_state(folder, key)
    return _in_review(folder / PLAN, folder / DECISIONS)


def _in_plan(plan: Path) -> Decided:
    edited = _in_lines(read_plan(plan))
    decisions = decisions_of(plan)
    if decisions.is_file():
        reviewed = _in_review(plan, decisions)
        return Decided([*edited.photos, *reviewed.photos], reviewed.left)
    if not edited.photos:
        raise ConfigError(
            f"no decision about {str(plan)!r} is known, and no tag in it was edited; review it first: "
            f"autotag review {plan} (decisions are kept in {str(decisions)!r})."
        )
    return edited


def _in_lines(plan: Plan) -> Decided:
    """Return what people changed in the lines of a plan."""
    files = Photographs(plan.album, list(plan.photos))
    photos: list[KeywordedPhoto] = []
    left: Counter[str] = Counter()
    for place, line in enumerate(plan.photos):
        if line.was is None:
            continue
        was = {fold(text): text for text in line.was}
        now = {fold(tag.text): tag for tag in line.result.tags}
        left.update(was.keys() & now.keys())
        added = [tag for word, tag in now.items() if word not in was]
        removed = [text for word, text in was.items() if word not in now]
        there = files.located(place) if added or removed else None
        if there is not None and there.status == "as planned":
            given = Keywords.of(
                [tag.text for tag in added if not tag.path], [tag.path for tag in added if tag.path]
            )
            photos.append(_decision(there.path, given, removed))
    return Decided(photos, left)


def _in_review(plan: Path, decisions: Path) -> Decided:
    with closing(Review(plan, decisions)) as review:
        several = [_decided(review, place) for place in range(len(review.table))]
        left = Counter(
            word
            for place in range(len(several))
            for word in {fold(tag.text) for tag in review.table.tags(place) if tag.state == "undecided"}
        )
    return Decided([photo for photo in several if photo is not None and photo.teaches], left)


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
    return _decision(there.path, given, removed)


def _decision(path: Path, given: Keywords, removed: Sequence[str]) -> KeywordedPhoto:
    return KeywordedPhoto(os.fspath(path), path, given, each_once(removed))


def _removed(tags: Sequence[TagOfPhoto]) -> Iterable[str]:
    for tag in tags:
        if tag.text != tag.was:
            yield tag.was
        if tag.state == "rejected":
            yield tag.text


def with_decisions(
    photos: Iterable[KeywordedPhoto], decided: Sequence[KeywordedPhoto]
) -> list[KeywordedPhoto]:
    """Return photographs with the decisions about them; photographs of decisions alone are read and follow.

    What people wrote into or took out of the file itself counts more than a decision about the same keyword.
    A photograph of decisions alone that cannot be read is logged and left out.
    """
    found = {os.path.realpath(photo.name): photo for photo in photos}
    for one in decided:
        key = os.path.realpath(one.name)
        before = found[key] if key in found else next(in_files([Path(one.name)]), None)
        if before is not None:
            found[key] = _joined(before, one)
    return list(found.values())


def _joined(photo: KeywordedPhoto, decided: KeywordedPhoto) -> KeywordedPhoto:
    given = decided.keywords.without(map(fold, photo.removed))
    there = set(map(fold, photo.keywords.flat))
    removed = [word for word in decided.removed if fold(word) not in there]
    gone = each_once((*photo.removed, *removed))
    decided_on = {*map(fold, gone), *map(fold, given.flat)}
    left = tuple(word for word in photo.left if fold(word) not in decided_on)
    return replace(photo, keywords=photo.keywords | given, removed=gone, left=left)

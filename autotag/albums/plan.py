"""A plan of the changes to an album, as a file that a person can read, edit and apply.

JSON Lines. The first line says what album it is and what would write; each line after it is a photograph::

    {"autotag_plan": 1, "album": "/photos", "writers": {"xmp": {"embed": true}},
     "outputs": {"csv": {"file": "/photos/tags.csv", "options": {}}}, "settings": "", "wanted": "",
     "rules": {"deny": ["picture"]}}
    {"file": "beach.jpg", "bytes": 81234, "mtime_ns": 17, "digest": "5f", "pixels": [640, 480],
     "caption": "a beach", "prompt": "", "tags": [{"text": "beach", "score": 0.31}, "my own tag"],
     "was": ["beach", "sea"], "was_caption": "a beach", "was_prompt": "", "rename_to": null,
     "write": ["xmp", "csv"]}

A tag that ``suggest_keywords`` only just suggests has ``"near_cut": true`` for people to see. Tags, caption,
prompt, new name and the list of writers may be changed, and whole lines deleted. A file of results gets a row
for each line that names its writer. ``xmp`` is in the list even if XMP would not change, so that an edit gets
there. ``was`` lists the tags as the plan was made, ``was_caption`` and ``was_prompt`` the texts, so that
``autotag apply`` and ``autotag learn --corrections`` see what a person changed. A tag that a person gave
through an earlier plan has ``"by_person": true``; XMP is not touched for it. The line of a flagged photograph
also has ``left_out``, the writers that the rules keep from it. ``rules`` are those of the run: they were
applied to the tags of the lines, and apply to the boxes of detections, which are not in the plan.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from autotag.albums.rules import AlbumRules, loose
from autotag.errors import ConfigError
from autotag.files.file_states import lies_in
from autotag.metadata.keywords import fold
from autotag.records.sample import BY_PERSON

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from autotag.records import Result

FORMAT = 1
PLANNED = "plan"
"""The source of tags and captions of a plan that nobody edited."""


@dataclass(frozen=True, slots=True)
class PlannedPhoto:
    """A photograph's line of a plan.

    Attributes:
        number: of the line, from 1.
        file: the photograph, relative to the album.
        size: of the file in bytes when the plan was made.
        mtime_ns: its time of change then.
        digest: of the file without its metadata, then.
        result: what is to be written.
        rename_to: its new name, or None.
        write: the writers that write for it.
        was: the texts of its tags when the plan was made; None where the plan does not say.
        found: caption and prompt when the plan was made; None where the plan does not say.
    """

    number: int
    file: str
    size: int
    mtime_ns: int
    digest: str
    result: Result
    rename_to: str | None
    write: tuple[str, ...]
    was: tuple[str, ...] | None = None
    found: Result | None = None

    @property
    def added(self) -> frozenset[str]:
        """Return the texts of tags that a person added or renamed; empty where ``was`` is not known."""
        texts = frozenset(tag.text for tag in self.result.tags)
        return frozenset() if self.was is None else texts - set(self.was)

    @property
    def rejected(self) -> tuple[str, ...]:
        """Return the texts of tags that a person removed, and the old texts of renamed ones."""
        left = {fold(tag.text) for tag in self.result.tags}
        return tuple(text for text in self.was or () if fold(text) not in left)

    def refused(self, known: Result | None) -> tuple[str, ...]:
        """Return the rejected texts, then their concepts and the labels of boxes that they name.

        A concept that a tag of the line still names is not refused.

        Args:
            known: the models' result, which knows the concepts; None if it is lost.
        """
        if known is None or not self.rejected:
            return self.rejected
        gone = set(map(loose, self.rejected))
        left = {loose(tag.text) for tag in self.result.tags}
        left |= {loose(tag.concept) for tag in known.tags if tag.concept and loose(tag.text) in left}
        concepts = [tag.concept for tag in known.tags if tag.concept and loose(tag.text) in gone]
        lost = [text for text in concepts if loose(text) not in left]
        gone |= set(map(loose, lost))
        labels = [one.label for one in known.detections if loose(one.label) in gone]
        return tuple(dict.fromkeys([*self.rejected, *lost, *labels]))


@dataclass(frozen=True, slots=True)
class PlannedOutput:
    """A result file in a plan.

    Attributes:
        file: where it goes.
        options: its writer's.
    """

    file: Path
    options: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Plan:
    """A plan that was read and checked.

    Attributes:
        path: the file.
        album: the album's folder.
        writers: name -> options of each writer that writes beside photographs.
        outputs: name -> file and options, of files of results.
        settings: fingerprint of the pipeline.
        wanted: fingerprint of writers and rules.
        photos: the lines.
        rules: of the run that made it.
    """

    path: Path
    album: Path
    writers: Mapping[str, Mapping[str, Any]]
    outputs: Mapping[str, PlannedOutput]
    settings: str
    wanted: str
    photos: tuple[PlannedPhoto, ...]
    rules: AlbumRules = AlbumRules()  # noqa: RUF009 - frozen


def check_place(file: Path, album: Path, plan: Path, where: str) -> None:
    """Refuse a file of results that is neither in the album nor beside the plan: anybody may write a plan.

    Raises:
        ConfigError: it lies elsewhere; begins with ``where``.
    """
    if not lies_in(file, album) and not lies_in(file, plan.absolute().parent):
        raise ConfigError(
            f"{where}: the file of results {str(file)!r} is neither in the album nor beside the plan; "
            "choose another place for it, or write it with a run of its own."
        )


def merged(line: PlannedPhoto, known: Result | None) -> Result:
    """Merge a plan's line with what the ledger holds.

    Tags that nobody added keep scores and source; boxes of what a person rejected are left out.
    """
    planned = line.result
    if known is None:
        return planned
    refused = set(map(fold, line.refused(known)))
    tags = {tag.text: tag for tag in known.tags} | {
        tag.text: tag for tag in planned.tags if tag.source == BY_PERSON
    }
    captions = known.captions if planned.caption == known.caption else planned.captions
    return replace(
        known,
        captions=captions,
        prompt=planned.prompt,
        detections=tuple(one for one in known.detections if fold(one.label) not in refused),
        tags=tuple(replace(tags.get(tag.text, tag), path=tag.path) for tag in planned.tags),
    )

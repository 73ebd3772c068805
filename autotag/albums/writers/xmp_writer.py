"""Tags as XMP, in a sidecar beside each photograph or in the photograph itself."""

from __future__ import annotations

import os
from collections.abc import Sequence  # noqa: TC003 - a config is converted by the annotations
from dataclasses import KW_ONLY, dataclass, field, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from autotag.config.checks import check_row
from autotag.config.options import convert_options
from autotag.errors import DISTRIBUTION, ConfigError
from autotag.files.file_states import lies_in
from autotag.files.system_calls import is_there
from autotag.metadata import (
    KEYWORD_FIELDS,
    Exiftool,
    KeywordField,
    Keywords,
    MachineTag,
    MetadataChange,
    Regions,
    apply_change,
    plan_tags,
    undo_change,
)
from autotag.metadata.undoing import copies_at_stake
from autotag.records.sample import BY_PERSON

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from autotag.metadata.photograph import ReadPhotograph
    from autotag.records import Result


@dataclass(frozen=True)
class XmpChange:
    """Make a planned change of a photograph's metadata as a step of an album run.

    Attributes:
        change: see ``autotag.metadata``.
        touch: whether an embedded photograph gets a new time of change.
        exiftool: if it takes part.
    """

    change: MetadataChange
    touch: bool = False
    exiftool: Exiftool | None = field(default=None, repr=False, compare=False)

    kind = "metadata"

    @property
    def paths(self) -> tuple[Path, ...]:
        """Return the files that change: sidecars, the photograph, or both."""
        return tuple(Path(one.path) for one in self.change.files)

    @property
    def new_photograph(self) -> bytes | None:
        """Return the photograph's content to come; None when it stays, or after a round trip through JSON."""
        photograph = os.path.realpath(self.change.path)
        return next((one.content for one in self.change.files if one.path == photograph), None)

    @property
    def digests(self) -> Mapping[Path, frozenset[str]]:
        """Return for each file the SHA-256 of its content before and after, as far as it exists."""
        return {
            Path(one.path): frozenset(filter(None, (one.sha256_before, one.sha256_after)))
            for one in self.change.files
        }

    def to_dict(self) -> dict[str, Any]:
        """Return a dictionary of JSON types, without the new content of the files."""
        return {"touch": self.touch, "change": self.change.to_dict()}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> XmpChange:
        """Return the change from the dictionary that ``to_dict`` made.

        Raises:
            ConfigError: a field is unknown, missing or of another type.
        """
        check_row("a change of metadata", record, touch="flag", change="row")
        return cls(MetadataChange.from_dict(record["change"]), record["touch"])

    def describe(self) -> str:
        """Return what the change does, for people."""
        where = ", ".join(path.name for path in self.paths)
        added = [", ".join(self.change.added)] if self.change.added else []
        if self.change.adds_description:
            added.append(f'description "{self.change.description}"')
        removed = f"removes from {where}: {', '.join(self.change.removed)}" if self.change.removed else ""
        if added:
            return "; ".join(filter(None, (f"adds to {where}: {'; '.join(added)}", removed)))
        if removed:
            return removed
        is_new = all(one.before is None for one in self.change.files)
        return f"{'writes' if is_new else 'changes'} {where}"

    def apply(self) -> tuple[str, ...]:
        """Write the files and return warnings; see ``autotag.metadata.apply_change`` for the errors."""
        said = apply_change(self.change, touch=self.touch, exiftool=self.exiftool)
        return (*self.change.warnings, *said)

    def missing(self) -> Path | None:
        """Return a file that the change left and that is gone; the others are undone without it.

        A sidecar that the change made does not count where its photograph is there: somebody deleted it.
        """
        photograph = Path(self.change.path)
        for one in self.change.files:
            was_left, path = one.sha256_after is not None, Path(one.path)
            if was_left and not is_there(path) and (one.before is not None or not is_there(photograph)):
                return path
        return None

    def waits(self) -> bool:
        """Return whether undoing has to wait for the missing file, because it has the originals of copies."""
        return bool(copies_at_stake(self.change))

    def undo(self) -> tuple[str, ...]:
        """Undo the change as ``undo_change`` does, through exiftool if needed and installed."""
        exiftool = Exiftool.if_installed()
        if exiftool is None:
            return undo_change(self.change)
        with exiftool:
            return undo_change(self.change, exiftool=exiftool)


@dataclass
class XmpWriter:
    """Write tags, hierarchy and description as XMP, losslessly; see ``autotag.metadata``.

    Attributes:
        embed: into the photograph where that can be done without loss, else into a sidecar.
        naming: of new sidecars: ``"auto"`` is ``x.jpg.xmp``, and ``x.xmp`` for RAW files; ``"ext"`` and
            ``"adobe"`` always the one or the other.
        description: what is written as the description where people wrote none.
        fields: the keyword fields that are written; by default all of ``autotag.metadata.KEYWORD_FIELDS``.
        regions: write the boxes of detections, at most 100, as ``mwg-rs:Regions``, where nobody has regions.
        touch: give an embedded photograph a new time of change, for programs that look for it.
        model: recorded with each tag as its source; by default the preset's name.
        root: the album's folder; photographs outside it, to which links lead, get sidecars. A run sets
            it.
    """

    _: KW_ONLY
    embed: bool = False
    naming: Literal["auto", "ext", "adobe"] = "auto"
    description: Literal["caption", "prompt"] | None = "caption"
    fields: Sequence[KeywordField] = KEYWORD_FIELDS
    regions: bool = False
    touch: bool = False
    model: str = ""
    root: Path | None = field(init=False, repr=False, default=None)
    _exiftool: Exiftool | None = field(init=False, repr=False, default=None)
    _version: str = field(init=False, repr=False, default_factory=partial(version, DISTRIBUTION))

    def __post_init__(self) -> None:
        convert_options(self, where="xmp")
        if not self.fields:
            raise ConfigError(f"xmp: fields is empty; choose from {', '.join(KEYWORD_FIELDS)}.")
        self._exiftool = Exiftool.if_installed() if self.embed else None

    def changes(
        self,
        photo: Path,
        result: Result,
        /,
        *,
        read: ReadPhotograph | None = None,
        added: Collection[str] = (),
        rejected: Sequence[str] = (),
        found: Result | None = None,
    ) -> Sequence[XmpChange]:
        """Return the changes of sidecar and photograph; nothing if they already hold everything.

        Args:
            photo: the photograph.
            result: what was found.
            read: the photograph as it was read before, see ``plan_tags``.
            added: texts of the tags that a person added; they are written as the person's keywords.
            rejected: tags that a person rejected, which no later run writes.
            found: what the models found, if known; another caption or prompt is a person's, and an empty one
                is refused.

        Raises:
            MetadataError: a sidecar is damaged or shared, or a file changed while it was read.
            OSError: a file cannot be read.
        """
        leads_out = self.embed and self.root is not None and not lies_in(photo, self.root)
        described = self._description(result)
        proposed = described if found is None else self._description(found)
        is_mine = described != proposed
        change = plan_tags(
            photo,
            self._tags(result, added),
            described if is_mine or not self._is_from_person(result) else "",
            embed=self.embed and not leads_out,
            naming=self.naming,
            fields=self.fields,
            regions=self._regions(result),
            keywords=Keywords.of_paths(tag.path or (tag.text,) for tag in result.tags if tag.text in added),
            refused=rejected,
            description_by_person=is_mine,
            refused_description=proposed if is_mine and not described else "",
            exiftool=self._exiftool,
            read=read,
        )
        if leads_out:
            why = "it lies outside the album, behind a link"
            warning = f"{photo}: tags go to a sidecar, not into the file: {why}."
            change = replace(change, warnings=(*change.warnings, warning))
        return [XmpChange(change, self.touch, self._exiftool)] if change.files else []

    def close(self) -> None:
        """End exiftool."""
        if self._exiftool is not None:
            self._exiftool.close()

    def _tags(self, result: Result, added: Collection[str]) -> list[MachineTag]:
        return [
            MachineTag(tag.text, tag.score, self.model, self._version, path=tag.path)
            for tag in result.tags
            if tag.text not in added and tag.source != BY_PERSON
        ]

    def _is_from_person(self, result: Result) -> bool:
        """Return whether the description is the caption that a person wrote into an earlier plan."""
        return self.description == "caption" and any(one.source == BY_PERSON for one in result.captions)

    def _regions(self, result: Result) -> Regions | None:
        if not self.regions:
            return None
        return Regions.of_boxes(result.size, [(one.label, one.score, one.box) for one in result.detections])

    def _description(self, result: Result) -> str:
        return {"caption": result.caption, "prompt": result.prompt, None: ""}[self.description]

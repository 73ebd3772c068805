"""Plan, apply and undo changes to a photograph's metadata.

``plan_tags`` writes nothing: it returns which files would get which content. ``apply_change`` writes that
content, or refuses if a file changed after the plan was made. ``undo_change`` restores the bytes; in a file
that a person edited since, it removes the machine's tags only.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from autotag.checks import check_choice, check_row
from autotag.errors import FileChangedError, MetadataError
from autotag.files.bounded_files import is_file
from autotag.files.replacing import (
    SYSTEM,
    FileState,
    SystemCalls,
    objection_to_writing,
    read_with_state,
    remove_file,
    replace_file,
    sha256,
    state_of,
)
from autotag.metadata.deltas import (
    Delta,
    delta_between,
    delta_from_json,
    delta_to_json,
    own_bytes,
    rebuilt,
)
from autotag.metadata.exiftool import IptcChange, can_embed, fits_iptc
from autotag.metadata.existing import read_existing
from autotag.metadata.iptc import Iptc
from autotag.metadata.keywords import Keywords, fold
from autotag.metadata.regions import Regions
from autotag.metadata.sidecars import SidecarNaming, is_raw, sidecars_of
from autotag.metadata.splicing import embedded_packet, objection_to_splicing, spliced
from autotag.metadata.xmp import (
    KEYWORD_FIELDS,
    KeywordField,
    MachineTag,
    Packet,
    read_packet,
    with_machine_tags,
    without_machine_tags,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from autotag.metadata.exiftool import Exiftool
    from autotag.metadata.photograph import ReadPhotograph

ChangeKind = Literal["sidecar", "embedded", "unchanged"]
_MOST_KEYWORDS = 2000  # with copies and records, several parts of the budget each
_TURNED_BY_EXIF = frozenset(("jpeg", "png", "webp", "tiff"))  # kinds of files; RAW files are TIFF
_LARGEST_UNDO = 4 * 2**20  # bytes


@dataclass(frozen=True, slots=True)
class FileChange:
    """One file of a change.

    Attributes:
        path: the file, links resolved.
        before: the state of the file when the change was planned; None for a new file.
        sha256_before: digest of its content then; None for a new file.
        sha256_after: digest of the new content; None when the file is removed.
        undo: rebuilds the old content from the new content; None for a new file, or when the delta itself
            would hold more than 4 MiB.
        content: the new content; None when the file is removed, or after a round trip through JSON.
    """

    path: str
    before: FileState | None
    sha256_before: str | None
    sha256_after: str | None
    undo: Delta | None
    content: bytes | None = field(default=None, repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """Return a dictionary of JSON types, without ``content``."""
        return {
            "path": self.path,
            "before": asdict(self.before) if self.before else None,
            "sha256_before": self.sha256_before,
            "sha256_after": self.sha256_after,
            "undo": None if self.undo is None else delta_to_json(self.undo),
        }

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> FileChange:
        """Return the change from the dictionary that ``to_dict`` made.

        Raises:
            ConfigError: a field is unknown, missing or of another type.
        """
        what = "a changed file"
        check_row(
            what, row, path="text", before="row?", sha256_before="text?", sha256_after="text?", undo="list?"
        )
        if row["before"] is not None:
            whole = dict.fromkeys(("size", "mtime_ns", "inode", "device"), "whole")
            check_row(f"{what}: the state before", row["before"], **whole)
        return cls(
            path=row["path"],
            before=FileState(**row["before"]) if row["before"] else None,
            sha256_before=row["sha256_before"],
            sha256_after=row["sha256_after"],
            undo=None if row["undo"] is None else delta_from_json(row["undo"]),
        )


@dataclass(frozen=True, slots=True)
class MetadataChange:
    """The change that tagging makes to one photograph.

    Attributes:
        path: the photograph, as given to ``plan_tags``.
        kind: ``"embedded"`` when the photograph itself changes (its sidecars, if it has some, do too),
            ``"sidecar"`` when only sidecars change, ``"unchanged"`` when no file changes.
        files: the files that change, in the order of writing.
        tags: the tags given to ``plan_tags``, also where people gave the same keywords.
        description: the description given to ``plan_tags``.
        added: the tags that are new in the photograph's metadata.
        keywords_before: every keyword that the photograph has, in any field or sidecar.
        keywords_after: every keyword that it will have.
        warnings: whole sentences for the user: why not embedded, what is shared, what is left out.
        embed: the argument of ``plan_tags``.
        naming: the argument of ``plan_tags``.
        fields: the argument of ``plan_tags``.
        date: the date of new records, ISO 8601.
        regions: the argument of ``plan_tags``.
    """

    path: str
    kind: ChangeKind
    files: tuple[FileChange, ...]
    tags: tuple[MachineTag, ...]
    description: str = ""
    added: tuple[str, ...] = ()
    keywords_before: tuple[str, ...] = ()
    keywords_after: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    embed: bool = False
    naming: SidecarNaming = "auto"
    date: str = ""
    fields: tuple[KeywordField, ...] = KEYWORD_FIELDS
    regions: Regions | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return a dictionary of JSON types, without the new content of the files."""
        plain = {
            name: getattr(self, name) for name in ("path", "kind", "description", "embed", "naming", "date")
        }
        lists = ("added", "keywords_before", "keywords_after", "warnings", "fields")
        return {
            **plain,
            **{name: list(getattr(self, name)) for name in lists},
            "tags": [{**asdict(tag), "path": list(tag.path)} for tag in self.tags],
            "files": [one.to_dict() for one in self.files],
            **({} if self.regions is None else {"regions": self.regions.to_dict()}),
        }

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> MetadataChange:
        """Return the change from the dictionary that ``to_dict`` made, without the new content.

        Raises:
            ConfigError: a field is unknown, missing or of another type.
        """
        texts = dict.fromkeys(("added", "keywords_before", "keywords_after", "warnings", "fields"), "texts")
        words = dict.fromkeys(("path", "kind", "description", "naming", "date"), "text")
        boxes = {"regions": "row"} if isinstance(row, dict) and "regions" in row else {}
        check_row(
            "a change of metadata", row, **texts, **words, **boxes, embed="flag", tags="list", files="list"
        )
        check_choice("naming", row["naming"], get_args(SidecarNaming))
        check_choice("kind", row["kind"], get_args(ChangeKind))
        for name in row["fields"]:
            check_choice("fields", name, KEYWORD_FIELDS)
        tag_words = dict.fromkeys(("text", "model", "version", "date"), "text")
        for tag in row["tags"]:
            check_row("a machine's tag", tag, **tag_words, score="number", path="texts", in_iptc="flag")
        return cls(
            path=row["path"],
            kind=row["kind"],
            description=row["description"],
            added=tuple(row["added"]),
            keywords_before=tuple(row["keywords_before"]),
            keywords_after=tuple(row["keywords_after"]),
            warnings=tuple(row["warnings"]),
            embed=row["embed"],
            naming=row["naming"],
            date=row["date"],
            fields=tuple(row["fields"]),
            tags=tuple(MachineTag(**{**tag, "path": tuple(tag["path"])}) for tag in row["tags"]),
            files=tuple(FileChange.from_dict(one) for one in row["files"]),
            regions=Regions.from_dict(row["regions"]) if boxes else None,
        )


def plan_tags(
    path: str | Path,
    tags: Sequence[MachineTag],
    description: str = "",
    *,
    embed: bool = False,
    naming: SidecarNaming = "auto",
    fields: Sequence[KeywordField] = KEYWORD_FIELDS,
    regions: Regions | None = None,
    exiftool: Exiftool | None = None,
    date: str | None = None,
    read: ReadPhotograph | None = None,
    calls: SystemCalls = SYSTEM,
) -> MetadataChange:
    """Return the change that would replace the machine tags of earlier runs with these.

    Nothing is written. exiftool, if given and needed, works on a copy in a temporary folder.

    Args:
        path: the photograph.
        tags: best first; a keyword that people gave already is not written as the machine's.
        description: written only if no field has a person's description.
        embed: whether to write into the photograph itself if nothing is lost by it; else into a sidecar.
        naming: the names of new sidecars, see ``sidecars_of``.
        fields: the XMP keyword fields to write; what people wrote in other fields stays.
        regions: of the upright picture; written as ``mwg-rs:Regions`` if neither the photograph nor a sidecar
            has others.
        exiftool: writes what cannot be spliced: IPTC keywords, TIFF, GIF, HEIC, AVIF.
        date: the date of new records, ISO 8601; now by default.
        read: the photograph as it was read before. It is read again only if it changed since, or if its bytes
            are needed and were not kept.
        calls: the operating system; tests replace it.

    Raises:
        MetadataError: a sidecar is damaged or would be shared, a file changed while it was read, or there are
            more than 2,000 keywords.
        OSError: a file cannot be read.
    """
    date = date or datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    request = _Request(
        Path(path), tuple(tags), description, embed, naming, tuple(fields), exiftool, date, calls, regions
    )
    return _Plan(request, read).change()


def apply_change(
    change: MetadataChange,
    *,
    touch: bool = False,
    exiftool: Exiftool | None = None,
    calls: SystemCalls = SYSTEM,
) -> tuple[str, ...]:
    """Write a planned change file by file; each file is written completely or not at all.

    Save the change, or its ``to_dict``, before calling this: after an error or a crash between two files,
    ``undo_change`` restores the files that were written.

    Args:
        change: from ``plan_tags``, also after a round trip through JSON.
        touch: whether a photograph gets a new modification time (sidecars always do).
        exiftool: as for ``plan_tags``, for a change that comes from JSON.
        calls: the operating system; tests replace it.

    Returns:
        Warnings, as whole sentences.

    Raises:
        FileChangedError: a file changed after the change was planned.
        FileBusyError: another run writes the file.
        MetadataError: the file is read-only, or reads back with other content.
        OSError: the system refused; the file that was being written is unchanged.
    """
    files = _with_contents(change, exiftool, calls).files
    photograph = os.path.realpath(change.path)
    warnings: list[str] = []
    for one in files:
        if one.content is None:
            _remove(one, calls)
            continue
        keep_time = one.path == photograph and not touch
        said = replace_file(
            Path(one.path),
            one.content,
            expected=one.before,
            verify=partial(_compare, one),
            touch=not keep_time,
            calls=calls,
        )
        warnings += [f"{one.path}: {warning}" for warning in said]
    return tuple(warnings)


def undo_change(
    change: MetadataChange, *, exiftool: Exiftool | None = None, calls: SystemCalls = SYSTEM
) -> tuple[str, ...]:
    """Undo a change, whether it was applied, applied in part, or not at all.

    A file that nobody edited since gets its old bytes. In a file that was edited, only the machine's tags,
    their record and the machine's description are removed.

    Args:
        change: the change, as for ``apply_change``.
        exiftool: removes tags from edited files that cannot be spliced.
        calls: the operating system; tests replace it.

    Returns:
        Notes for the user, as whole sentences: which files were edited since, or no longer exist.

    Raises:
        MetadataError: a file cannot be written, is damaged, or needs exiftool.
        OSError: the system refused; the file that was being written is unchanged.
    """
    notes: list[str] = []
    for one in reversed(change.files):
        notes += _Undo(change, one, exiftool, calls).run()
    return tuple(notes)


@dataclass(frozen=True, slots=True)
class _Request:
    """The arguments of ``plan_tags``."""

    path: Path
    tags: tuple[MachineTag, ...]
    description: str
    embed: bool
    naming: SidecarNaming
    fields: tuple[KeywordField, ...]
    exiftool: Exiftool | None
    date: str
    calls: SystemCalls
    regions: Regions | None


class _Plan:
    """Plan the change of one photograph; its methods share what was read."""

    def __init__(self, request: _Request, read: ReadPhotograph | None = None) -> None:
        self._request = request
        self._path = request.path
        self._photograph = Path(os.path.realpath(request.path))
        if read is not None and self._suffices(read):
            self._content, self._state = read.content or b"", read.moment.state  # only embedding needs bytes
            self._existing = read.existing
        else:
            self._content, self._state = read_with_state(self._photograph, calls=request.calls)
            self._existing = read_existing(self._content)
        self._sidecars = sidecars_of(request.path, naming=request.naming)
        self._packets = [_read_sidecar(path, content) for path, content in self._sidecars.existing]
        self._shared = [read_packet(content) for content in self._sidecars.seeds]
        self._warnings = list(self._sidecars.warnings)
        self._by_people, self._refusals = self._existing.by_people, self._existing.refusals
        for packet in (*self._packets, *self._shared):
            self._by_people |= packet.by_people_or_copied if self._existing.damage else packet.by_people
            self._refusals |= packet.refusals
        self._regions = self._regions_to_write()
        if len(self._by_people.single) + len(self._by_people.paths) > _MOST_KEYWORDS:
            raise MetadataError(
                str(request.path), f"it has more than {_MOST_KEYWORDS:,} keywords; autotag does not change it"
            )

    def _regions_to_write(self) -> Regions | None:
        """Return the regions of the stored picture; None, with a warning, where they cannot be written."""
        wanted, existing = self._request.regions, self._existing
        if wanted is None:
            return None
        beside = (*self._packets, *self._shared)
        if existing.has_regions_by_people or any(one.has_regions_by_people for one in beside):
            why = "it has regions of a person, camera or program"
        elif existing.regions_refused or any(one.regions_refused for one in beside):
            why = "another program changed or removed earlier ones"
        elif existing.damage:
            why = "not all of its metadata could be read"
        elif existing.orientation > 1 and existing.kind not in _TURNED_BY_EXIF:
            why = "programs do not agree on how its kind of file is turned"
        else:
            return wanted.as_stored(existing.orientation)
        self._warnings.append(f"{self._path}: boxes are not written as regions: {why}.")
        return None

    def _suffices(self, read: ReadPhotograph) -> bool:
        """Return whether the photograph need not be read again."""
        has_all = read.content is not None or not self._request.embed
        return has_all and read.is_of(self._photograph, calls=self._request.calls)

    def change(self) -> MetadataChange:
        """Return the whole plan: the photograph, its sidecars, and the keywords of both."""
        embedded = self._embedded() if self._request.embed else None
        beside = self._beside() if embedded is None or self._sidecars.existing else []
        files = [one for one in (*beside, *(embedded or [])) if one is not None]
        before = self._keywords_before()
        after = self._keywords_after(files) if files else before
        old = {fold(word) for word in before.flat}
        return MetadataChange(
            path=str(self._path),
            kind=self._kind(files),
            files=tuple(files),
            tags=self._request.tags,
            description=self._request.description,
            added=tuple(word for word in after.flat if fold(word) not in old),
            keywords_before=before.flat,
            keywords_after=after.flat,
            warnings=tuple(self._warnings),
            embed=self._request.embed,
            naming=self._request.naming,
            fields=self._request.fields,
            date=self._request.date,
            regions=self._request.regions,
        )

    def _kind(self, files: Sequence[FileChange]) -> ChangeKind:
        if not files:
            return "unchanged"
        return "embedded" if any(one.path == str(self._photograph) for one in files) else "sidecar"

    def _keywords_before(self) -> Keywords:
        found = self._existing.keywords
        for packet in (*self._packets, *self._shared):
            found |= packet.keywords
        return found

    def _keywords_after(self, files: Sequence[FileChange]) -> Keywords:
        """Return people's keywords and the keywords of the files that are written."""
        found = self._by_people
        if all(one.path != str(self._photograph) for one in files):
            found |= self._existing.keywords
        for one in files:
            if one.content is not None and one.path == str(self._photograph):
                found |= read_existing(one.content).keywords
            elif one.content is not None:
                found |= read_packet(one.content).keywords
        return found

    def _packet(
        self, packet: bytes | None, *, for_iptc: bool = False, sidecar_for: str = "", wrapped: bool = False
    ) -> bytes | None:
        """Return the packet with the tags, and with the description if no person wrote one.

        Raises:
            ValueError: the packet is not XMP, or would be too large to read.
        """
        people_described = self._existing.description or any(
            one.description_by_people for one in (*self._packets, *self._shared)
        )
        after = with_machine_tags(
            packet,
            self._marked_for_iptc() if for_iptc else self._request.tags,
            description="" if people_described else self._request.description,
            elsewhere=self._by_people,
            refusals=self._refusals,
            fields=self._request.fields,
            regions=self._regions,
            date=self._request.date,
            sidecar_for=sidecar_for,
            wrapped=wrapped,
        )
        if after is not None:
            read_packet(after)
        return after

    def _beside(self) -> list[FileChange | None]:
        """Return the changes of the existing sidecars; without any, a new sidecar."""
        if self._existing.damage and not self._sidecars.existing:
            self._warnings.append(
                f"{self._path}: not all of its metadata could be read: {self._existing.damage}."
            )
        old = {fold(tag.text) for tag in self._existing.machine_tags}
        if old:
            self._warnings.append(f"{self._path}: tags that an earlier run embedded stay in the file.")
        return [self._sidecar(path) for path in self._sidecars.targets]

    def _sidecar(self, path: Path) -> FileChange | None:
        target = Path(os.path.realpath(path))
        state = state_of(target, calls=self._request.calls)
        content = None
        if state is not None:
            content, state = read_with_state(target, calls=self._request.calls)
        sidecar_for = self._sidecars.sidecar_for if path == self._sidecars.new else ""
        try:
            after = self._packet(content, sidecar_for=sidecar_for)
        except ValueError as error:
            raise MetadataError(str(path), f"cannot write tags into this sidecar: {error}") from error
        return _file_change(target, state, content, after)

    def _embedded(self) -> list[FileChange | None] | None:
        """Return the change of the photograph; warn and return None if tags cannot be embedded."""
        objection = self._objection()
        try:
            if objection is None:
                return [self._checked(self._spliced())]
            if self._request.exiftool is not None and self._exiftool_can():
                return [self._checked(self._through_exiftool(self._request.exiftool))]
        except ValueError as error:
            objection = str(error)
        missing = self._request.exiftool is None and self._exiftool_can()
        way_out = "; install exiftool to embed them" if missing else ""
        self._warnings.append(f"{self._path}: tags go to a sidecar, not into the file: {objection}{way_out}.")
        return None

    def _objection(self) -> str | None:
        if is_raw(self._path):
            return "autotag never writes into RAW files"
        if self._is_signed():
            return "it has Content Credentials, whose signature a change would break"
        return objection_to_writing(self._photograph) or objection_to_splicing(self._content, self._existing)

    def _is_signed(self) -> bool:
        """Return whether there are Content Credentials, in the photograph or beside it."""
        return self._existing.is_signed or is_file(self._photograph.with_suffix(".c2pa"))

    def _exiftool_can(self) -> bool:
        return (
            can_embed(self._content)
            and self._existing.simple_xmp
            and not self._existing.damage
            and not self._is_signed()
            and not is_raw(self._path)
            and objection_to_writing(self._photograph) is None
        )

    def _spliced(self) -> bytes:
        before = self._existing.packet
        after = self._packet(before, wrapped=True)
        if after == before:
            return self._content
        content = spliced(self._content, after)
        if embedded_packet(content) != after:
            raise ValueError("the new XMP cannot be read back")
        return content

    def _through_exiftool(self, exiftool: Exiftool) -> bytes:
        """Return the photograph as exiftool writes it, with IPTC keywords if it has some."""
        existing = self._existing
        packet = self._packet(existing.packet, for_iptc=bool(existing.iptc.keywords), wrapped=True)
        if packet == existing.packet:
            return self._content
        old = [tag.text for tag in existing.machine_tags if tag.in_iptc]
        new = [tag.text for tag in read_packet(packet).machine_tags if tag.in_iptc] if packet else []
        in_iptc = IptcChange(tuple(new), tuple(old)) if existing.iptc.keywords else IptcChange()
        return exiftool.embedded(self._content, packet, in_iptc)

    def _marked_for_iptc(self) -> tuple[MachineTag, ...]:
        """Return the tags, marked if they go to IPTC too; a keyword too long for IPTC stays in XMP only."""
        long = [tag.text for tag in self._request.tags if not fits_iptc(tag.text)]
        if long:
            self._warnings.append(f"{self._path}: too long for IPTC, written to XMP only: {', '.join(long)}.")
        ours = {fold(tag.text) for tag in self._existing.machine_tags if tag.in_iptc}
        others = {fold(word) for word in self._existing.iptc.keywords} - ours
        return tuple(
            replace(tag, in_iptc=fits_iptc(tag.text) and fold(tag.text) not in others)
            for tag in self._request.tags
        )

    def _checked(self, after: bytes) -> FileChange | None:
        change = _file_change(self._photograph, self._state, self._content, after)
        if change is None:
            return None
        found = {fold(word) for word in read_existing(after).keywords.flat}
        lost = [word for word in self._existing.by_people.flat if fold(word) not in found]
        if lost:
            raise ValueError(f"keywords would be lost: {', '.join(lost)}")
        if change.undo is None:
            self._warnings.append(
                f"{self._path}: too many bytes change for an exact undo; undo will remove the tags instead."
            )
        return change


def _read_sidecar(path: Path, content: bytes) -> Packet:
    try:
        return read_packet(content)
    except ValueError as error:
        raise MetadataError(str(path), f"this sidecar is damaged; repair or delete it: {error}") from error


def _file_change(
    path: Path, state: FileState | None, before: bytes | None, after: bytes | None
) -> FileChange | None:
    """Return the change of a file from one content to another; None when they are the same."""
    if before == after:
        return None
    delta = None if before is None else delta_between(after or b"", before)
    if delta is not None and (own_bytes(delta) > _LARGEST_UNDO or rebuilt(after or b"", delta) != before):
        delta = None
    return FileChange(
        path=str(path),
        before=state,
        sha256_before=None if before is None else sha256(before),
        sha256_after=None if after is None else sha256(after),
        undo=delta,
        content=after,
    )


def _with_contents(change: MetadataChange, exiftool: Exiftool | None, calls: SystemCalls) -> MetadataChange:
    """Return the change with the contents that JSON leaves out, planned again.

    Raises:
        FileChangedError: planning again gives a different change.
    """
    if all(one.content is not None or one.sha256_after is None for one in change.files):
        return change
    again = plan_tags(
        change.path,
        change.tags,
        change.description,
        embed=change.embed,
        naming=change.naming,
        fields=change.fields,
        regions=change.regions,
        exiftool=exiftool,
        date=change.date,
        calls=calls,
    )
    if again.files != change.files:
        raise FileChangedError(change.path, "it or its sidecar changed since the plan was made; plan again")
    return again


def _remove(one: FileChange, calls: SystemCalls) -> None:
    if one.before is not None:
        remove_file(Path(one.path), expected=one.before, calls=calls)


def _compare(one: FileChange, content: bytes) -> None:
    """Refuse content that differs from the plan."""
    if sha256(content) != one.sha256_after:
        raise MetadataError(one.path, "the written content is not the planned content")


class _Undo:
    """Undo the change of one file."""

    def __init__(
        self, change: MetadataChange, one: FileChange, exiftool: Exiftool | None, calls: SystemCalls
    ) -> None:
        self._one = one
        self._path = Path(one.path)
        self._photograph = Path(os.path.realpath(change.path))
        self._exiftool = exiftool
        self._calls = calls

    def run(self) -> list[str]:
        """Undo the change of this file and return notes for the user."""
        one = self._one
        state = state_of(self._path, calls=self._calls)
        if state is None:
            return self._bring_back()
        content, state = read_with_state(self._path, calls=self._calls)
        digest = sha256(content)
        if digest == one.sha256_before:
            return []
        if digest != one.sha256_after or (one.undo is None and one.before is not None):
            return self._remove_tags(content, state)
        if one.undo is None:
            remove_file(self._path, expected=state, calls=self._calls)
            return []
        return self._replace(rebuilt(content, one.undo), state)

    def _bring_back(self) -> list[str]:
        """Restore a file that does not exist, if the change removed it."""
        if self._one.sha256_after is None and self._one.undo is not None:
            return self._replace(rebuilt(b"", self._one.undo), None)
        return [] if self._one.before is None else [f"{self._path}: the file no longer exists."]

    def _replace(self, content: bytes, state: FileState | None) -> list[str]:
        if self._one.sha256_before is not None and sha256(content) != self._one.sha256_before:
            raise MetadataError(str(self._path), "its old content cannot be rebuilt from the undo record")
        before = None if self._one.before is None else self._one.before.mtime_ns
        return self._written(content, state, mtime_ns=before)

    def _written(self, content: bytes, state: FileState | None, *, mtime_ns: int | None = None) -> list[str]:
        touch = self._path != self._photograph
        said = replace_file(
            self._path, content, expected=state, touch=touch, mtime_ns=mtime_ns, calls=self._calls
        )
        return [f"{self._path}: {warning}." for warning in said]

    def _remove_tags(self, content: bytes, state: FileState) -> list[str]:
        """Remove the tags from a file that was edited since, or whose old bytes were not kept."""
        try:
            after = self._without_tags(content)
        except ValueError as error:
            raise MetadataError(str(self._path), f"its tags cannot be removed: {error}") from error
        if after == content:
            why = "it was edited since and has no record of machine tags"
            return [f"{self._path}: {why}; it stays unchanged."]
        notes = [f"{self._path}: it was edited since; only the machine's tags are removed."]
        if after is None:
            remove_file(self._path, expected=state, calls=self._calls)
        else:
            notes += self._written(after, state)
        return notes

    def _without_tags(self, content: bytes) -> bytes | None:
        if self._path != self._photograph:
            return without_machine_tags(content, keep_copies=not self._originals_are_read())
        existing = read_existing(content)
        if existing.packet is None:
            return content
        packet = without_machine_tags(existing.packet, keep_copies=bool(existing.damage))
        in_iptc = tuple(tag.text for tag in existing.machine_tags if tag.in_iptc)
        if not in_iptc and objection_to_splicing(content, replace(existing, iptc=Iptc())) is None:
            return spliced(content, packet)
        if self._exiftool is None:
            raise ValueError("that needs exiftool, which is not installed")
        return self._exiftool.embedded(content, packet, IptcChange(remove=in_iptc))

    def _originals_are_read(self) -> bool:
        """Return whether the photograph, which may hold the originals of copies, exists and reads whole."""
        if state_of(self._photograph, calls=self._calls) is None:
            return False
        return not read_existing(self._calls.read(self._photograph)).damage

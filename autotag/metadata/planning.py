"""Plan which files tagging a photograph changes, and what they will contain. Nothing is written."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from autotag.errors import MetadataError
from autotag.files.bounded_files import is_file
from autotag.files.file_states import objection_to_writing, read_with_state, sha256, state_of
from autotag.files.system_calls import SYSTEM
from autotag.metadata.changes import FileChange, MetadataChange
from autotag.metadata.copies import PHOTOGRAPH, ids_of, new_id, without_original
from autotag.metadata.deltas import delta_between, own_bytes, rebuilt
from autotag.metadata.exiftool import IptcChange, can_embed, fits_iptc
from autotag.metadata.existing import read_existing
from autotag.metadata.keywords import Keywords, fold
from autotag.metadata.sidecars import is_raw, sidecars_of
from autotag.metadata.splicing import embedded_packet, objection_to_splicing, spliced
from autotag.metadata.xmp import KEYWORD_FIELDS, not_there, read_packet, with_machine_tags
from autotag.metadata.xmp_fields import THIS_FILE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from autotag.files.file_states import FileState
    from autotag.files.system_calls import SystemCalls
    from autotag.metadata.changes import ChangeKind
    from autotag.metadata.exiftool import Exiftool
    from autotag.metadata.existing import Existing
    from autotag.metadata.photograph import ReadPhotograph
    from autotag.metadata.regions import Regions
    from autotag.metadata.sidecars import SidecarNaming
    from autotag.metadata.xmp import KeywordField, MachineTag, Packet

_MOST_KEYWORDS = 2000  # with copies and records, several parts of the budget each
_TURNED_BY_EXIF = frozenset(("jpeg", "png", "webp", "tiff"))  # kinds of files; RAW files are TIFF
_LARGEST_UNDO = 4 * 2**20  # bytes
_DESCRIBED = b"DescriptionAdded"  # the record of the machine's description


def plan_tags(
    path: str | Path,
    tags: Sequence[MachineTag],
    description: str = "",
    *,
    embed: bool = False,
    naming: SidecarNaming = "auto",
    fields: Sequence[KeywordField] = KEYWORD_FIELDS,
    regions: Regions | None = None,
    keywords: Keywords | None = None,
    refused: Sequence[str] = (),
    description_by_person: bool = False,
    refused_description: str = "",
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
            has others, but for labels that a person refused as tags.
        keywords: keywords that a person gives the photograph now; they are not recorded as the machine's.
        refused: machine tags that a person rejected; no later run writes them.
        description_by_person: whether a person wrote the description; later runs do not replace it then.
        refused_description: a machine's description that a person rejected; no later run writes one.
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
        Path(path), tuple(tags), description, embed, naming, tuple(fields), exiftool, date, calls, regions,
        keywords or Keywords(), tuple(refused), description_by_person,
        refused_description,
    )  # fmt: skip
    return _Plan(request, read).change()


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
    keywords: Keywords
    refused: tuple[str, ...]
    description_by_person: bool
    refused_description: str


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
        self._shared = [read_packet(content) for _, content in self._sidecars.seeds]
        self._warnings = list(self._sidecars.warnings)
        self._adds_description = False
        self._new_keywords = request.keywords
        self._own = dict(zip((path for path, _ in self._sidecars.existing), self._packets, strict=True))
        self._seeds = dict(zip((path for path, _ in self._sidecars.seeds), self._shared, strict=True))
        self._files: Mapping[Path, Existing | Packet] = {
            self._path: self._existing, **self._own, **self._seeds
        }  # fmt: skip
        self._ids = ids_of((self._path, self._existing), self._own, self._seeds)
        self._kept = without_original(self._files, self._ids)  # people's keywords from now on
        self._ids |= {
            path: self._ids.get(path) or (new_id(path, content),)
            for path, content in self._sidecars.existing or ((self._sidecars.new, b""),)
        }
        self._inherited: list[str] = []  # ids of lost files, whose keywords the next file gets
        self._sources = {
            path: one.by_people_or_copied if self._existing.damage else one.by_people
            for path, one in self._files.items()
        }
        self._refusals = self._existing.refusals
        self._count_kept(written=[self._path, *self._own])
        for packet in (*self._packets, *self._shared):
            self._refusals |= packet.refusals
        self._regions = self._regions_to_write()
        if len(self._by_people.single) + len(self._by_people.paths) > _MOST_KEYWORDS:
            raise MetadataError(
                str(request.path), f"it has more than {_MOST_KEYWORDS:,} keywords; autotag does not change it"
            )

    def _count_kept(self, written: Sequence[Path]) -> None:
        """Count kept copies as people's keywords; those of files that are not written go to the next file.

        The next file stands for the lost ones from then on, so that its keywords can be deleted.
        """
        self._written = written
        known = {one for several in self._ids.values() for one in several}
        for path in [path for path in self._kept if path not in written]:
            self._new_keywords |= self._kept.pop(path)
            self._inherited += sorted(set(self._files[path].copied_from) - known - {THIS_FILE})
        self._by_people = Keywords()
        for path, words in self._sources.items():
            self._by_people |= words | self._kept.get(path, Keywords())

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
            refused = (
                set(map(fold, (*self._refusals.tags, *self._request.refused))) - self._by_people.leaves()
            )
            left = tuple(one for one in wanted.regions if fold(one.label) not in refused)
            return replace(wanted, regions=left).as_stored(existing.orientation) if left else None
        self._warnings.append(f"{self._path}: boxes are not written as regions: {why}.")
        return None

    def _suffices(self, read: ReadPhotograph) -> bool:
        """Return whether the photograph need not be read again."""
        has_all = read.content is not None or not self._request.embed
        return has_all and read.is_of(self._photograph, calls=self._request.calls)

    def change(self) -> MetadataChange:
        """Return the whole plan: the photograph, its sidecars, and the keywords of both."""
        embedded = self._embedded() if self._request.embed else None
        if embedded is not None:
            self._give_keywords(self._path)
        else:
            self._count_kept(written=self._sidecars.targets)
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
            keywords=self._request.keywords,
            refused=self._request.refused,
            description_by_person=self._request.description_by_person,
            refused_description=self._request.refused_description,
            adds_description=self._adds_description and bool(files),
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
        """Return the keywords of the files that are written, and of the others."""
        found = Keywords()
        written = {one.path for one in files}
        if str(self._photograph) not in written:
            found |= self._existing.keywords
        beside = (*self._sidecars.existing, *self._sidecars.seeds)
        for (path, _), packet in zip(beside, (*self._packets, *self._shared), strict=True):
            if os.path.realpath(path) not in written:
                found |= packet.keywords
        for one in files:
            if one.content is not None and one.path == str(self._photograph):
                found |= read_existing(one.content).keywords
            elif one.content is not None:
                found |= read_packet(one.content).keywords
        return found

    def _packet(
        self,
        path: Path,
        packet: bytes | None,
        *,
        for_iptc: bool = False,
        sidecar_for: str = "",
        wrapped: bool = False,
    ) -> bytes | None:
        """Return the packet of a file with the tags, and with the description if no person wrote one.

        Raises:
            ValueError: the packet is not XMP, or would be too large to read.
        """
        people_described = self._existing.description or any(
            one.description_by_people for one in (*self._packets, *self._shared)
        )
        own = self._words_in(path)
        after = with_machine_tags(
            packet,
            self._marked_for_iptc() if for_iptc else self._request.tags,
            description="" if people_described else self._request.description,
            elsewhere=self._by_people,
            sources=self._sources_beside(path, own),
            keep=self._kept.get(path),
            ids=self._ids_to_record(path),
            are_ids_needed=self._is_named(path),
            refusals=self._refusals,
            fields=self._request.fields,
            regions=self._regions,
            keywords=self._new_keywords,
            refused=self._request.refused,
            description_by_person=self._request.description_by_person,
            refused_description=self._request.refused_description,
            echoes=self._may_echo() if path == self._path else (),
            date=self._request.date,
            sidecar_for=sidecar_for,
            wrapped=wrapped,
        )
        if after is not None:
            read_packet(after)
            self._adds_description |= _DESCRIBED in after and _DESCRIBED not in (packet or b"")
        return after

    def _give_keywords(self, path: Path) -> None:
        """Count the new keywords of a person as this file's, so that the next files get copies of them."""
        new = self._to_give()
        self._sources[path] = self._sources.get(path, Keywords()) | new
        self._by_people |= new
        self._new_keywords, self._inherited = Keywords(), []

    def _to_give(self) -> Keywords:
        """Return the new keywords that are in none of the files."""
        return Keywords.of_paths(not_there(self._new_keywords, self._by_people))

    def _words_in(self, path: Path) -> Keywords:
        """Return people's keywords in a file."""
        return self._sources.get(path, Keywords()) | self._kept.get(path, Keywords())

    def _sources_beside(self, path: Path, own: Keywords) -> list[str]:
        """Return an id of each other file with keywords that this one lacks."""
        others = [one for one in self._sources if one != path and not own.covers(self._words_in(one))]
        return sorted({min(self._ids[one], key=_not_photograph) for one in others})

    def _ids_to_record(self, path: Path) -> tuple[str, ...]:
        """Return the ids that this file's record needs, because another file has copies from it."""
        ids = tuple(one for one in self._ids[path] if one != PHOTOGRAPH)
        has_words = (self._words_in(path) | self._to_give()) != Keywords()
        is_copied = path != self._path and has_words and len(self._written) > 1
        return (*(ids if is_copied or self._is_named(path) else ()), *self._inherited)

    def _is_named(self, path: Path) -> bool:
        """Return whether a file that is not written has copies from this one, or one that it stands for."""
        others = [one for name, one in self._files.items() if name not in self._written]
        ids = set(self._ids[path]) - {PHOTOGRAPH}
        return bool(self._inherited) or any(ids & set(one.copied_from) for one in others)

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
            after = self._packet(path, content, sidecar_for=sidecar_for)
        except ValueError as error:
            raise MetadataError(str(path), f"cannot write tags into this sidecar: {error}") from error
        self._give_keywords(path)
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
        after = self._packet(self._path, before, wrapped=True)
        if after == before:
            return self._content
        content = spliced(self._content, after)
        if embedded_packet(content) != after:
            raise ValueError("the new XMP cannot be read back")
        return content

    def _through_exiftool(self, exiftool: Exiftool) -> bytes:
        """Return the photograph as exiftool writes it, with IPTC keywords if it has some."""
        existing = self._existing
        in_iptc = bool(existing.iptc.keywords)
        packet = self._packet(self._path, existing.packet, for_iptc=in_iptc, wrapped=True)
        if packet == existing.packet:
            return self._content
        old = [tag.text for tag in existing.machine_tags if tag.in_iptc]
        new = [tag.text for tag in read_packet(packet).machine_tags if tag.in_iptc] if packet else []
        there = {fold(word) for word in existing.iptc.keywords} - set(map(fold, old))
        new += [word for word in self._new_keywords.flat if fits_iptc(word) and fold(word) not in there]
        change = IptcChange(tuple(new), tuple(old)) if in_iptc else IptcChange()
        return exiftool.embedded(self._content, packet, change)

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

    def _may_echo(self) -> list[str]:
        """Return the photograph's keywords outside XMP which autotag did not write there."""
        ours = {fold(tag.text) for tag in self._existing.machine_tags if tag.in_iptc}
        in_iptc = (word for word in self._existing.iptc.keywords if fold(word) not in ours)
        return [*in_iptc, *self._existing.in_exif]

    def _checked(self, after: bytes) -> FileChange | None:
        change = _file_change(self._photograph, self._state, self._content, after)
        if change is None:
            return None
        found = {fold(word) for word in read_existing(after).keywords.flat}
        lost = [word for word in self._words_in(self._path).flat if fold(word) not in found]
        if lost:
            raise ValueError(f"keywords would be lost: {', '.join(lost)}")
        if change.undo is None:
            self._warnings.append(
                f"{self._path}: too many bytes change for an exact undo; undo will remove the tags instead."
            )
        return change


def _not_photograph(name: str) -> tuple[bool, str]:
    """Sort the id of the photograph before those of its record."""
    return name != PHOTOGRAPH, name


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

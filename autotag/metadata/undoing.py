"""Undo a change: restore the bytes; in a file that was edited since, remove the machine's tags only."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from autotag.errors import MetadataError
from autotag.files.file_states import read_with_state, sha256, state_of
from autotag.files.replacing import remove_file, replace_file
from autotag.files.system_calls import SYSTEM
from autotag.metadata.copies import PHOTOGRAPH, ids_of, without_original
from autotag.metadata.deltas import rebuilt
from autotag.metadata.exiftool import IptcChange
from autotag.metadata.existing import read_existing
from autotag.metadata.iptc import Iptc
from autotag.metadata.keywords import Keywords
from autotag.metadata.sidecars import sidecars_of
from autotag.metadata.splicing import objection_to_splicing, spliced
from autotag.metadata.xmp import read_packet, without_machine_tags
from autotag.metadata.xmp_fields import THIS_FILE

if TYPE_CHECKING:
    from autotag.files.file_states import FileState
    from autotag.files.system_calls import SystemCalls
    from autotag.metadata.changes import FileChange, MetadataChange
    from autotag.metadata.exiftool import Exiftool
    from autotag.metadata.existing import Existing
    from autotag.metadata.xmp import Packet


def undo_change(
    change: MetadataChange, *, exiftool: Exiftool | None = None, calls: SystemCalls = SYSTEM
) -> tuple[str, ...]:
    """Undo a change, whether it was applied, applied in part, or not at all.

    A file that nobody edited since gets its old bytes. In a file that was edited, only the machine's tags,
    their record and the machine's description are removed. Either way, copies of people's keywords stay if
    the file with their original is gone.

    Args:
        change: the change, as for ``apply_change``.
        exiftool: removes tags from edited files that cannot be spliced.
        calls: the operating system; tests replace it.

    Returns:
        Notes for the user, as whole sentences: which files were edited since, and which copies stay. Files
        that no longer exist are skipped.

    Raises:
        MetadataError: a file cannot be written, is damaged, or needs exiftool.
        OSError: the system refused; the file that was being written is unchanged.
    """
    notes: list[str] = []
    for one in reversed(change.files):
        notes += _Undo(change, one, exiftool, calls).run()
    return tuple(notes)


def copies_at_stake(change: MetadataChange, *, calls: SystemCalls = SYSTEM) -> tuple[str, ...]:
    """Return people's keywords that undoing would find only as copies, because a file beside them is gone.

    Raises:
        MetadataError: a sidecar is damaged.
        OSError: a file cannot be read.
    """
    words = Keywords()
    for one in change.files:
        words |= _Undo(change, one, None, calls).orphans()
    return words.flat


class _Undo:
    """Undo the change of one file."""

    def __init__(
        self, change: MetadataChange, one: FileChange, exiftool: Exiftool | None, calls: SystemCalls
    ) -> None:
        self._one = one
        self._path = Path(one.path)
        self._name = Path(change.path)  # sidecars lie beside this name, which may be a link
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
        orphans = self._orphans_in(content)
        if digest != one.sha256_after or (one.undo is None and one.before is not None):
            return self._remove_tags(content, state, orphans, "it was edited since")
        if orphans != Keywords():
            return self._remove_tags(content, state, orphans, "a sidecar beside it was deleted since")
        if one.undo is None:
            remove_file(self._path, expected=state, calls=self._calls)
            return []
        return self._replace(rebuilt(content, one.undo), state)

    def _bring_back(self) -> list[str]:
        """Restore a file that does not exist, if the change removed it."""
        if self._one.sha256_after is None and self._one.undo is not None:
            return self._replace(rebuilt(b"", self._one.undo), None)
        return []

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

    def _remove_tags(self, content: bytes, state: FileState, orphans: Keywords, why: str) -> list[str]:
        """Remove the tags from a file that does not get its old bytes; copies without an original stay."""
        try:
            after = self._without_tags(content, orphans)
        except ValueError as error:
            raise MetadataError(str(self._path), f"its tags cannot be removed: {error}") from error
        if after == content:
            return [f"{self._path}: {why} and has no record of machine tags; it stays unchanged."]
        notes = [f"{self._path}: {why}; only the machine's tags are removed."]
        if orphans != Keywords():
            words = ", ".join(orphans.flat)
            notes.append(
                f"{self._path}: it keeps {words}, because the file that this was copied from is gone."
            )
        if after is None:
            remove_file(self._path, expected=state, calls=self._calls)
        else:
            notes += self._written(after, state)
        return notes

    def _without_tags(self, content: bytes, orphans: Keywords) -> bytes | None:
        if self._path != self._photograph:
            keep = orphans if self._originals_are_read() else read_packet(content).by_people_or_copied
            return without_machine_tags(content, keep=keep)
        existing = read_existing(content)
        if existing.packet is None:
            return content
        keep = existing.by_people_or_copied if existing.damage else orphans
        packet = without_machine_tags(existing.packet, keep=keep)
        in_iptc = tuple(tag.text for tag in existing.machine_tags if tag.in_iptc)
        if not in_iptc and objection_to_splicing(content, replace(existing, iptc=Iptc())) is None:
            return spliced(content, packet)
        if self._exiftool is None:
            raise ValueError("that needs exiftool, which is not installed")
        return self._exiftool.embedded(content, packet, IptcChange(remove=in_iptc))

    def orphans(self) -> Keywords:
        """Return the copies in this file whose original is nowhere, where a source of the file is gone.

        Raises:
            MetadataError: a sidecar is damaged.
            OSError: a file cannot be read.
        """
        is_there = state_of(self._path, calls=self._calls) is not None
        return self._orphans_in(self._calls.read(self._path)) if is_there else Keywords()

    def _orphans_in(self, content: bytes) -> Keywords:
        if state_of(self._photograph, calls=self._calls) is None or not self._has_copies_from_sidecars(
            content
        ):
            return Keywords()
        existing = read_existing(self._calls.read(self._photograph))
        beside = sidecars_of(self._name)
        own = {path: read_packet(held) for path, held in beside.existing}
        shared = {path: read_packet(held) for path, held in beside.seeds}
        files: dict[Path, Existing | Packet] = {self._name: existing, **own, **shared}
        found = without_original(files, ids_of((self._name, existing), own, shared))
        mine = (words for path, words in found.items() if Path(os.path.realpath(path)) == self._path)
        return next(mine, Keywords())

    def _has_copies_from_sidecars(self, content: bytes) -> bool:
        """Return whether to look for originals beside the photograph, which costs reading all its files."""
        if self._path == self._photograph:
            sources = read_existing(content).copied_from
        else:
            try:
                sources = read_packet(content).copied_from
            except ValueError as error:
                raise MetadataError(str(self._path), f"its tags cannot be removed: {error}") from error
        return not set(sources) <= {THIS_FILE, PHOTOGRAPH}

    def _originals_are_read(self) -> bool:
        """Return whether the photograph, which may hold the originals of copies, exists and reads whole."""
        if state_of(self._photograph, calls=self._calls) is None:
            return False
        return not read_existing(self._calls.read(self._photograph)).damage

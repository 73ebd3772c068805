"""Which sidecar files belong to a photograph, and what a new one is called.

Most programs write ``beach.jpg.xmp``; Adobe's write ``beach.xmp``, and for RAW files only. Several
photographs may share a stem, and then ``beach.xmp`` belongs to the RAW among them, or to the one that
``photoshop:SidecarForExtension`` names.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from autotag.errors import MetadataError
from autotag.metadata.xmp import read_packet
from autotag.raw_files import RAW_SUFFIXES

SidecarNaming = Literal["auto", "ext", "adobe"]

_OTHER_SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".tif", ".tiff", ".gif", ".bmp", ".avif", ".heic",
    ".heif", ".hif", ".mpo", ".psd", ".jxl", ".jp2", ".mp4", ".mov",
)  # fmt: skip
_SUFFIXES = tuple(
    spelling
    for suffix in (*sorted(RAW_SUFFIXES), *_OTHER_SUFFIXES)
    for spelling in (suffix, suffix.upper(), f".{suffix[1:].capitalize()}")
)


@dataclass(frozen=True, slots=True)
class Sidecars:
    """The sidecars of a photograph.

    Attributes:
        existing: those that are its own, to be updated, with their content.
        seeds: content of sidecars that it shares with others: their keywords count, they are not written.
        new: what a new one is called, when there are none.
        sidecar_for: the extension to put into a new one that others might take for theirs, or empty.
        warnings: what the user should know.
    """

    existing: tuple[tuple[Path, bytes], ...]
    seeds: tuple[bytes, ...]
    new: Path
    sidecar_for: str
    warnings: tuple[str, ...]

    @property
    def targets(self) -> tuple[Path, ...]:
        """What is to be written: the existing ones, or the new one."""
        return tuple(path for path, _ in self.existing) or (self.new,)


def is_raw(path: Path) -> bool:
    """Whether the extension is that of a camera's RAW format."""
    return path.suffix.lower() in RAW_SUFFIXES


def sidecars_of(path: Path, *, naming: SidecarNaming = "auto") -> Sidecars:
    """The sidecars of a photograph.

    Args:
        path: the photograph, at the place where its sidecars lie (a link is not followed).
        naming: of a new sidecar. ``"auto"``: ``x.ext.xmp``, for RAW files ``x.xmp``; ``"ext"`` and
            ``"adobe"``: always the one or the other.

    Raises:
        MetadataError: ``naming="adobe"``, and another photograph would share the sidecar; or a sidecar is
            damaged.
        OSError: a sidecar cannot be read.
    """
    others = _same_stem(path)
    existing = [(sidecar, sidecar.read_bytes()) for sidecar in _present(path)]
    seeds: list[bytes] = []
    warnings: list[str] = []
    for sidecar in _present(path.with_suffix("")):
        content = sidecar.read_bytes()
        owner = _owner(path, others, _named_owner(sidecar, content))
        if owner == "mine":
            existing.append((sidecar, content))
        elif owner == "shared":
            seeds.append(content)
            warnings.append(
                f"{sidecar.name} is shared with {', '.join(other.name for other in others)} and left as it is"
            )
    new, sidecar_for = _new_name(path, others, naming, taken=bool(existing))
    return Sidecars(tuple(existing), tuple(seeds), new, sidecar_for, tuple(warnings))


def _present(base: Path) -> list[Path]:
    """``base.xmp`` as it is there, in small or large letters; once where letters do not matter."""
    found: list[Path] = []
    for suffix in (".xmp", ".XMP"):
        candidate = base.with_name(base.name + suffix)
        is_there = os.path.isfile(candidate)  # noqa: PTH113 - False, too, where no name could be that long
        if is_there and not any(candidate.samefile(other) for other in found):
            found.append(candidate)
    return found


def _same_stem(path: Path) -> list[Path]:
    """Other photographs and films in the folder with the same name up to the extension."""
    base = os.path.splitext(path)[0]  # noqa: PTH122 - a hundred Paths per photograph take a millisecond
    there = (Path(base + suffix) for suffix in _SUFFIXES if os.path.isfile(base + suffix))  # noqa: PTH113
    return [other for other in there if other.name != path.name and not other.samefile(path)]


def _named_owner(sidecar: Path, content: bytes) -> str:
    try:
        return read_packet(content).sidecar_for.lower().removeprefix(".")
    except ValueError as error:
        raise MetadataError(str(sidecar), f"the sidecar is damaged and left as it is: {error}") from error


def _owner(path: Path, others: list[Path], named: str) -> Literal["mine", "another", "shared"]:
    """Whose ``x.xmp`` it is."""
    if not others or named == path.suffix[1:].lower():
        return "mine"
    if named and any(named == other.suffix[1:].lower() for other in others):
        return "another"
    raws = [candidate for candidate in (path, *others) if is_raw(candidate)]
    return "mine" if raws == [path] else "shared"


def _new_name(path: Path, others: list[Path], naming: SidecarNaming, *, taken: bool) -> tuple[Path, str]:
    """Name of a new sidecar, and the extension that it should say it is for."""
    with_extension = path.with_name(path.name + ".xmp")
    adobe = path.with_suffix(".xmp")
    raws = [candidate for candidate in (path, *others) if is_raw(candidate)]
    if naming == "adobe":
        if others and raws != [path] and not taken:
            raise MetadataError(
                str(path), f"{adobe.name} would be shared with {others[0].name}; choose other sidecar names"
            )
        return adobe, path.suffix[1:]
    if naming == "auto" and raws == [path]:
        return adobe, path.suffix[1:]
    return with_extension, ""

"""Which sidecar files belong to a photograph, and what a new one is called.

Most programs write ``beach.jpg.xmp``; Adobe's write ``beach.xmp``, and for RAW files only. Several
photographs may share a stem, and then ``beach.xmp`` belongs to the RAW among them, or to the one that
``photoshop:SidecarForExtension`` names.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

from autotag.errors import MetadataError
from autotag.images.raw_files import RAW_SUFFIXES
from autotag.metadata.budget import MOST_BYTES
from autotag.metadata.xmp import read_packet

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SidecarNaming = Literal["auto", "ext", "adobe"]

_SUFFIXES = RAW_SUFFIXES | frozenset((
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".tif", ".tiff", ".gif", ".bmp", ".avif", ".heic",
    ".heif", ".hif", ".mpo", ".psd", ".jxl", ".jp2", ".mp4", ".mov",
))  # fmt: skip
_TICK = 50_000_000  # nanoseconds within which two changes of a folder may have one time


@dataclass(frozen=True, slots=True)
class Sidecars:
    """The sidecars of a photograph.

    Attributes:
        existing: paths and contents of the photograph's own sidecars; these are updated.
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
        """Return the paths to write: the existing sidecars, or the new one."""
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
            damaged or larger than 16 MiB.
        OSError: a sidecar cannot be read.
    """
    others = _same_stem(path)
    existing = [(sidecar, _content(sidecar)) for sidecar in _present(path)]
    seeds: list[bytes] = []
    warnings: list[str] = []
    for sidecar in _present(path.with_suffix("")):
        content = _content(sidecar)
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


def _content(sidecar: Path) -> bytes:
    if sidecar.stat().st_size > MOST_BYTES:
        reason = f"the sidecar is left as it is: it is larger than {MOST_BYTES // 2**20} MiB"
        raise MetadataError(str(sidecar), reason)
    return sidecar.read_bytes()


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
    changed = path.parent.stat().st_mtime_ns
    is_settled = time.time_ns() - changed > _TICK
    pictures = (_pictures if is_settled else _pictures.__wrapped__)(path.parent, changed)
    names = pictures.get(path.stem.casefold(), ())
    there = (path.with_name(path.stem + os.path.splitext(name)[1]) for name in names)  # noqa: PTH122
    return [other for other in there if other.name != path.name and _is_another(other, path)]


def _is_another(other: Path, path: Path) -> bool:
    """Whether it is there, in this spelling, and not the same file by another name."""
    with suppress(OSError):
        return other.is_file() and not other.samefile(path)
    return False


@lru_cache(maxsize=2)
def _pictures(folder: Path, _mtime_ns: int) -> Mapping[str, tuple[str, ...]]:
    """Photographs and films in a folder by stem, as the folder is since this time.

    Asking for each possible name would be some hundred questions per photograph, which network shares answer
    slowly.
    """
    found: dict[str, tuple[str, ...]] = {}
    for name in sorted(os.listdir(folder)):  # noqa: PTH208 - no Path per name
        stem, suffix = os.path.splitext(name)  # noqa: PTH122
        if suffix.lower() in _SUFFIXES:
            found[stem.casefold()] = (*found.get(stem.casefold(), ()), name)
    return found


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

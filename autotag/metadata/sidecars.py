"""Find the sidecar files of a photograph, tell when they change, and name a new one.

Most programs write ``beach.jpg.xmp``; Adobe's programs write ``beach.xmp``, for RAW files only. If several
photographs share a stem, ``beach.xmp`` belongs to the RAW file among them, or to the file that
``photoshop:SidecarForExtension`` names.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

from autotag.errors import MetadataError
from autotag.images.raw_files import RAW_SUFFIXES
from autotag.metadata.budget import MOST_BYTES
from autotag.metadata.keywords import Keywords
from autotag.metadata.xmp import read_packet

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from pathlib import Path

SidecarNaming = Literal["auto", "ext", "adobe"]

_SUFFIXES = RAW_SUFFIXES | frozenset((
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".tif", ".tiff", ".gif", ".bmp", ".avif", ".heic",
    ".heif", ".hif", ".mpo", ".psd", ".jxl", ".jp2", ".mp4", ".mov",
))  # fmt: skip
_TICK = 2_100_000_000  # nanoseconds within which two changes of a folder may have one time: FAT counts 2 s


@dataclass(frozen=True, slots=True)
class Sidecars:
    """The sidecars of a photograph.

    Attributes:
        existing: path and content of each sidecar that belongs to this photograph; these are updated.
        seeds: path and content of sidecars shared with other photographs; their keywords are read, never
            written.
        new: the path of a new sidecar, for when there is none.
        sidecar_for: the file extension to record in a new sidecar named after the stem only, or empty.
        warnings: sentences for the user, such as which sidecar is shared.
    """

    existing: tuple[tuple[Path, bytes], ...]
    seeds: tuple[tuple[Path, bytes], ...]
    new: Path
    sidecar_for: str
    warnings: tuple[str, ...]

    @property
    def targets(self) -> tuple[Path, ...]:
        """Return the paths to write: the existing sidecars, or the new one."""
        return tuple(path for path, _ in self.existing) or (self.new,)


def is_raw(path: Path) -> bool:
    """Return whether the extension is that of a camera's RAW format."""
    return path.suffix.lower() in RAW_SUFFIXES


def sidecars_of(path: Path, *, naming: SidecarNaming = "auto") -> Sidecars:
    """Find the sidecars of a photograph.

    Args:
        path: the photograph, at the place where its sidecars lie (a link is not followed).
        naming: the name of a new sidecar. ``"ext"``: ``x.ext.xmp``; ``"adobe"``: ``x.xmp``; ``"auto"``:
            ``x.xmp`` for RAW files, ``x.ext.xmp`` for others.

    Raises:
        MetadataError: ``naming="adobe"``, and another photograph would share the sidecar; or a sidecar is
            damaged or larger than 16 MiB.
        OSError: a sidecar cannot be read.
    """
    others = _same_stem(path)
    existing = [(sidecar, _content(sidecar)) for sidecar in _present(path)]
    seeds: list[tuple[Path, bytes]] = []
    warnings: list[str] = []
    for sidecar in _present(path.with_suffix("")):
        content = _content(sidecar)
        owner = _owner(path, others, _named_owner(sidecar, content))
        if owner == "mine":
            existing.append((sidecar, content))
        elif owner == "shared":
            seeds.append((sidecar, content))
            warnings.append(
                f"{sidecar.name} is shared with {', '.join(other.name for other in others)} and not written"
            )
    new, sidecar_for = _new_name(path, others, naming, taken=bool(existing))
    return Sidecars(tuple(existing), tuple(seeds), new, sidecar_for, tuple(warnings))


def sidecar_stamp(photograph: str | os.PathLike[str]) -> str:
    """Return a text that changes when a photograph's sidecars change, or whose they are.

    It is a digest of name, size and modification time of every sidecar whose name fits the photograph, shared
    ones included, and of the names of other photographs that such a sidecar may belong to. Sidecars are not
    opened, and the folder is listed once for all its photographs.

    Args:
        photograph: a file, at the place where its sidecars lie (a link is not followed).

    Returns:
        32 hexadecimal digits; an empty text without any sidecar, or where the folder cannot be listed.
    """
    folder, name = os.path.split(os.fspath(photograph))
    stem = os.path.splitext(name)[0].casefold()  # noqa: PTH122
    try:
        listing = _listing(folder or os.curdir)
    except OSError:
        return ""
    own = _facts(folder, listing.sidecars.get(name.casefold(), ()))
    shared = _facts(folder, listing.sidecars.get(stem, ()))
    if not own and not shared:
        return ""
    others = listing.pictures.get(stem, ()) if shared else ()
    told = "/".join((*own, "", *shared, "", *others))
    return hashlib.blake2b(os.fsencode(told), digest_size=16).hexdigest()


def keywords_left_behind(path: Path, moved: Collection[str]) -> Path | None:
    """Return a sidecar with a person's keywords or description that a renaming would separate from an owner.

    Args:
        path: the photograph that is renamed.
        moved: the names of the files that are renamed, the photograph's included.

    Raises:
        OSError: a sidecar cannot be read.
    """
    others = _same_stem(path)
    for sidecar in _present(path.with_suffix("")) if others else ():
        with suppress(MetadataError, ValueError):  # what cannot be read, nobody reads as another's
            packet = read_packet(_content(sidecar))
            owner = _extension(packet.sidecar_for)
            named = [one for one in (path, *others) if one.suffix[1:].lower() == owner]
            together = {sidecar.name, *(one.name for one in named or (path, *others))}
            is_apart = bool(together & set(moved)) and not together <= set(moved)
            if is_apart and (packet.by_people != Keywords() or packet.description_by_people):
                return sidecar
    return None


def _facts(folder: str, sidecars: Iterable[str]) -> list[str]:
    """Return name, size and modification time of those of the sidecars that are files."""
    facts: list[str] = []
    for name in sidecars:
        with suppress(OSError):
            found = os.stat(os.path.join(folder, name))  # noqa: PTH116, PTH118 - no Path for each of many
            if stat.S_ISREG(found.st_mode):
                facts.append(f"{name}/{found.st_size}/{found.st_mtime_ns}")
    return facts


def _content(sidecar: Path) -> bytes:
    if sidecar.stat().st_size > MOST_BYTES:
        reason = f"this sidecar is larger than {MOST_BYTES // 2**20} MiB; autotag does not read or change it"
        raise MetadataError(str(sidecar), reason)
    return sidecar.read_bytes()


def _present(base: Path) -> list[Path]:
    """Return ``base.xmp`` and ``base.XMP`` if they exist; one if the file system ignores case."""
    found: list[Path] = []
    for suffix in (".xmp", ".XMP"):
        candidate = base.with_name(base.name + suffix)
        is_there = os.path.isfile(candidate)  # noqa: PTH113 - False, too, where no name could be that long
        if is_there and not any(candidate.samefile(other) for other in found):
            found.append(candidate)
    return found


def _same_stem(path: Path) -> list[Path]:
    """Return the other photographs and films in the folder with the same stem."""
    names = _listing(os.fspath(path.parent)).pictures.get(path.stem.casefold(), ())
    there = (path.with_name(path.stem + os.path.splitext(name)[1]) for name in names)  # noqa: PTH122
    return [other for other in there if other.name != path.name and _is_another(other, path)]


def _is_another(other: Path, path: Path) -> bool:
    """Return whether the file exists in this spelling and is not the same file under another name."""
    with suppress(OSError):
        return other.is_file() and not other.samefile(path)
    return False


@dataclass(frozen=True, slots=True)
class _Listing:
    """The names in a folder that matter for sidecars.

    Attributes:
        pictures: photographs and films by their stem, casefolded.
        sidecars: by what stands before their ``.xmp``, casefolded.
    """

    pictures: Mapping[str, tuple[str, ...]]
    sidecars: Mapping[str, tuple[str, ...]]


def _listing(folder: str) -> _Listing:
    """Return the names in a folder as they are now; it is listed when its time has changed.

    Testing each possible name would take about a hundred system calls per photograph, which are slow on
    network shares. A change within the same tick of the file system's clock keeps the folder's time, so a
    time counts only when it is a tick old. The clock of a file server may be ahead of this one: then it
    counts when it was seen a tick ago.
    """
    changed = os.stat(folder).st_mtime_ns  # noqa: PTH116 - a Path for each photograph is slow
    is_old = time.time_ns() - changed > _TICK or time.monotonic_ns() - _first_seen(folder, changed) > _TICK
    return (_listed if is_old else _listed.__wrapped__)(folder, changed)


@lru_cache(maxsize=2)
def _first_seen(_folder: str, _mtime_ns: int) -> int:
    return time.monotonic_ns()


@lru_cache(maxsize=2)
def _listed(folder: str, _mtime_ns: int) -> _Listing:
    pictures: dict[str, tuple[str, ...]] = {}
    sidecars: dict[str, tuple[str, ...]] = {}
    for name in sorted(os.listdir(folder)):  # noqa: PTH208 - no Path per name
        stem, suffix = os.path.splitext(name)  # noqa: PTH122
        suffix = suffix.lower()
        if suffix in _SUFFIXES or suffix == ".xmp":
            found = sidecars if suffix == ".xmp" else pictures
            found[stem.casefold()] = (*found.get(stem.casefold(), ()), name)
    return _Listing(pictures, sidecars)


def _named_owner(sidecar: Path, content: bytes) -> str:
    try:
        return _extension(read_packet(content).sidecar_for)
    except ValueError as error:
        raise MetadataError(str(sidecar), f"this sidecar is damaged; repair or delete it: {error}") from error


def _extension(sidecar_for: str) -> str:
    return sidecar_for.lower().removeprefix(".")


def _owner(path: Path, others: list[Path], named: str) -> Literal["mine", "another", "shared"]:
    """Return whose ``x.xmp`` it is."""
    if not others or named == path.suffix[1:].lower():
        return "mine"
    if named and any(named == other.suffix[1:].lower() for other in others):
        return "another"
    raws = [candidate for candidate in (path, *others) if is_raw(candidate)]
    return "mine" if raws == [path] else "shared"


def _new_name(path: Path, others: list[Path], naming: SidecarNaming, *, taken: bool) -> tuple[Path, str]:
    """Return the path of a new sidecar, and the file extension to record in it."""
    with_extension = path.with_name(path.name + ".xmp")
    adobe = path.with_suffix(".xmp")
    raws = [candidate for candidate in (path, *others) if is_raw(candidate)]
    if naming == "adobe":
        if others and raws != [path] and not taken:
            raise MetadataError(
                str(path),
                f"{adobe.name} would be shared with {others[0].name}; choose other sidecar names",
            )
        return adobe, path.suffix[1:]
    if naming == "auto" and raws == [path]:
        return adobe, path.suffix[1:]
    return with_extension, ""

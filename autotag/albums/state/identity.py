"""The identity of a state: its album, and the users and machines that wrote it.

A state may lie in an album that came from somebody else, or be named for the wrong album. It is used only for
its album, by the users and machines that wrote it; others use it with ``adopt``.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import stat
import sys
import uuid
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from autotag.errors import ConfigError
from autotag.files.file_states import lies_in, state_of
from autotag.files.replacing import replace_file
from autotag.files.system_calls import is_there

IN_ALBUM = ".autotag"
"""The folder of an album that holds its state, if a person makes one."""
LEDGER, JOURNAL, LOCK = "ledger.sqlite", "journal.jsonl", "lock.sqlite"
"""The files of a state."""
_IDENTITY, _ID = "album.json", "id"
_OURS = (_IDENTITY, _ID, LEDGER, JOURNAL, LOCK)


@dataclass(frozen=True, slots=True)
class Identity:
    """Keep what a state records about its album.

    Attributes:
        real: the album's folder, links resolved.
        device: number of the folder's device.
        inode: number of the folder on its device.
        id: what the album's own folder ``.autotag`` says it is; empty when it has none.
        owners: who wrote the state, see ``owner``.
    """

    real: str
    device: int
    inode: int
    id: str
    owners: tuple[str, ...]


def is_state(folder: Path) -> bool:
    """Return whether a folder is the state of one album."""
    return any(os.path.lexists(folder / name) for name in (_IDENTITY, LEDGER, JOURNAL))


def album_of(folder: Path) -> str:
    """Return the path of a state's album; empty when the state does not record it."""
    found = _read(folder)
    return "" if found is None else found.real


def check_state(folder: Path, album: Path, *, adopt: bool = False) -> None:
    """Refuse a state of another album, or one that somebody else wrote.

    Args:
        folder: the state.
        album: the album's folder or archive.
        adopt: use it nevertheless: the album was moved or copied, or the state is from another machine.

    Raises:
        ConfigError: it is not this album's, somebody else wrote it, or it holds links.
    """
    _check_no_links(folder, album)
    if adopt or not is_state(folder):
        return
    found = _read(folder)
    if found is None:
        raise _refusal(folder, "does not say which album it belongs to")
    if owner() not in found.owners:
        raise _refusal(folder, "was written on another machine or by another user")
    if not _is_of(found, folder, album):
        raise _refusal(folder, f"belongs to another album, {found.real!r}")


def claim_state(folder: Path, album: Path) -> None:
    """Record in a state its album and the present user and machine.

    Raises:
        OSError: it cannot be written.
    """
    found, facts = _read(folder), album.stat()
    if lies_in(folder, album / IN_ALBUM) and not _id_of(album):
        replace_file(album / IN_ALBUM / _ID, secrets.token_hex(16).encode(), expected=None)
    owners = (*(() if found is None else found.owners), owner())
    now = Identity(
        os.path.realpath(album), facts.st_dev, facts.st_ino, _id_of(album), tuple(dict.fromkeys(owners))
    )
    if now != found:
        path = folder / _IDENTITY
        replace_file(path, json.dumps(asdict(now)).encode() + b"\n", expected=state_of(path))


@cache
def owner() -> str:
    """Return a digest of this machine and user, the same in every process."""
    user = str(os.getuid()) if sys.platform != "win32" else os.environ.get("USERNAME", "")
    return hashlib.sha256(f"autotag {_machine()} {user}".encode()).hexdigest()[:32]


def _machine() -> str:
    """Return a lasting id of this machine; empty without one, as in a container."""
    if sys.platform != "linux":
        node = uuid.getnode()
        is_random = node >> 40 & 1  # RFC 4122: a number that was made up has this bit
        return "" if is_random else f"{node:012x}"
    with suppress(OSError):
        return Path("/etc/machine-id").read_text(encoding="ascii", errors="replace").strip()
    return ""


def was_here(folder: Path, album: Path) -> bool:
    """Return whether a state is of this very folder, by its number on the device, whatever its path is."""
    found = _read(folder)
    return found is not None and _has_number(found, album)


def _has_number(found: Identity, album: Path) -> bool:
    facts = album.stat()
    return (found.device, found.inode) == (facts.st_dev, facts.st_ino)


def _is_of(found: Identity, folder: Path, album: Path) -> bool:
    """Return whether a state belongs to this album."""
    if lies_in(folder, album):
        return True
    album_id = _id_of(album)
    if found.real == os.path.realpath(album):
        return not (found.id and album_id) or found.id == album_id
    if _has_number(found, album):
        return True
    return bool(album_id) and found.id == album_id and not os.path.lexists(found.real)


def _id_of(album: Path) -> str:
    with suppress(OSError):
        path = album / IN_ALBUM / _ID
        if not path.is_symlink() and path.stat().st_size < 100:
            return path.read_text(encoding="ascii", errors="replace").strip()
    return ""


def _read(folder: Path) -> Identity | None:
    """Return what a state records about its album; None when missing or unreadable."""
    try:
        row = json.loads((folder / _IDENTITY).read_bytes())
        return Identity(
            str(row["real"]), int(row["device"]), int(row["inode"]), str(row["id"]), tuple(row["owners"])
        )
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _check_no_links(folder: Path, album: Path) -> None:
    """Refuse a state that contains links or devices."""
    if (album / IN_ALBUM).is_symlink() and lies_in(folder, album / IN_ALBUM):
        raise ConfigError(
            f"{str(album / IN_ALBUM)!r} is a link; autotag does not keep its state behind a link. Remove it."
        )
    names = [name + ending for name in _OURS for ending in ("", "-wal", "-shm", "-journal")]
    for path in (folder / name for name in names):
        if is_there(path) and not stat.S_ISREG(path.lstat().st_mode):
            raise ConfigError(f"{str(path)!r} is a link or a device, not a regular file; remove it.")


def _refusal(folder: Path, why: str) -> ConfigError:
    return ConfigError(
        f"the state {str(folder)!r} {why}. If this album was moved or copied, or if you trust whoever wrote "
        "the state, use it with --adopt; otherwise move it away, or name another folder with --state."
    )

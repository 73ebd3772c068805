"""What a person can decide, and the file that keeps it.

The file is JSON Lines, only ever appended: ``{"autotag_review": 1}`` first, then one line for each revision,
``{"decision": {...}}`` or ``{"undo": 7}``, which takes the decision of revision 7 back. A decision is on the
disk (fsync) before anybody is told that it was made. A line that a crash cut short is cut off when the file
is opened again.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, get_args

from autotag.config.checks import check_choice, check_row
from autotag.errors import ConfigError
from autotag.files.system_calls import SYSTEM, SystemCalls
from autotag.metadata.keywords import clean

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

State = Literal["undecided", "confirmed", "rejected"]
Action = Literal["confirm", "reject", "reset", "rename", "add"]
Order = Literal["album", "best", "worst"]

_FLAGS = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
_FORMAT = 1
_LONGEST_TAG = 200


@dataclass(frozen=True, slots=True)
class Where:
    """Select photographs, and tags of theirs. Everything that is given has to hold.

    Attributes:
        tag: the tag, as it is spelt now.
        state: of the tag.
        min_score: tags with at least this score.
        max_score: tags with a score below this.
        folder: photographs in it or in folders inside it, relative to the album; empty is the album itself.
        text: part of the file name, the caption or a tag, in any case.
    """

    tag: str | None = None
    state: State | None = None
    min_score: float | None = None
    max_score: float | None = None
    folder: str | None = None
    text: str | None = None

    @property
    def is_about_tags(self) -> bool:
        """Return whether a photograph needs a tag that fits."""
        return any(one is not None for one in (self.tag, self.state, self.min_score, self.max_score))

    def to_dict(self) -> dict[str, Any]:
        """Return what is given, as JSON types."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, slots=True)
class Decision:
    """Decide about tags of some photographs.

    Attributes:
        action: what is decided; ``"reset"`` makes tags undecided, ``"add"`` gives photographs a new,
            confirmed tag.
        tag: the tag that it is about; None stands for every tag that ``where`` selects, or every tag of the
            ``photos``.
        to: the new spelling, for ``"rename"``.
        photos: ids of photographs; None for all.
        where: narrows photographs and tags further.

    Raises:
        ConfigError: the parts do not go together.
    """

    action: Action
    tag: str | None = None
    to: str | None = None
    photos: tuple[str, ...] | None = None
    where: Where = field(default_factory=Where)

    def __post_init__(self) -> None:
        check_choice("action", self.action, get_args(Action))
        if (self.to is not None) != (self.action == "rename"):
            raise ConfigError("rename, and nothing else, needs the new spelling in 'to'.")
        if self.action in ("rename", "add") and self.tag is None:
            raise ConfigError(f"{self.action} needs a tag.")
        if self.tag is None and self.photos is None and not self.where.to_dict():
            raise ConfigError(f"{self.action} everything? Name a tag, photographs or a selection.")
        for word in (self.to, self.tag if self.action == "add" else None):
            if word is not None and (clean(word) != word or not 0 < len(word) <= _LONGEST_TAG):
                raise ConfigError(
                    f"{word[:_LONGEST_TAG]!r} cannot be a tag: it is empty, longer than {_LONGEST_TAG} "
                    "letters, or has spaces around it or characters that XML cannot hold."
                )

    def to_dict(self) -> dict[str, Any]:
        """Return JSON types, without what is not given."""
        row: dict[str, Any] = {"action": self.action, "tag": self.tag, "to": self.to}
        row |= {"photos": None if self.photos is None else list(self.photos), "where": self.where.to_dict()}
        return {name: value for name, value in row.items() if value not in (None, {})}

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Decision:
        """Return the inverse of ``to_dict``.

        Raises:
            ConfigError: a field is unknown, missing or of another type.
        """
        whole = {"tag": None, "to": None, "photos": None, "where": {}, **row}
        check_row("a decision", whole, action="text", tag="text?", to="text?", photos="texts?", where="row")
        given = dict.fromkeys((one.name for one in fields(Where)), None) | dict(whole["where"])
        kinds = dict.fromkeys(("tag", "state", "folder", "text"), "text?")
        check_row("a selection", given, **kinds, min_score="number?", max_score="number?")
        if given["state"] is not None:
            check_choice("state", given["state"], get_args(State))
        photos = None if whole["photos"] is None else tuple(whole["photos"])
        return cls(whole["action"], whole["tag"], whole["to"], photos, Where(**given))

    def describe(self) -> str:
        """Return the decision in words: ``rejected "dog" in 3 photographs``."""
        verbs = {"confirm": "confirmed", "reject": "rejected", "reset": "reset", "rename": "renamed"}
        what = f"\u201c{self.tag}\u201d" if self.tag is not None else "tags"
        new = f" to \u201c{self.to}\u201d" if self.to is not None else ""
        if self.photos is None:
            place = "everywhere" if self.where == Where() else "in the photographs shown"
        else:
            place = f"in {len(self.photos)} photograph{'' if len(self.photos) == 1 else 's'}"
        return f"{verbs.get(self.action, 'added')} {what}{new} {place}"


class DecisionFile:
    """Keep the decisions of a review. One process at a time may hold the file.

    Args:
        path: the file, made when it is not there.
        calls: the operating system.

    Attributes:
        rows: the lines that were there, oldest first, without the heading.

    Raises:
        ConfigError: another review holds it, or it is not such a file.
        OSError: it cannot be opened, read or, from ``append``, written.
    """

    def __init__(self, path: Path, *, calls: SystemCalls = SYSTEM) -> None:
        self.path, self._calls = path, calls
        is_new = not path.exists()
        self._descriptor = calls.open(path, _FLAGS, 0o600)
        if not calls.lock(self._descriptor):
            self.close()
            raise ConfigError(f"another review of this album is open; it holds {str(path)!r}.")
        try:
            self.rows = self._read()
            if is_new:
                calls.sync_folder(path.parent)
        except BaseException:
            self.close()
            raise

    def append(self, row: Mapping[str, Any]) -> None:
        """Add a line, and bring it to the disk."""
        content = memoryview(_line(row))
        try:
            os.lseek(self._descriptor, self._end, os.SEEK_SET)
            written = 0
            while written < len(content):
                written += self._calls.write(self._descriptor, content[written:])
            self._calls.fsync(self._descriptor)
        except OSError:
            os.ftruncate(self._descriptor, self._end)  # what was not kept whole was not decided
            raise
        self._end += len(content)

    def close(self) -> None:
        """Close the file, for another review to open; nothing happens the second time."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            self._calls.close(descriptor)

    def _read(self) -> list[dict[str, Any]]:
        """Return the lines, and cut off one without its end."""
        content = self._calls.read(self.path)
        self._end = content.rfind(b"\n") + 1
        os.ftruncate(self._descriptor, self._end)
        lines = content[: self._end].splitlines()
        if not lines:
            self.append({"autotag_review": _FORMAT})
            return []
        rows = [self._row(number, line) for number, line in enumerate(lines, 1)]
        if rows[0] != {"autotag_review": _FORMAT}:
            raise ConfigError(f"{str(self.path)!r} does not hold the decisions of a review; move it away.")
        return rows[1:]

    def _row(self, number: int, line: bytes) -> dict[str, Any]:
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ConfigError(f"{self.path}, line {number}: it is not JSON: {error}") from error
        if not isinstance(row, dict):
            raise ConfigError(f"{self.path}, line {number}: it is not a JSON object.")
        return row


def _line(row: Mapping[str, Any]) -> bytes:
    return json.dumps(row).encode() + b"\n"

"""Reading a plan that a person may have edited: every line is checked."""

from __future__ import annotations

import codecs
import json
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from autotag.albums.plan import FORMAT, PLANNED, Plan, PlannedOutput, PlannedPhoto, check_place
from autotag.albums.rules import AlbumRules
from autotag.albums.writers.rename_writer import safe_name
from autotag.config import options
from autotag.errors import ConfigError, suggestion
from autotag.records import Caption, Result, Tag
from autotag.records.sample import BY_PERSON
from autotag.relevance.learned_keywords import NEAR_CUT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_HEADER = ("autotag_plan", "album", "writers", "outputs", "settings", "wanted", "rules")
_LINE = (
    "file", "bytes", "mtime_ns", "digest", "pixels", "caption", "prompt", "tags", "rename_to", "write",
    "left_out", "was", "was_caption", "was_prompt",
)  # fmt: skip
_NAMES_OF_FILES = ("album", "file", "outputs", "rename_to")
_SURROGATE = re.compile(r"[\ud800-\udfff]|\\ud[89a-f]", re.IGNORECASE)  # as it is, or escaped
_OUTPUT = ("file", "options")
_MINE = "by_person"
_TAG = ("text", "score", "path", NEAR_CUT, _MINE)


def read_plan(path: str | os.PathLike[str]) -> Plan:
    """Read a plan and check every line.

    Raises:
        ConfigError: it cannot be read, or something in it is wrong; names line and field.
    """
    file = Path(path)
    rows = _rows(file)
    number, header = next(rows, (1, None))
    if not isinstance(header, dict) or header.get("autotag_plan") != FORMAT:
        raise ConfigError(
            f"{os.fspath(path)!r} is not a plan of this version of autotag (see its first line)."
        )
    check = _Checked(file, number, header, _HEADER)
    writers, outputs = check.table("writers"), _outputs(check)
    known = (*writers, *outputs)
    plan = Plan(
        path=file,
        album=Path(check.text("album")),
        writers=writers,
        outputs=outputs,
        settings=check.text("settings"),
        wanted=check.text("wanted"),
        photos=tuple(_photo(_Checked(file, number, row, _LINE), known) for number, row in rows),
        rules=_rules(check),
    )
    if not plan.album.is_absolute():
        check.refuse("album", f"{str(plan.album)!r} is not an absolute path.")
    for output in plan.outputs.values():
        check_place(output.file, plan.album, plan.path, f"{path}, line {number}, field 'outputs'")
    _check_once(plan)
    return plan


def _rows(path: Path) -> Iterator[tuple[int, Any]]:
    try:
        lines = path.read_bytes().removeprefix(codecs.BOM_UTF8).split(b"\n")
    except OSError as error:
        raise ConfigError(f"cannot read the plan {str(path)!r}: {error.strerror}.") from error
    for number, line in enumerate(lines, 1):
        if line.strip():
            text = line.decode("utf-8", "surrogateescape")
            try:
                row = json.loads(text)
            except ValueError as error:
                raise ConfigError(f"{path}, line {number}: it is not JSON: {error}") from error
            if _SURROGATE.search(text) and isinstance(row, dict):
                _check_utf8(row, f"{path}, line {number}")
            yield number, row


def _check_utf8(row: dict[str, Any], where: str) -> None:
    """Refuse texts that are not UTF-8, except in names of files.

    Raises:
        ConfigError: names the field; begins with ``where``.
    """
    for name, value in row.items():
        try:
            json.dumps("" if name in _NAMES_OF_FILES else value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise ConfigError(f"{where}, field {name!r}: it is not UTF-8; save the plan as UTF-8.") from error


@dataclass(frozen=True, slots=True)
class _Checked:
    """Check the fields of one line as they are read."""

    path: Path
    number: int
    row: Any
    known: tuple[str, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.row, dict):
            raise ConfigError(f"{self.path}, line {self.number}: it is not a JSON object.")
        for name in self.row:
            if name not in self.known:
                self.refuse(name, f"the field is unknown. {suggestion(name, self.known)}")

    def refuse(self, name: str, why: str) -> None:
        raise ConfigError(f"{self.path}, line {self.number}, field {name!r}: {why}")

    def of_kind(self, name: str, kind: type | tuple[type, ...], words: str) -> Any:
        """Return a field's value, or refuse a wrong type; ``words`` describe the right one."""
        if name not in self.row:
            self.refuse(name, "it is missing.")
        value = self.row[name]
        if not isinstance(value, kind) or isinstance(value, bool):
            self.refuse(name, f"{value!r} is not {words}.")
        return value

    def text(self, name: str) -> str:
        return str(self.of_kind(name, str, "text"))

    def whole(self, name: str) -> int:
        return int(self.of_kind(name, int, "a whole number"))

    def items(self, name: str) -> list[Any]:
        return list(self.of_kind(name, list, "a list"))

    def table(self, name: str) -> dict[str, Any]:
        return dict(self.of_kind(name, dict, "a table"))


def _outputs(check: _Checked) -> dict[str, PlannedOutput]:
    found = {}
    for name, row in check.table("outputs").items():
        inner = _Checked(check.path, check.number, row, _OUTPUT)
        found[name] = PlannedOutput(Path(inner.text("file")), inner.table("options"))
    return found


def _rules(check: _Checked) -> AlbumRules:
    """Return the rules; none for a plan of an older version, which does not have them."""
    if "rules" not in check.row:
        return AlbumRules()
    where = f"{check.path}, line {check.number}, field 'rules'"
    return AlbumRules(**options.checked(AlbumRules, check.table("rules"), where=where))


def _photo(check: _Checked, writers: Sequence[str]) -> PlannedPhoto:
    file = check.text("file")
    if file.startswith("/") or ".." in file.split("/"):
        check.refuse("file", f"{file!r} leads out of the album.")
    size = check.items("pixels")
    if len(size) != 2 or not all(isinstance(side, int) for side in size):
        check.refuse("pixels", f"{size!r} is not width and height.")
    write = check.items("write")
    for name in write:
        if name not in writers:
            check.refuse("write", f"{name!r} is not a writer of this plan. {suggestion(str(name), writers)}")
    caption, was, found = check.text("caption"), _was(check), _found(check, file, (size[0], size[1]))
    tags, doubtful = _tags(check, was)
    source = PLANNED if found is None or caption == found.caption else BY_PERSON
    return PlannedPhoto(
        number=check.number,
        file=file,
        size=check.whole("bytes"),
        mtime_ns=check.whole("mtime_ns"),
        digest=check.text("digest"),
        result=Result(
            file,
            (size[0], size[1]),
            captions=(Caption(caption, source),) if caption else (),
            tags=tags,
            prompt=check.text("prompt"),
            extras={NEAR_CUT: doubtful} if doubtful else {},
        ),
        rename_to=_new_name(check, file),
        write=tuple(write),
        was=was,
        found=found,
    )


def _found(check: _Checked, file: str, size: tuple[int, int]) -> Result | None:
    """Return caption and prompt as the plan was made; None in a plan that does not say."""
    if "was_caption" not in check.row:
        return None
    caption = check.text("was_caption")
    captions = (Caption(caption, PLANNED),) if caption else ()
    return Result(file, size, captions=captions, prompt=check.text("was_prompt"))


def _was(check: _Checked) -> tuple[str, ...] | None:
    if "was" not in check.row:
        return None
    texts = check.items("was")
    if not all(isinstance(text, str) for text in texts):
        check.refuse("was", f"{texts!r} is not a list of texts.")
    return tuple(texts)


def _tags(check: _Checked, was: tuple[str, ...] | None) -> tuple[tuple[Tag, ...], list[str]]:
    """Return the tags, each given as a text or a table, and the texts of those near the cut."""
    tags: list[Tag] = []
    doubtful: list[str] = []
    for position, item in enumerate(check.items("tags"), 1):
        row = {"text": item} if isinstance(item, str) else item
        inner = _Checked(check.path, check.number, row, _TAG) if isinstance(row, dict) else None
        if inner is None or not isinstance(row.get("text"), str) or not row["text"].strip():
            check.refuse(
                "tags", f"entry {position}, {item!r}, must be a text, or a table with a field 'text'."
            )
            continue
        score = inner.of_kind("score", (int, float), "a number") if "score" in row else 1.0
        is_mine = was is not None and row["text"] not in was
        tag = Tag.proposed(row["text"], float(score), BY_PERSON if is_mine or row.get(_MINE) else PLANNED)
        if "path" in row:
            tag = replace(tag, path=tuple(inner.text("path").split("|")))
            if tag.path[-1] != tag.text:
                check.refuse(
                    "tags", f"entry {position}: the path {row['path']!r} does not end in {tag.text!r}."
                )
        for flag in (NEAR_CUT, _MINE):
            if not isinstance(row.get(flag, False), bool):
                check.refuse("tags", f"entry {position}: {flag!r} is neither true nor false.")
        if row.get(NEAR_CUT):
            doubtful.append(tag.text)
        tags.append(tag)
    return tuple(tags), doubtful


def _new_name(check: _Checked, file: str) -> str | None:
    if check.row.get("rename_to") is None:
        return None
    name, old = PurePosixPath(check.text("rename_to")), PurePosixPath(file)
    if name.suffix.lower() != old.suffix.lower():
        check.refuse("rename_to", f"{str(name)!r} does not have the extension {old.suffix!r}.")
    if safe_name(name.stem) != name.stem or str(name) != name.name:
        check.refuse(
            "rename_to", f"{str(name)!r} is not valid on every file system; {safe_name(name.stem)!r} is."
        )
    return name.name


def _check_once(plan: Plan) -> None:
    """Refuse a photograph that is listed twice, and two photographs with one new name."""
    files: dict[str, int] = {}
    names: dict[str, int] = {}
    for photo in plan.photos:
        here = files.setdefault(photo.file, photo.number)
        if here != photo.number:
            raise ConfigError(
                f"{plan.path}, line {photo.number}, field 'file': line {here} names {photo.file!r} too; "
                "remove one of the lines."
            )
        if photo.rename_to is not None:
            new = str(PurePosixPath(photo.file).with_name(photo.rename_to)).casefold()
            here = names.setdefault(new, photo.number)
            if here != photo.number:
                raise ConfigError(
                    f"{plan.path}, line {photo.number}, field 'rename_to': line {here} uses this name too; "
                    "choose another."
                )

"""A plan of the changes to an album, as a file that a person can read, edit and apply.

JSON Lines. The first line says what album it is and what would write; each line after it is a photograph::

    {"autotag_plan": 1, "album": "/photos", "writers": {"xmp": {"embed": true}},
     "outputs": {"csv": {"file": "/photos/tags.csv", "options": {}}}, "settings": "", "wanted": ""}
    {"file": "beach.jpg", "bytes": 81234, "mtime_ns": 17, "digest": "5f", "pixels": [640, 480],
     "caption": "a beach", "prompt": "", "tags": [{"text": "beach", "score": 0.31}, "my own tag"],
     "was": ["beach", "sea"], "rename_to": null, "write": ["xmp", "csv"]}

A tag that ``suggest_keywords`` only just suggests has ``"near_cut": true`` for people to see. Tags, caption,
prompt, new name and the list of writers may be changed, and whole lines deleted. A file of results gets a row
for each line that names its writer. ``was`` lists the tags as the plan was made, so that ``autotag learn
--corrections`` sees what a person changed. The line of a flagged photograph also has ``left_out``, the
writers that the rules keep from it.
"""

from __future__ import annotations

import codecs
import json
import os
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from autotag.albums.state.changes import RenameChange
from autotag.albums.writers.rename_writer import safe_name
from autotag.errors import ConfigError, FileChangedError, suggestion
from autotag.files.replacing import PartFile, lies_in, numbered
from autotag.files.system_calls import is_there
from autotag.records import Caption, Result, Tag
from autotag.relevance.learned_keywords import NEAR_CUT

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from autotag.albums.album_writers import Writers
    from autotag.albums.sources import Album, Photo
    from autotag.albums.state.ledger import Entry
    from autotag.protocols import FileChange

FORMAT = 1
BY_PERSON = "plan"
"""The source of tags and captions that a person wrote into a plan."""

_HEADER = ("autotag_plan", "album", "writers", "outputs", "settings", "wanted")
_LINE = (
    "file", "bytes", "mtime_ns", "digest", "pixels", "caption", "prompt", "tags", "rename_to", "write",
    "left_out", "was",
)  # fmt: skip
_OUTPUT = ("file", "options")
_TAG = ("text", "score", "path", NEAR_CUT)


@dataclass(frozen=True, slots=True)
class PlannedPhoto:
    """A photograph's line of a plan.

    Attributes:
        number: of the line, from 1.
        file: the photograph, relative to the album.
        size: of the file in bytes when the plan was made.
        mtime_ns: its time of change then.
        digest: of the file without its metadata, then.
        result: what is to be written.
        rename_to: its new name, or None.
        write: the writers that write for it.
        was: the texts of its tags when the plan was made; None where the plan does not say.
    """

    number: int
    file: str
    size: int
    mtime_ns: int
    digest: str
    result: Result
    rename_to: str | None
    write: tuple[str, ...]
    was: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class PlannedOutput:
    """A result file in a plan.

    Attributes:
        file: where it goes.
        options: its writer's.
    """

    file: Path
    options: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Plan:
    """A plan that was read and checked.

    Attributes:
        path: the file.
        album: the album's folder.
        writers: name -> options of each writer that writes beside photographs.
        outputs: name -> file and options, of files of results.
        settings: fingerprint of the pipeline.
        wanted: fingerprint of writers and rules.
        photos: the lines.
    """

    path: Path
    album: Path
    writers: Mapping[str, Mapping[str, Any]]
    outputs: Mapping[str, PlannedOutput]
    settings: str
    wanted: str
    photos: tuple[PlannedPhoto, ...]


class PlanWriter:
    """Write a plan, as a context manager. The file appears complete, or not at all.

    Attributes:
        path: the file; under another name if somebody made one of this name meanwhile.

    Raises:
        ConfigError: the file is there already, or cannot be written, or a file of results is to lie where a
            plan may not write.
    """

    def __init__(self, path: Path, album: Album, writers: Writers) -> None:
        if album.is_archive:
            raise ConfigError("an archive cannot have a plan, because autotag does not write into archives.")
        try:
            if is_there(path):
                raise ConfigError(
                    f"the plan {str(path)!r} exists already and may have been edited; "
                    "name another file or delete it."
                )
            for output in writers.outputs:
                _check_place(output.path, album.root, path, str(path))
            self._part = PartFile(path.resolve())
        except OSError as error:
            raise ConfigError(f"cannot write {str(path)!r}: {error.strerror}.") from error
        self._album, self._writers, self.path = album, writers, path
        self._stream = self._part.stream(binary=False, errors="surrogateescape")

    def begin(self, settings: str, wanted: str) -> None:
        """Write the first line.

        Args:
            settings: fingerprint of the pipeline.
            wanted: fingerprint of writers and rules.
        """
        album = str(self._album.root.resolve())
        outputs = {
            output.name: {"file": os.path.abspath(output.path), "options": dict(output.options)}  # noqa: PTH100
            for output in self._writers.outputs
        }
        self._put(
            {
                "autotag_plan": FORMAT,
                "album": album,
                "writers": self._writers.described(),
                "outputs": outputs,
                "settings": settings,
                "wanted": wanted,
            }
        )

    def write(
        self,
        photo: Photo,
        entry: Entry,
        result: Result,
        changes: Mapping[str, Sequence[FileChange]],
        outputs: Sequence[str],
        *,
        left_out: Collection[str] = (),
    ) -> None:
        """Write the line of one photograph, with what each writer would do.

        Args:
            photo: the photograph.
            entry: its file, with the digest.
            result: what is to be written.
            changes: what the writers beside photographs would do, by name.
            outputs: names of the files of results that it is to be in.
            left_out: names of writers that the rules keep from it.
        """
        doubtful = result.extras.get(NEAR_CUT, ())
        tags = [
            {"text": tag.text, "score": round(tag.score, 4)}
            | ({"path": "|".join(tag.path)} if tag.path else {})
            | ({NEAR_CUT: True} if tag.text in doubtful else {})
            for tag in result.tags
        ]
        renames = (one for several in changes.values() for one in several if isinstance(one, RenameChange))
        new = next((change.moves[0][1].name for change in renames), None)
        writers = [name for name, several in changes.items() if several]
        writers += outputs
        row = plan_row(photo.name, entry, result, tags=tags, rename_to=new, writers=writers)
        row["was"] = [tag.text for tag in result.tags]
        self._put({**row, "left_out": sorted(left_out)} if left_out else row)

    def __enter__(self) -> PlanWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._part:
            self._stream.close()
            self._part.sync()
            if kind is None:
                self._place()

    def _place(self) -> None:
        """Move the plan to its place, or beside a file that somebody made there."""
        for path in chain([self.path], numbered(self.path)):
            with suppress(FileChangedError):
                self._part.place(None, path)
                self.path = path
                return

    def _put(self, row: dict[str, Any]) -> None:
        self._stream.write(json.dumps(row, ensure_ascii=False) + "\n")


def plan_row(
    file: str,
    entry: Entry,
    result: Result,
    *,
    tags: list[dict[str, Any]],
    rename_to: str | None,
    writers: list[str],
) -> dict[str, Any]:
    """Return the line of one photograph in a plan.

    Args:
        file: its path in the album.
        entry: its file, with the digest.
        result: its caption, prompt and size.
        tags: what its tags say in the plan: text, score and path.
        rename_to: its new name; None if it keeps its name.
        writers: names of the writers that write something.
    """
    return {
        "file": file,
        "bytes": entry.size,
        "mtime_ns": entry.mtime_ns,
        "digest": entry.pixels,
        "pixels": list(result.size),
        "caption": result.caption,
        "prompt": result.prompt,
        "tags": tags,
        "rename_to": rename_to,
        "write": writers,
    }


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
    )
    if not plan.album.is_absolute():
        check.refuse("album", f"{str(plan.album)!r} is not an absolute path.")
    for output in plan.outputs.values():
        _check_place(output.file, plan.album, plan.path, f"{path}, line {number}, field 'outputs'")
    _check_once(plan)
    return plan


def _check_place(file: Path, album: Path, plan: Path, where: str) -> None:
    """Refuse a file of results that is neither in the album nor beside the plan: anybody may write a plan."""
    if not lies_in(file, album) and not lies_in(file, plan.absolute().parent):
        raise ConfigError(
            f"{where}: the file of results {str(file)!r} is neither in the album nor beside the plan; "
            "choose another place for it, or write it with a run of its own."
        )


def _rows(path: Path) -> Iterator[tuple[int, Any]]:
    try:
        lines = path.read_bytes().removeprefix(codecs.BOM_UTF8).split(b"\n")
    except OSError as error:
        raise ConfigError(f"cannot read the plan {str(path)!r}: {error.strerror}.") from error
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                yield number, json.loads(line.decode("utf-8", "surrogateescape"))
            except ValueError as error:
                raise ConfigError(f"{path}, line {number}: it is not JSON: {error}") from error


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
    caption = check.text("caption")
    tags, doubtful = _tags(check)
    return PlannedPhoto(
        number=check.number,
        file=file,
        size=check.whole("bytes"),
        mtime_ns=check.whole("mtime_ns"),
        digest=check.text("digest"),
        result=Result(
            file,
            (size[0], size[1]),
            captions=(Caption(caption, BY_PERSON),) if caption else (),
            tags=tags,
            prompt=check.text("prompt"),
            extras={NEAR_CUT: doubtful} if doubtful else {},
        ),
        rename_to=_new_name(check, file),
        write=tuple(write),
        was=_was(check),
    )


def _was(check: _Checked) -> tuple[str, ...] | None:
    if "was" not in check.row:
        return None
    texts = check.items("was")
    if not all(isinstance(text, str) for text in texts):
        check.refuse("was", f"{texts!r} is not a list of texts.")
    return tuple(texts)


def _tags(check: _Checked) -> tuple[tuple[Tag, ...], list[str]]:
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
        tag = Tag.proposed(row["text"], float(score), BY_PERSON)
        if "path" in row:
            tag = replace(tag, path=tuple(inner.text("path").split("|")))
            if tag.path[-1] != tag.text:
                check.refuse(
                    "tags", f"entry {position}: the path {row['path']!r} does not end in {tag.text!r}."
                )
        if not isinstance(row.get(NEAR_CUT, False), bool):
            check.refuse("tags", f"entry {position}: {NEAR_CUT!r} is neither true nor false.")
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


def merged(planned: Result, known: Result | None) -> Result:
    """Merge a plan's line with the models' result; unchanged tags keep their scores."""
    if known is None:
        return planned
    tags = {tag.text: tag for tag in known.tags}
    captions = known.captions if planned.caption == known.caption else planned.captions
    return replace(
        known,
        captions=captions,
        prompt=planned.prompt,
        tags=tuple(replace(tags.get(tag.text, tag), path=tag.path) for tag in planned.tags),
    )

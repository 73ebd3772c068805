"""Writing a plan, line by line; the file appears complete, or not at all."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from itertools import chain
from typing import TYPE_CHECKING, Any

from autotag.albums.plan import FORMAT, check_place
from autotag.albums.state.renaming import RenameChange
from autotag.albums.writers.xmp_writer import XmpWriter
from autotag.errors import ConfigError, FileChangedError
from autotag.files.hidden_files import numbered
from autotag.files.replacing import PartFile
from autotag.files.system_calls import is_there
from autotag.records.sample import BY_PERSON
from autotag.relevance.learned_keywords import NEAR_CUT

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from autotag.albums.album_writers import Writers
    from autotag.albums.sources import Album, Photo
    from autotag.albums.state.ledger import Entry
    from autotag.protocols import FileChange
    from autotag.records import Result


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
                check_place(output.path, album.root, path, str(path))
            self._part = PartFile(path.resolve())
        except OSError as error:
            raise ConfigError(f"cannot write {str(path)!r}: {error.strerror}.") from error
        self._album, self._writers, self.path = album, writers, path
        self._stream = self._part.stream(binary=False, errors="surrogateescape")

    def begin(self, settings: str, wanted: str, rules: Mapping[str, Any]) -> None:
        """Write the first line.

        Args:
            settings: fingerprint of the pipeline.
            wanted: fingerprint of writers and rules.
            rules: as plain data.
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
                "rules": dict(rules),
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
            | ({"by_person": True} if tag.source == BY_PERSON else {})
            for tag in result.tags
        ]
        renames = (one for several in changes.values() for one in several if isinstance(one, RenameChange))
        new = next((change.moves[0][1].name for change in renames), None)
        beside = self._writers.beside
        writers = [
            name
            for name, several in changes.items()
            if several or (isinstance(beside[name], XmpWriter) and name not in left_out)
        ]
        writers += outputs
        row = plan_row(photo.name, entry, result, tags=tags, rename_to=new, writers=writers)
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
        "was": [tag["text"] for tag in tags],
        "was_caption": result.caption,
        "was_prompt": result.prompt,
        "rename_to": rename_to,
        "write": writers,
    }

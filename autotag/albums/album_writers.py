"""The writers of a run: writers beside each photograph, and result files for the whole album."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, is_dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from autotag.albums.state.ledger import fingerprint
from autotag.albums.writers.rename_writer import RenameWriter
from autotag.albums.writers.xmp_writer import XmpWriter
from autotag.config import options, registry
from autotag.config.checks import check_list, shown
from autotag.errors import ConfigError, UnknownNameError
from autotag.metadata import sidecar_stamp
from autotag.protocols import HasClose, is_binary

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from autotag.albums.sources import Album
    from autotag.protocols import AlbumWriter, Writer

_FILE_NAMES = {"jsonl": "metadata.jsonl", "table": "tags.txt"}
_OPTIONS: dict[str, dict[str, Any]] = {"jsonl": {"text": "caption"}}  # so that it is a metadata.jsonl


@dataclass(frozen=True)
class WriterChoice:
    """Choose a writer by name.

    Attributes:
        name: registered under ``autotag.album_writers`` or ``autotag.writers``.
        file: path of a result file; by default in the album. Writers beside photographs have none.
        options: of the writer.
    """

    name: str
    file: Path | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Output:
    """A file of results.

    Attributes:
        name: of its writer.
        path: where it goes.
        make: makes the writer, given the stream.
        binary: whether the stream takes bytes.
        options: the writer's own, as plain data.
    """

    name: str
    path: Path
    make: Callable[[Any], Writer]
    binary: bool
    options: Mapping[str, Any]


@dataclass(frozen=True)
class Writers:
    """Keep the writers of a run.

    Attributes:
        beside: name -> writer, in the order of writing; ``rename`` is last: it moves the others' files.
        outputs: files of results.
    """

    beside: Mapping[str, AlbumWriter]
    outputs: tuple[Output, ...]

    @property
    def xmp(self) -> list[XmpWriter]:
        """The writers of XMP, which read a photograph's metadata and sidecars."""
        return [writer for writer in self.beside.values() if isinstance(writer, XmpWriter)]

    def sidecar_stamp(self, photo: Path) -> str:
        """Return a text that changes when a photograph's sidecars do; empty where no writer reads them."""
        return sidecar_stamp(photo) if self.xmp else ""

    def fingerprint(self, rules: Mapping[str, Any]) -> str:
        """Return a fingerprint that changes when the writers would write something else beside a photograph.

        Args:
            rules: the album's rules as plain data.
        """
        return fingerprint(self.described(), rules) if self.beside else "nothing beside"

    def described(self) -> dict[str, Any]:
        """Return the options of each writer beside the photographs, as plain data."""
        return {
            name: options.written(writer, where=name) if is_dataclass(writer) else repr(type(writer))
            for name, writer in self.beside.items()
        }

    def close(self) -> None:
        """Close the writers, and end the processes that they started."""
        for writer in self.beside.values():
            if isinstance(writer, HasClose):
                writer.close()


def make_writers(
    choices: Sequence[str | WriterChoice | AlbumWriter], album: Album, *, model: str = ""
) -> Writers:
    """Make the writers that a user chose.

    Args:
        choices: names, names with options, or writers that write beside photographs.
        album: where they write.
        model: recorded as the source of the tags, by writers with a ``model`` option.

    Raises:
        UnknownNameError: no such writer or option.
        ConfigError: no writer is chosen, one is chosen twice, or one cannot write there.
    """
    check_list("writers", choices)
    if not isinstance(choices, Iterable):
        raise ConfigError(f"writers is {shown(choices)}; write a list: [{shown(choices)}].")
    beside: dict[str, AlbumWriter] = {}
    outputs: list[Output] = []
    for choice in choices:
        if isinstance(choice, (str, WriterChoice)):
            named = WriterChoice(choice) if isinstance(choice, str) else choice
            made = _made(named, album, model)
        else:
            named, made = WriterChoice(type(choice).__name__), choice
        if named.name in beside or any(named.name == output.name for output in outputs):
            raise ConfigError(f"the writer {named.name!r} is chosen twice; remove one.")
        if isinstance(made, Output):
            outputs.append(made)
        else:
            beside[named.name] = made
    _check(beside, outputs, album)
    for writer in beside.values():
        if isinstance(writer, RenameWriter):
            writer.linked = album.linked()
        if isinstance(writer, XmpWriter):
            writer.root = album.root
    return Writers(
        dict(sorted(beside.items(), key=lambda item: isinstance(item[1], RenameWriter))), tuple(outputs)
    )


def _check(beside: Mapping[str, AlbumWriter], outputs: Sequence[Output], album: Album) -> None:
    if not beside and not outputs:
        raise ConfigError("choose at least one writer, such as xmp or jsonl.")
    if beside and album.is_archive:
        raise ConfigError(
            f"{', '.join(beside)} cannot write into an archive; unpack it, or choose jsonl, csv or parquet."
        )
    paths = [output.path.resolve() for output in outputs]
    if len(set(paths)) < len(paths):
        raise ConfigError("two writers would write to the same file.")


def _made(choice: WriterChoice, album: Album, model: str) -> AlbumWriter | Output:
    name = choice.name
    if name in registry.names("album_writer"):
        if choice.file is not None:
            raise ConfigError(f"the writer {name!r} writes beside each photograph and takes no file.")
        kind = registry.resolve("album_writer", name)
        given = options.checked(kind, choice.options, where=name)
        if model and "model" in options.option_fields(kind):
            given = {"model": model, **given}
        writer: AlbumWriter = kind(**given)
        return writer
    if name not in registry.names("writer"):
        raise UnknownNameError("writer", name, {*registry.names("album_writer"), *registry.names("writer")})
    return _output(choice, album)


def _output(choice: WriterChoice, album: Album) -> Output:
    kind = registry.resolve("writer", choice.name)
    if choice.options and not is_dataclass(kind):
        raise ConfigError(f"the writer {choice.name!r} has no options.")
    plain = {**_OPTIONS.get(choice.name, {}), **choice.options}
    given = options.checked(kind, plain, where=choice.name) if plain else {}
    default = "desc.csv" if plain.get("layout") == "image_prompt" else f"tags.{choice.name}"
    path = choice.file or album.root / _FILE_NAMES.get(choice.name, default)
    if not path.parent.is_dir():
        raise ConfigError(f"{choice.name}: there is no folder {str(path.parent)!r}.")
    return Output(choice.name, path, partial(kind, **given), is_binary(kind), plain)

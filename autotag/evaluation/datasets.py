"""Reads images with human captions, prompts or tags, in the common data set layouts.

=========================  =====================================================================
a folder                   with ``metadata.jsonl``, ``prompts.csv`` or ``captions.txt``, else images
                           each with a ``.txt`` of the same stem, one caption per line
``.csv``                   a column for the image (``imgId``, ``image``, ``file_name``), one for the text
                           (``prompt``, ``caption``, ``text``) or for ``tags``; one line per text
``.jsonl``                 one object per line: ``file_name`` and ``caption``, ``captions``, ``prompt``,
                           ``text`` or ``tags``
``.json``                  COCO: ``images`` and ``annotations`` with captions or categories
``.txt``                   Flickr8k: ``photo.jpg#0<tab>caption``, or lines like those of a CSV
``.parquet``               columns ``image`` (encoded bytes) and ``captions`` or any of the above
=========================  =====================================================================
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from autotag.errors import ConfigError, install_hint
from autotag.images.reading import IMAGE_SUFFIXES, find_images

if TYPE_CHECKING:
    from os import PathLike

_IMAGE_COLUMNS = ("file_name", "filename", "imgid", "image_id", "image", "img", "id")
_TEXT_COLUMNS = ("captions", "caption", "prompt", "text")
_TAG_COLUMNS = ("tags", "labels", "names")
_TABLES = ("metadata.jsonl", "prompts.csv", "captions.txt")
_IMAGE_FOLDERS = ("", "images", "Images", "Flicker8k_Dataset", "train2014", "val2014", "train2017", "val2017")
_FLICKR_LINE = re.compile(r"(?P<image>[^\t]+?)#\d+\t(?P<caption>.*)")
_BETWEEN_TAGS = re.compile(r"[;|,]")
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Example:
    """One image and its ground truth.

    Attributes:
        id: file name of the image, or its id in the data set.
        image: path of the file, or the encoded bytes.
        texts: the captions or the prompt, never empty strings; () in a data set of tags.
        tags: the labels, without duplicates; () in a data set of captions.
    """

    id: str
    image: Path | bytes
    texts: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EvaluationSet:
    """The images to evaluate models on: all with texts, or all with tags, or all with both.

    Attributes:
        name: the file or folder that it was read from.
        examples: at least one, in the order of the file.
        without_truth: number of images left out because they have neither text nor tag.
        without_image: number of entries left out because their image is missing; 0 unless ``skip_missing``.
    """

    name: str
    examples: tuple[Example, ...]
    without_truth: int = 0
    without_image: int = 0

    @property
    def has_texts(self) -> bool:
        """True if every image has a caption or prompt."""
        return all(example.texts for example in self.examples)

    @property
    def labels(self) -> tuple[str, ...]:
        """All tags in lower case, sorted; () unless every image has a tag."""
        if not all(example.tags for example in self.examples):
            return ()
        return tuple(sorted({tag.casefold() for example in self.examples for tag in example.tags}))


@dataclass(frozen=True, slots=True)
class _Entry:
    id: str
    texts: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    image: bytes | None = None


def read_dataset(
    place: str | PathLike[str],
    *,
    images: str | PathLike[str] | None = None,
    skip_missing: bool = False,
    limit: int | None = None,
    seed: int = 0,
) -> EvaluationSet:
    """Read a file or folder in one of the layouts above.

    Captions are stripped of outer spaces, and empty ones are dropped. An image with neither text nor tag is
    left out and counted.

    Args:
        place: the file or folder.
        images: folder of the images; by default the folder of the file, or ``images`` in it.
        skip_missing: leave out and count entries whose image is missing, instead of raising.
        limit: number of images, drawn at random; None for all.
        seed: for the draw.

    Raises:
        ConfigError: it cannot be read, has no captions, prompts or tags, or names missing images or unknown
            ids. The message names the first few.
    """
    place, images = Path(place), None if images is None else Path(images)
    entries = _merged(_entries(place))
    told = [entry for entry in entries if entry.texts or entry.tags]
    if not told:
        raise ConfigError(f"{str(place)!r} holds no image with a caption, prompt or tags.")
    folder = images or (place if place.is_dir() else place.parent)
    found = {entry.id: _image(entry, folder) for entry in told}
    missing = [entry.id for entry in told if found[entry.id] is None]
    if missing and (not skip_missing or len(missing) == len(told)):
        raise ConfigError(
            f"{len(missing)} of {len(told)} images of {str(place)!r} are missing in {str(folder)!r}: "
            f"{_first(missing)}. Name their folder (--images), or leave them out (--skip-missing)."
        )
    examples = [
        Example(entry.id, image, entry.texts, entry.tags)
        for entry in told
        if (image := found[entry.id]) is not None
    ]
    kept = _of_one_kind(_drawn(examples, limit, seed), place)
    return EvaluationSet(str(place), tuple(kept), len(entries) - len(told), len(missing))


def _of_one_kind(examples: list[Example], place: Path) -> list[Example]:
    """Return the examples with texts on all, or tags on all; tags only if some have no text."""
    if all(example.texts for example in examples):
        tagged = all(example.tags for example in examples)
        return examples if tagged else [replace(example, tags=()) for example in examples]
    if all(example.tags for example in examples):
        return [replace(example, texts=()) for example in examples]
    raise ConfigError(
        f"some images of {str(place)!r} have only captions and others only tags; split them into two files."
    )


def _entries(place: Path) -> list[_Entry]:
    readers = {
        ".csv": _csv_entries,
        ".json": _coco_entries,
        ".jsonl": _jsonl_entries,
        ".parquet": _parquet_entries,
        ".txt": _flickr_entries,
    }
    if place.is_dir():
        table = next((place / name for name in _TABLES if (place / name).is_file()), None)
        return _entries(table) if table else list(_entries_beside(place))
    if not place.exists():
        raise ConfigError(f"there is no data set {str(place)!r}.")
    if place.suffix.lower() not in readers:
        known = ", ".join(readers)
        raise ConfigError(f"{str(place)!r} is not a known data set: give a folder, or a file of {known}.")
    return list(readers[place.suffix.lower()](place))


def _text_of(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError(f"cannot read {str(file)!r}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{str(file)!r} is not UTF-8: {error}.") from error


def _csv_entries(file: Path) -> Iterator[_Entry]:
    yield from _table_entries(_text_of(file), file)


def _table_entries(text: str, file: Path) -> Iterator[_Entry]:
    table = csv.DictReader(io.StringIO(text, newline=""))
    columns = list(table.fieldnames or ())
    if _named(columns, _IMAGE_COLUMNS) is None:
        raise ConfigError(f"{str(file)!r} has no column imgId, image or file_name; it has {columns}.")
    if _named(columns, (*_TEXT_COLUMNS, *_TAG_COLUMNS)) is None:
        raise ConfigError(f"{str(file)!r} has no column prompt, caption, text or tags; it has {columns}.")
    try:
        for row in table:
            yield _entry(_with_commas(row, columns), f"{file}, line {table.line_num}")
    except csv.Error as error:
        raise ConfigError(f"{file}, line {table.line_num}: {error}.") from error


def _with_commas(row: dict[str | None, Any], columns: Sequence[str]) -> dict[str | None, Any]:
    """Rejoin the last cell of a row if it contains unquoted commas."""
    rest = row.pop(None, None)  # not the column of numbers, without a name, that pandas writes first
    if rest:
        row[columns[-1]] = ",".join([row[columns[-1]], *rest])
    return row


def _jsonl_entries(file: Path) -> Iterator[_Entry]:
    for number, line in enumerate(_text_of(file).split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ConfigError(f"{file}, line {number}: not valid JSON: {error}.") from error
        yield _entry(row, f"{file}, line {number}")


def _parquet_entries(file: Path) -> Iterator[_Entry]:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise ConfigError(f"reading Parquet files needs pyarrow: {install_hint('parquet')}") from error
    try:
        rows = pyarrow.parquet.read_table(file).to_pylist()
    except (OSError, pyarrow.ArrowException) as error:
        raise ConfigError(f"cannot read {str(file)!r}: {error}.") from error
    for number, row in enumerate(rows):
        image = row.pop("image", None)
        if isinstance(image, dict):
            row.setdefault("file_name", image.get("path"))
            image = image.get("bytes")
        if isinstance(image, str):
            row.setdefault("file_name", image)
            image = None
        if _named(row, _IMAGE_COLUMNS) is None:
            row["file_name"] = f"row {number}"
        yield replace(_entry(row, f"{file}, row {number}"), image=image)


def _flickr_entries(file: Path) -> Iterator[_Entry]:
    text = _text_of(file)
    lines = [line for line in text.split("\n") if line.strip()]
    if not lines or not _FLICKR_LINE.match(lines[0]):
        yield from _table_entries(text, file)
        return
    for number, line in enumerate(lines, 1):
        match = _FLICKR_LINE.match(line)
        if match is None:
            raise ConfigError(f"{file}, line {number}: not of the form photo.jpg#0<tab>caption.")
        yield _Entry(match["image"], _texts(match["caption"]))


def _coco_entries(file: Path) -> Iterator[_Entry]:
    try:
        coco = json.loads(_text_of(file))
        names = {image["id"]: image["file_name"] for image in coco["images"]}
        categories = {kind["id"]: kind["name"] for kind in coco.get("categories", ())}
        notes = [(note["image_id"], note) for note in coco["annotations"]]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ConfigError(f"{str(file)!r} is not a COCO file (images, annotations): {error!r}.") from error
    strangers = [image for image, _ in notes if image not in names]
    if strangers:
        raise ConfigError(
            f"{len(strangers)} annotations of {str(file)!r} are for images that it does not list: "
            f"{_first(dict.fromkeys(strangers))}."
        )
    yield from (_Entry(name) for name in names.values())
    for image, note in notes:
        label = categories.get(note.get("category_id"))
        yield _Entry(names[image], _texts(note.get("caption")), (label,) if label else ())


def _entries_beside(folder: Path) -> Iterator[_Entry]:
    for file in find_images(folder):
        beside = file.with_suffix(".txt")
        lines = _text_of(beside).splitlines() if beside.is_file() else []
        yield _Entry(str(file.relative_to(folder)), _texts(lines))


def _entry(row: object, where: str) -> _Entry:
    """Return the entry of a table's row, which must name an image."""
    if not isinstance(row, Mapping):
        raise ConfigError(f"{where}: not an object with a file_name.")
    image = _named(row, _IMAGE_COLUMNS)
    if image is None or row[image] in {None, ""}:
        raise ConfigError(f"{where}: it names no image.")
    text, tags = _named(row, _TEXT_COLUMNS), _named(row, _TAG_COLUMNS)
    return _Entry(str(row[image]), _texts(row[text]) if text else (), _tags(row[tags]) if tags else ())


def _named(columns: Iterable[str], wanted: Sequence[str]) -> str | None:
    """Return the first wanted column that exists, ignoring case."""
    by_name = {column.strip().lower(): column for column in columns if column}
    return next((by_name[name] for name in wanted if name in by_name), None)


def _texts(cell: object) -> tuple[str, ...]:
    """Return the non-empty texts of a cell."""
    several = cell if isinstance(cell, list | tuple) else [cell]
    return tuple(text.strip() for text in several if isinstance(text, str) and text.strip())


def _tags(cell: object) -> tuple[str, ...]:
    """Return the tags of a cell without duplicates; a text is split at ``;``, ``|`` and commas."""
    several = _BETWEEN_TAGS.split(cell) if isinstance(cell, str) else cell
    return tuple(dict.fromkeys(_texts(several))) if several else ()


def _merged(entries: Iterable[_Entry]) -> list[_Entry]:
    """Return one entry per image, in the order in which images are first named.

    Other bytes under a name that was there are another image, whose id gets a number.
    """
    merged: dict[tuple[str, Any], _Entry] = {}
    named: Counter[str] = Counter()
    for entry in entries:
        before = merged.get((entry.id, entry.image))
        if before is None:
            named[entry.id] += 1
            number = f" ({named[entry.id]})" if named[entry.id] > 1 else ""
            merged[entry.id, entry.image] = replace(entry, id=f"{entry.id}{number}")
        else:
            tags = tuple(dict.fromkeys((*before.tags, *entry.tags)))
            merged[entry.id, entry.image] = replace(before, texts=(*before.texts, *entry.texts), tags=tags)
    return list(merged.values())


def _image(entry: _Entry, folder: Path) -> Path | bytes | None:
    """Return the image of an entry, whose id may lack the suffix; None if it is missing."""
    if entry.image is not None:
        return entry.image
    for place in _IMAGE_FOLDERS:
        named = folder / place / entry.id
        if named.is_file():
            return named
        for suffix in sorted(IMAGE_SUFFIXES):
            if (file := named.with_name(named.name + suffix)).is_file():
                return file
    return None


def _drawn(examples: list[Example], limit: int | None, seed: int) -> list[Example]:
    if limit is None or limit >= len(examples):
        return examples
    chosen = np.random.default_rng(seed).choice(len(examples), size=limit, replace=False)
    return [examples[index] for index in sorted(chosen)]


def _first(names: Iterable[object]) -> str:
    """List the first few names and the number of the others."""
    listed = [repr(name) for name in names]
    more = f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
    return ", ".join(listed[:_SHOWN]) + more

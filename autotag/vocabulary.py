"""A user's own labels, with synonyms."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path

from autotag.errors import ConfigError
from autotag.templates import PHOTO, check_template


@dataclass(frozen=True)
class Vocabulary:
    """Labels that images are matched with, in their order.

    A label that differs from an earlier one only in case is left out, and its synonyms go to the earlier one.

    Args:
        labels: the labels, or a mapping of each label to its synonyms.
        name: what the vocabulary is called.
        synonyms: label -> other names for it; a match with one of them comes out as the label.
        template: sentence around a name, with one ``{}``.

    Raises:
        ConfigError: no label, an empty one, synonyms of an unknown label, or a bad template.
    """

    labels: tuple[str, ...]
    _: KW_ONLY
    name: str = "vocabulary"
    synonyms: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)
    template: str = PHOTO

    def __init__(
        self,
        labels: Iterable[str] | Mapping[str, Iterable[str]],
        *,
        name: str = "vocabulary",
        synonyms: Mapping[str, Iterable[str]] | None = None,
        template: str = PHOTO,
    ) -> None:
        where = f"vocabulary {name!r}"
        check_template(f"the template of {where}", template)
        names = _merged(labels, synonyms or {}, where)
        object.__setattr__(self, "labels", tuple(names))
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "synonyms", {label: others for label, others in names.items() if others})
        object.__setattr__(self, "template", template)

    def __len__(self) -> int:
        return len(self.labels)

    def __iter__(self) -> Iterator[str]:
        return iter(self.labels)

    def names(self, label: str) -> tuple[str, ...]:
        """Everything a label is called: the label itself first."""
        return (label, *self.synonyms.get(label, ()))

    @classmethod
    def from_file(cls, path: str | Path, *, name: str | None = None, template: str = PHOTO) -> Vocabulary:
        """Reads a text file or, when its name ends in ``.csv``, a CSV file; UTF-8, with or without BOM.

        Text: one label per line, its synonyms after it, separated by ``|``: ``sofa | couch | settee``.
        A label may thus contain commas. CSV: the label in the first column, synonyms in the others, no
        header. In both, blank lines and lines that begin with ``#`` are comments.

        Args:
            path: the file.
            name: what the vocabulary is called; by default the file's name without its ending.
            template: sentence around a name, with one ``{}``.

        Raises:
            ConfigError: the file is missing, cannot be read, is not UTF-8 or holds no label; it names
                the file, and the line where there is one.
        """
        path = Path(path)
        rows = _csv_rows(path) if path.suffix.lower() == ".csv" else _text_rows(path)
        names: dict[str, list[str]] = {}
        for line, row in rows:
            label, *others = (cell.strip() for cell in row)
            if not label:
                raise ConfigError(f"vocabulary file {path}, line {line}: there are synonyms but no label")
            names.setdefault(label, []).extend(other for other in others if other)
        if not names:
            raise ConfigError(f"vocabulary file {path} holds no label; write one per line")
        return cls(names, name=name or path.stem, template=template)


def _merged(
    labels: Iterable[str] | Mapping[str, Iterable[str]], synonyms: Mapping[str, Iterable[str]], where: str
) -> dict[str, tuple[str, ...]]:
    """Label -> its synonyms, each name once whatever its case."""
    if isinstance(labels, str):
        raise ConfigError(f"{where}: labels is the text {labels!r}; give a list, or use Vocabulary.from_file")
    first_casing: dict[str, str] = {}
    names: dict[str, list[str]] = {}
    for label in labels:
        casing = first_casing.setdefault(_checked(label, where).casefold(), label.strip())
        names.setdefault(casing, []).extend(labels[label] if isinstance(labels, Mapping) else ())
    if not names:
        raise ConfigError(f"{where} has no label")
    for label, others in synonyms.items():
        if label.strip().casefold() not in first_casing:
            raise ConfigError(f"{where}: there are synonyms for {label!r}, which is no label of it")
        names[first_casing[label.strip().casefold()]].extend(others)
    return {label: _others(label, others, where) for label, others in names.items()}


def _others(label: str, others: Iterable[str], where: str) -> tuple[str, ...]:
    """The synonyms of a label without repetitions and without the label itself."""
    unique = {_checked(other, where).casefold(): other.strip() for other in reversed(list(others))}
    unique.pop(label.casefold(), None)
    return tuple(reversed(unique.values()))


def _checked(name: object, where: str) -> str:
    if not isinstance(name, str) or not name.strip():
        raise ConfigError(f"{where}: {name!r} is no label; labels and synonyms are texts that are not empty")
    return name.strip()


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Line numbers from 1, and the lines that are neither blank nor comments."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"vocabulary file {path} cannot be read: {error.strerror or error}") from error
    for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").splitlines(), 1):
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ConfigError(
                f"vocabulary file {path}, line {number}: not UTF-8. Save it as UTF-8."
            ) from error
        if text.strip() and not text.lstrip().startswith("#"):
            yield number, text


def _text_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    for number, line in _lines(path):
        yield number, line.split("|")


def _csv_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Rows by lines: a quoted cell holds commas, but no line break."""
    for number, line in _lines(path):
        try:
            yield number, next(csv.reader([line], strict=True, skipinitialspace=True))
        except csv.Error as error:
            raise ConfigError(f"vocabulary file {path}, line {number}: not CSV ({error})") from error

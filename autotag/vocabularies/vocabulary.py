"""Labels with synonyms: a user's own, bundled lists, and the lists of CLIP Interrogator."""

from __future__ import annotations

import html
import os
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import KW_ONLY, dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Literal, get_args

from autotag.config.checks import check_list
from autotag.errors import ConfigError, UnknownNameError, suggestion
from autotag.files.bounded_files import named_path
from autotag.language.english import singular
from autotag.vocabularies.broader_terms import broader_terms
from autotag.vocabularies.clip_interrogator_lists import Part, clip_interrogator_labels
from autotag.vocabularies.label_files import (
    Row,
    column_cells,
    is_table,
    language_code,
    table_rows,
    text_rows,
)
from autotag.vocabularies.templates import PHOTO, SLOT, check_template

BundledName = Literal["mediums", "artists", "movements", "trendings", "flavors", "negatives", "things"]
BUNDLED: tuple[BundledName, ...] = get_args(BundledName)

_LISTS = Path(__file__).resolve().parent.parent / "data" / "vocabularies"
_TRANSLATIONS = ("things_by_hand.tsv", "things_from_cldr.tsv")
_END_OF_TEXT = ("<|endoftext|>", "<end_of_text>", "</s>", "<eos>")


@dataclass(frozen=True)
class Vocabulary:
    """Keep an ordered list of labels to match images with, and their synonyms and broader terms.

    A label that differs from an earlier one only in case is left out, and its synonyms go to the earlier one;
    ``repeated`` is the number of such labels. A label may have any length; the encoder cuts long ones.

    Args:
        labels: the labels, or a mapping of each label to its synonyms.
        name: the vocabulary's name.
        synonyms: label -> its other names; a match with one of them counts as a match with the label.
        template: sentence around a name, with one ``{}``.
        broader: label -> its more general labels: "tabby cat" -> "cat". Broader terms must be labels of
            the vocabulary, and no label may be broader than itself.
        translations: code of a language (``de``, ``pt-br``) -> label -> the label in this language. They are
            for output, see the stage ``name_tags``; images are compared with the labels and synonyms only.

    Raises:
        ConfigError: there are no labels; a label is empty or contains the end-of-text mark of a text encoder;
            synonyms, broader terms or translations are given for an unknown label; a broader term is unknown;
            broader terms form a circle; a language's code is malformed; or the template is wrong.
    """

    labels: tuple[str, ...]
    _: KW_ONLY
    name: str = "vocabulary"
    synonyms: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)
    template: str = PHOTO
    broader: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)
    translations: Mapping[str, Mapping[str, str]] = field(default_factory=dict, hash=False, repr=False)
    repeated: int = field(default=0, compare=False, repr=False)

    def __init__(
        self,
        labels: Iterable[str] | Mapping[str, Iterable[str]],
        *,
        name: str = "vocabulary",
        synonyms: Mapping[str, Iterable[str]] | None = None,
        template: str = PHOTO,
        broader: Mapping[str, Iterable[str]] | None = None,
        translations: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:
        where = f"vocabulary {name!r}"
        check_template(f"the template of {where}", template)
        if isinstance(labels, str):
            raise ConfigError(
                f"{where}: labels is the text {labels!r}; give a list, or use Vocabulary.from_file"
            )
        labels = labels if isinstance(labels, Mapping) else tuple(labels)
        names = _merged(labels, synonyms or {}, where)
        object.__setattr__(self, "labels", tuple(names))
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "synonyms", {label: others for label, others in names.items() if others})
        object.__setattr__(self, "template", template)
        object.__setattr__(self, "broader", broader_terms(broader or {}, names, lambda *_: where))
        object.__setattr__(self, "translations", _translations(translations or {}, names, where))
        object.__setattr__(self, "repeated", len(labels) - len(names))

    def __len__(self) -> int:
        return len(self.labels)

    def __iter__(self) -> Iterator[str]:
        return iter(self.labels)

    def names(self, label: str) -> tuple[str, ...]:
        """Return the label, then its synonyms."""
        return (label, *self.synonyms.get(label, ()))

    def all_names(self) -> tuple[str, ...]:
        """Return the names of all labels, in order: each label, then its synonyms."""
        return tuple(name for label in self.labels for name in self.names(label))

    def label_in(self, language: str, label: str) -> str | None:
        """Return a label in another language, None if the vocabulary does not say it.

        Of a language with a region (``pt-br``), the label in the language itself counts if there is no other.
        """
        code = language.lower().replace("_", "-")
        own = self.translations.get(code, {}).get(label)
        return own or self.translations.get(code.partition("-")[0], {}).get(label)

    def ancestors(self, label: str) -> tuple[str, ...]:
        """Return all broader terms of a label, nearest first: ("cat", "animal") for "tabby cat"."""
        found: dict[str, None] = {}
        nearest = self.broader.get(label, ())
        while nearest:
            found.update(dict.fromkeys(nearest))
            nearest = tuple(term for label in nearest for term in self.broader.get(label, ()))
        return tuple(found)

    def path(self, label: str) -> tuple[str, ...]:
        """Return a label's broader terms, most general first, then the label: ("animal", "cat", "tabby cat").

        If a label has several broader terms, the path goes through the first.
        """
        path = [label]
        while path[0] in self.broader:
            path.insert(0, self.broader[path[0]][0])
        return tuple(path)

    def label_of(self, text: str) -> str | None:
        """Return the label that a text names, ignoring case and plural; None if it does not name one.

        Labels have priority over synonyms, and the text itself over its singular. A synonym of several labels
        is ambiguous and does not name any of them.
        """
        folded = text.strip().casefold()
        return self._labels_by_name.get(folded) or self._labels_by_name.get(singular(folded))

    @cached_property
    def _labels_by_name(self) -> dict[str, str]:
        """Case-folded name -> its label, without ambiguous synonyms."""
        labels = {label.casefold(): label for label in self.labels}
        owners: dict[str, set[str]] = {}
        for label, others in self.synonyms.items():
            for other in others:
                owners.setdefault(other.casefold(), set()).add(label)
        return {name: min(found) for name, found in owners.items() if len(found) == 1} | labels

    @classmethod
    def bundled(cls, name: BundledName, *, living_artists: bool = True) -> Vocabulary:
        """Return one of the lists that come with autotag; they are in ``autotag/data/vocabularies``.

        ``mediums`` ("an oil painting"), ``artists`` ("by Claude Monet"), ``movements`` ("impressionism"),
        ``trendings`` ("trending on Behance"), ``flavors`` ("golden hour light") and ``negatives`` ("blurry").
        Their labels are phrases for prompts and are embedded unchanged: the template is ``{}``. ``things``
        are everyday keywords ("tabby cat") with synonyms and broader terms; their template is
        "a photo of {}".

        Args:
            name: the list's name.
            living_artists: False leaves out the artists who are alive according to the list.

        Raises:
            UnknownNameError: the list is unknown.
        """
        if name not in BUNDLED:
            raise UnknownNameError("bundled vocabulary", name, BUNDLED)
        if name == "things":
            return _things()
        labels = _list(name)
        if name == "artists":
            living = _list("artists_living") if living_artists else []
            labels = [f"by {artist}" for artist in (*labels, *living)]
        return cls(labels, name=name, template=SLOT)

    @classmethod
    def from_clip_interrogator(cls, part: Part) -> Vocabulary:
        """Return a list of CLIP Interrogator; its package ``clip-interrogator`` must be installed.

        Empty lines, repetitions, and labels with lost characters (U+FFFD) are left out. The template is
        ``{}``.

        Args:
            part: the list's name; the same names as for ``bundled``, except ``things``.

        Raises:
            UnknownNameError: the part is unknown.
            ConfigError: the package is not installed, or its files differ from those of 0.6.0.
        """
        labels = [label for label in clip_interrogator_labels(part) if label and "\ufffd" not in label]
        return cls(labels, name=part, template=SLOT)

    @classmethod
    def from_file(
        cls, path: str | Path, *, column: str | None = None, name: str | None = None, template: str = PHOTO
    ) -> Vocabulary:
        """Read a text file or, if its name ends in ``.csv`` or ``.tsv``, a table; UTF-8, with or without BOM.

        Text: one label per line, then its synonyms, separated by ``|``, then ``<`` and its broader terms,
        which must be labels of the file: ``sofa | couch | settee < furniture``. A label may contain commas.
        Table: the label in the first column, synonyms in the others, without header and broader terms.
        ``label.de: Sofa`` among the synonyms of either is the label in German. A table may instead have a
        first row such as ``label,synonyms,label.de,label.fr``, with bars between synonyms. Blank lines and
        lines that begin with ``#`` are skipped. With ``column``, the first row names the columns, and the
        labels are the non-blank cells of that column.

        Args:
            path: the file.
            column: the column of a table that has the labels.
            name: the vocabulary's name; by default the file's name without its ending.
            template: sentence around a name, with one ``{}``.

        Raises:
            ConfigError: the file is missing, cannot be read, is not UTF-8, has no labels, does not have the
                column, or a broader term is unknown or broader than itself; names the file and, if there is
                one, the line.
        """
        return cls._read(Path(path), column=column, name=name, template=template)

    @classmethod
    def _read(
        cls,
        path: Path,
        *,
        column: str | None = None,
        name: str | None = None,
        template: str = PHOTO,
        translations: Mapping[str, Mapping[str, str]] | None = None,
    ) -> Vocabulary:
        """Read a file of labels; its own translations come before the given ones."""
        labels: list[str] = []
        named: dict[str, dict[str, str]] = {code: dict(known) for code, known in (translations or {}).items()}
        said: dict[tuple[str, str], str] = {}
        synonyms: dict[str, list[str]] = {}
        broader: dict[str, tuple[str, ...]] = {}
        lines: dict[tuple[str, str], int] = {}
        for row in _rows(path, column):
            label, *others = _names_in(row, f"vocabulary file {path}, line {row.line}")
            labels.append(label)
            synonyms.setdefault(label, []).extend(others)
            broader[label] = (*broader.get(label, ()), *row.broader)
            for language, text in row.labels:
                before = said.setdefault((language, label.casefold()), text)
                if before != text:
                    raise ConfigError(
                        f"vocabulary file {path}, line {row.line}: label.{language} of {label!r} is "
                        f"{text!r} here, and {before!r} before; keep one"
                    )
                named.setdefault(language, {})[label] = text
            for term in row.broader:
                lines.setdefault((label.casefold(), term.casefold()), row.line)
        if not labels:
            raise ConfigError(f"vocabulary file {path} has no labels; write one per line")

        def place(label: str, term: str) -> str:
            return f"vocabulary file {path}, line {lines[label.casefold(), term.casefold()]}"

        terms = broader_terms(broader, labels, place)
        return cls(
            labels,
            synonyms=synonyms,
            name=name or path.stem,
            template=template,
            broader=terms,
            translations=named,
        )


def read_vocabulary(
    option: str, given: str | Path | Vocabulary, *, template: str = PHOTO, living_artists: bool = True
) -> Vocabulary:
    """Return a bundled vocabulary by its name, one read from a file, or the object itself.

    The name of a bundled vocabulary has priority; write ``"./things"`` for a file of that name.

    Args:
        option: the name of the option, for messages.
        given: the name, path or vocabulary.
        template: of a vocabulary in a file.
        living_artists: False leaves living artists out of the bundled list.

    Raises:
        ConfigError: ``given`` is neither a name nor a readable file of labels.
    """
    if isinstance(given, Vocabulary):
        return given
    if isinstance(given, str) and given in BUNDLED:
        return Vocabulary.bundled(given, living_artists=living_artists)
    path = named_path(given)
    if not os.path.exists(path):  # noqa: PTH110 - Path.exists raises for names that no file can have
        near = suggestion(str(given), BUNDLED)
        looked_in = "" if path.is_absolute() else f" Files were looked for in {os.getcwd()}."  # noqa: PTH109
        raise ConfigError(
            f"{option} is {str(given)!r}: neither a bundled vocabulary nor a file. {near}{looked_in}"
        )
    return Vocabulary.from_file(path, template=template)


@cache
def _things() -> Vocabulary:
    return Vocabulary._read(_LISTS / "things.txt", translations=_bundled_translations())  # noqa: SLF001


def _bundled_translations() -> dict[str, dict[str, str]]:
    """Return language -> label of ``things`` -> its name; what was written by hand comes first."""
    found: dict[str, dict[str, str]] = {}
    for file in _TRANSLATIONS:
        for row in table_rows(_LISTS / file):
            for language, text in row.labels:
                found.setdefault(language, {}).setdefault(row.names[0], text)
    return found


def _list(name: str) -> list[str]:
    return [row.names[0] for row in text_rows(_LISTS / f"{name}.txt")]


def _rows(path: Path, column: str | None) -> Iterator[Row]:
    """Yield the rows of a file; errors begin with "vocabulary file"."""
    if column is not None and not is_table(path):
        raise ConfigError(f"vocabulary file {path} is not a table (.csv or .tsv), so it has no {column!r}")
    try:
        if column is not None:
            yield from (Row(line, [cell]) for line, cell in column_cells(path, column))
        else:
            yield from table_rows(path) if is_table(path) else text_rows(path)
    except ConfigError as error:
        raise ConfigError(f"vocabulary file {error}") from error.__cause__


def _names_in(row: Row, where: str) -> list[str]:
    label, *others = (cell.strip() for cell in row.names)
    if not label:
        given = "synonyms" if any(others) else "labels in other languages" if row.labels else "broader terms"
        raise ConfigError(f"{where}: there are {given} but no label")
    return [_checked(name, where) for name in (label, *others) if name]


def _translations(
    given: Mapping[str, Mapping[str, str]], labels: Iterable[str], where: str
) -> dict[str, dict[str, str]]:
    """Return language -> label -> its name in the language, labels in their own case."""
    own = {label.casefold(): label for label in labels}
    found: dict[str, dict[str, str]] = {}
    for language, names in given.items():
        known = found.setdefault(language_code(language, where), {})
        for label, name in names.items():
            if label.strip().casefold() not in own:
                raise ConfigError(
                    f"{where}: {language!r} names {label!r}, which is not a label. "
                    f"{suggestion(label.strip(), own.values())}"
                )
            known.setdefault(own[label.strip().casefold()], _checked(name, where))
    return found


def _merged(
    labels: Iterable[str] | Mapping[str, Iterable[str]], synonyms: Mapping[str, Iterable[str]], where: str
) -> dict[str, tuple[str, ...]]:
    """Return label -> its synonyms, each name once, ignoring case."""
    first_casing: dict[str, str] = {}
    names: dict[str, list[str]] = {}
    for given in (labels if isinstance(labels, Mapping) else {}, synonyms):
        for label, others in given.items():
            check_list(f"{where}: the synonyms of {label!r}", others)
    for label in labels:
        casing = first_casing.setdefault(_checked(label, where).casefold(), label.strip())
        names.setdefault(casing, []).extend(labels[label] if isinstance(labels, Mapping) else ())
    if not names:
        raise ConfigError(f"{where} has no labels")
    for label, others in synonyms.items():
        if label.strip().casefold() not in first_casing:
            raise ConfigError(f"{where}: synonyms are given for {label!r}, which is not a label")
        names[first_casing[label.strip().casefold()]].extend(others)
    return {label: _others(label, others, where) if others else () for label, others in names.items()}


def _others(label: str, others: Iterable[str], where: str) -> tuple[str, ...]:
    """Return the synonyms of a label without repetitions and without the label itself."""
    unique = {_checked(other, where).casefold(): other.strip() for other in reversed(list(others))}
    unique.pop(label.casefold(), None)
    return tuple(reversed(unique.values()))


def _checked(name: object, where: str) -> str:
    if not isinstance(name, str) or not name.strip():
        raise ConfigError(f"{where}: {name!r} is not a label; labels and synonyms are non-empty texts")
    found = end_of_text_in(name)
    if found:
        raise ConfigError(
            f"{where}: {name.strip()!r} contains {found!r}, where text encoders stop reading; remove it"
        )
    return name.strip()


def end_of_text_in(text: str) -> str | None:
    """Return the mark in a text that a tokenizer reads as the end of the text, or None.

    The text is normalised first as tokenizers do: lower case, entities resolved, wide characters made narrow.
    """
    if text.isascii() and "<" not in text and "&" not in text:
        return None
    seen = unicodedata.normalize("NFKC", html.unescape(html.unescape(text))).lower()
    return next((mark for mark in _END_OF_TEXT if mark in seen), None)

"""Name tags in other languages."""

from __future__ import annotations

from collections.abc import Sequence  # noqa: TC003 - a config is converted by the annotations
from dataclasses import KW_ONLY, dataclass, field, replace
from pathlib import Path  # noqa: TC003 - a config is converted by the annotations
from typing import TYPE_CHECKING, ClassVar, Literal

from autotag.config.options import convert_options
from autotag.errors import ConfigError, suggestion
from autotag.vocabularies.label_files import language_code
from autotag.vocabularies.vocabulary import Vocabulary, read_vocabulary

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from autotag.records import Sample, Tag

ENGLISH = "en"
Unnamed = Literal["keep", "drop"]


@dataclass
class NameTags:
    """Name the tags in one language, or in several: "Hund" for "dog", as vocabularies say. Scores stay.

    A tag that is a label of a vocabulary or one of its synonyms, whatever its case and number, becomes one
    tag per language that the vocabulary names it in, in the order of ``languages``. Each has the label as its
    ``concept``, and its ``language``. Of two concepts with one name, the one that comes first keeps it.
    Stages that know English only, such as ``merge_tags`` and ``assemble_prompt``, stand before this one;
    ``suggest_keywords`` stands after it, because people's own keywords are not translated.

    Args:
        languages: codes such as ``"de"`` or ``"pt-br"``, in the order of the names; one, or several. ``"en"``
            is the tag as the models found it, unless a vocabulary says ``label.en``.
        vocabularies: where names come from, the first that knows a tag first: bundled vocabularies by name,
            files (see ``Vocabulary.from_file``), or objects.
        unnamed: what becomes of a tag without a name in any of the languages, such as a phrase of a caption:
            it stays as it is, or is dropped.
        name: the stage's name.

    Raises:
        ConfigError: no language is given, one is malformed or given twice, no vocabulary has names in it, or
            a vocabulary cannot be read.
    """

    languages: str | Sequence[str]
    _: KW_ONLY
    vocabularies: Sequence[str | Path | Vocabulary] = field(default=("things",), metadata={"file": "each"})
    unnamed: Unnamed = "keep"
    name: str = "name_tags"
    _codes: tuple[str, ...] = field(init=False, repr=False, compare=False)
    _read: tuple[Vocabulary, ...] = field(init=False, repr=False, compare=False)

    requires: ClassVar[frozenset[str]] = frozenset({"tags"})
    provides: ClassVar[frozenset[str]] = frozenset({"tags"})

    def __post_init__(self) -> None:
        convert_options(self, where=self.name)
        given = [self.languages] if isinstance(self.languages, str) else self.languages
        self._codes = tuple(language_code(language, f"{self.name}.languages") for language in given)
        if not self._codes:
            raise ConfigError(f"{self.name}.languages is empty; name a language, such as 'de'.")
        if len(set(self._codes)) < len(self._codes):
            raise ConfigError(f"{self.name}.languages names one language twice: {', '.join(self._codes)}.")
        self._read = tuple(read_vocabulary(f"{self.name}.vocabularies", one) for one in self.vocabularies)
        known = sorted({ENGLISH, *(code for one in self._read for code in one.translations)})
        for code in self._codes:
            if code not in known and code.partition("-")[0] not in known:
                raise ConfigError(
                    f"{self.name}.languages holds {code!r}, but no vocabulary of {self.name}.vocabularies "
                    f"has labels in it. {suggestion(code, known)} A vocabulary of your own may have it: "
                    f"'dog | label.{code}: ...'."
                )

    def __call__(self, samples: Sequence[Sample], /) -> None:
        for sample in samples:
            sample.tags = list(_each_once(name for tag in sample.tags for name in self.named(tag)))

    def named(self, tag: Tag) -> list[Tag]:
        """Return a tag in each language that has a name for it; by itself or nothing if none has."""
        found = [name for code in self._codes if (name := self._in(code, tag))]
        return found or ([tag] if self.unnamed == "keep" else [])

    def known_as(self, name: str) -> str | None:
        """Return the label that has this name in one of the languages, the first of several; None if none."""
        return next(
            (
                label
                for code in self._codes
                for vocabulary in self._read
                for label in vocabulary
                if vocabulary.label_in(code, label) == name
            ),
            None,
        )

    def _in(self, code: str, tag: Tag) -> Tag | None:
        label, text = self._name(code, tag.text)
        if text is None:
            return tag if code == ENGLISH else None
        parents = tuple(self._name(code, part)[1] or part for part in tag.path[:-1])
        path = (*parents, text) if tag.path else ()
        return replace(tag, text=text, path=path, concept=label, language=code)

    def _name(self, code: str, text: str) -> tuple[str | None, str | None]:
        """Return the label that a text names, and the label in a language; None where there is none."""
        for vocabulary in self._read:
            label = vocabulary.label_of(text)
            if label is not None and (name := vocabulary.label_in(code, label)):
                return label, name
        return None, None


def _each_once(tags: Iterable[Tag]) -> Iterator[Tag]:
    """Yield the tags whose text is not the same as an earlier one's, in their order."""
    seen: set[str] = set()
    for tag in tags:
        if tag.text not in seen:
            seen.add(tag.text)
            yield tag

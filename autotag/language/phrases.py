"""Find the words and phrases of an English caption that can be tags, without a language model.

A noun phrase is ``(adjective | participle | noun)* noun``; an activity is a gerund, with its bare object if
it has one ("playing guitar"). A phrase never contains a function word, a finite verb or a punctuation mark,
so "players smiles", "smiles walk" and "walk field" are never proposed. Each word's class comes from the lists
of ``autotag.language.english``; if a word can be a noun or a verb, its neighbours decide.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from autotag.errors import ConfigError
from autotag.language import english
from autotag.language.other_languages import joined, stop_words_of, words_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_TOKEN = re.compile(r"[^\W_]+(?:['-][^\W_]+)*|'[a-z]+|[^\w\s]")
_SPACED_HYPHEN = re.compile(r"\b([a-z]) ?- ?(?=[a-z])")  # captioners write "t - shirt"
_POSSESSIVE = re.compile(r"(?<=[a-z0-9])'s\b|(?<=s)'(?=\s|$)")
_PHRASE = re.compile(r"G?(?:[AP]B*|N+B+)*N+|G")

# The classes of words in a phrase: Adjective, Participle before its noun, Bound to the word before it
# ("covered" in "snow covered"), Noun, Gerund of an activity. Every other class ends a phrase.
WordClass = Literal[
    "A", "P", "B", "N", "G", "vague", "verb", "break", "determiner", "pronoun", "auxiliary", "modal",
    "conjunction", "subordinator", "preposition", "adverb", "artefact", "start",
]  # fmt: skip
_BEFORE_A_CLAUSE: frozenset[WordClass] = frozenset(
    {"N", "vague", "auxiliary", "modal", "pronoun", "adverb", "verb", "subordinator"}
)
_CLAUSE_HAS_VERB: frozenset[WordClass] = frozenset({"verb", "G", "auxiliary", "modal"})
_NOMINAL_BEFORE: frozenset[WordClass] = frozenset(
    {"determiner", "A", "P", "B", "preposition", "G", "auxiliary"}
)


def phrase_candidates(
    text: str, *, ngram_range: tuple[int, int], stop_words: str | Sequence[str] | None
) -> list[str]:
    """Return the phrases of a text that can be tags: lower case, each once, in order of appearance.

    With "english", these are nouns, noun phrases and activities. In any other language, every sequence of
    words between two stop words counts, because only the stop words are known.

    Args:
        text: a caption; may be empty.
        ngram_range: fewest and most words of a phrase, at least 1. A hyphenated word is one word.
        stop_words: ``"english"``; or the code of another language, such as ``"de"``, for its stop words and,
            in Chinese and Japanese, its words (see ``other_languages``); or the stop words themselves; or
            None, so that only punctuation separates phrases.

    Returns:
        Phrases with single spaces, in Chinese and Japanese without; German ones of ``"de"`` keep their
        capitals. Apostrophes and spaced hyphens are normalised ("t - shirt" is "t-shirt"), so a phrase need
        not be a substring of the text.

    Raises:
        ConfigError: ``ngram_range`` or ``stop_words`` is out of range.
    """
    check_options(ngram_range, stop_words)
    if isinstance(stop_words, str) and stop_words != "english":
        return _phrases_in(stop_words, text, ngram_range)
    tokens = _tokens(text)
    if stop_words == "english":
        phrases = _english_phrases(_joined_compounds(tokens))
    else:
        phrases = _runs(tokens, frozenset(word.lower() for word in stop_words or ()), ngram_range[1])
    fewest, most = ngram_range
    return list(dict.fromkeys(phrase for phrase in phrases if fewest <= len(phrase.split()) <= most))


def words(text: str) -> list[str]:
    """Return the words of a text in lower case, without punctuation and possessive endings."""
    return [token for token in _tokens(text) if token[0].isalnum()]


def check_options(ngram_range: tuple[int, int], stop_words: str | Sequence[str] | None) -> None:
    """Refuse values of ``ngram_range`` and ``stop_words`` that no extractor supports.

    Raises:
        ConfigError: names the option and the allowed values.
    """
    if len(ngram_range) != 2 or not 1 <= ngram_range[0] <= ngram_range[1]:
        raise ConfigError(
            f"ngram_range is {ngram_range!r}; allowed: (fewest, most) words, 1 <= fewest <= most"
        )
    if isinstance(stop_words, str) and stop_words != "english":
        try:
            stop_words_of(stop_words)
        except ConfigError as error:
            raise ConfigError(
                f"stop_words is {stop_words!r}; allowed: 'english', the code of another language, a list of "
                f"words, or None: {error}"
            ) from None


def _tokens(text: str) -> list[str]:
    lowered = text.lower().replace("’", "'")
    lowered = _SPACED_HYPHEN.sub(r"\1-", _POSSESSIVE.sub(" 's ", lowered))
    return _TOKEN.findall(lowered)


def _is_word(token: str) -> bool:
    long_enough = len(token) > 1 or not token.isascii()  # one Chinese character is a word
    return long_enough and token[0].isalnum() and any(character.isalpha() for character in token)


def _runs(tokens: Sequence[str], stop_words: frozenset[str], longest: int) -> Iterator[str]:
    """Yield every sequence of up to ``longest`` words without stop words and punctuation."""
    for start in range(len(tokens)):
        for end in range(start + 1, min(start + longest, len(tokens)) + 1):
            if not _is_word(tokens[end - 1]) or tokens[end - 1] in stop_words:
                break
            yield " ".join(tokens[start:end])


def _phrases_in(language: str, text: str, ngram_range: tuple[int, int]) -> list[str]:
    """Return every sequence of words without stop words and punctuation, each once whatever its case."""
    stop_words = stop_words_of(language)
    found: dict[str, str] = {}
    fewest, most = ngram_range
    tokens = words_of(text, language)
    for start in range(len(tokens)):
        for end in range(start + 1, min(start + most, len(tokens)) + 1):
            if not _is_word(tokens[end - 1].lower()) or tokens[end - 1].lower() in stop_words:
                break
            if end - start >= fewest:
                phrase = joined(tokens[start:end], language)
                found.setdefault(phrase.lower(), phrase)
    return list(found.values())


def _joined_compounds(tokens: Sequence[str]) -> list[str]:
    """Join fixed expressions ("hot dogs") to one token."""
    joined: list[str] = []
    position = 0
    while position < len(tokens):
        length = next((n for n in (4, 3, 2) if _is_compound(tokens[position : position + n])), 1)
        joined.append(" ".join(tokens[position : position + length]))
        position += length
    return joined


def _is_compound(words: Sequence[str]) -> bool:
    return (*words[:-1], english.singular(words[-1])) in english.compounds()


def _english_phrases(tokens: Sequence[str]) -> Iterator[str]:
    classes = _with_joined_adjectives(tokens, _classes(tokens))
    letters = "".join(word_class if len(word_class) == 1 else "." for word_class in classes)
    for match in _PHRASE.finditer(letters):
        for start, end in _well_formed(match.group()):
            yield " ".join(tokens[match.start() + start : match.start() + end])


def _well_formed(letters: str) -> Iterator[tuple[int, int]]:
    """Yield spans that are phrases themselves: up to the head noun, of nouns only, or the gerund."""
    for start, letter in enumerate(letters):
        if letter == "G":
            yield start, start + 1
        for end in range(start + 1, len(letters) + 1):
            only_nouns = set(letters[start:end]) == {"N"}
            to_the_head = end == len(letters) and letter in "APNG" and letters[-1] == "N"
            if only_nouns or to_the_head:
                yield start, end


def _with_joined_adjectives(tokens: Sequence[str], classes: Sequence[WordClass]) -> list[WordClass]:
    """Bind joined adjectives together: "black and white dog" must not give "white dog"."""
    joined = list(classes)
    for middle in range(1, len(tokens) - 1):
        around = (classes[middle - 1], classes[middle + 1])
        if tokens[middle] in ("and", "&") and around == ("A", "A"):
            joined[middle : middle + 2] = ["B", "B"]
    return joined


@dataclass(frozen=True, slots=True)
class _Place:
    """A word and its neighbours; the words before it already have classes."""

    tokens: Sequence[str]
    classes: Sequence[WordClass]

    @property
    def word(self) -> str:
        return self.tokens[len(self.classes)]

    @property
    def before(self) -> WordClass:
        return self.classes[-1] if self.classes else "start"

    @property
    def word_before(self) -> str:
        return self.tokens[len(self.classes) - 1] if self.classes else ""

    @property
    def word_after(self) -> str:
        return self.tokens[len(self.classes) + 1] if len(self.classes) + 1 < len(self.tokens) else ""

    @property
    def nominal_follows(self) -> bool:
        """True if the next word can continue a noun phrase."""
        after = self.word_after
        return _is_word(after) and after not in english.function_words() and not after.startswith("'")

    @property
    def object_follows(self) -> bool:
        """True if the next word begins a new noun phrase: "watches the", not "watches on"."""
        return english.function_words().get(self.word_after) in ("determiner", "pronoun")

    @property
    def joined_to(self) -> int | None:
        """The index of the word that a conjunction or comma joins to this one, or None."""
        position = len(self.classes) - 1
        while position >= 0 and self.classes[position] in ("conjunction", "break"):
            position -= 1
        return position if 0 <= position < len(self.classes) - 1 else None

    @property
    def joins_verb(self) -> bool:
        """True if this is the second of two joined verbs: "walks and talks", "sits, reads"."""
        return self.joined_to is not None and self.classes[self.joined_to] in ("verb", "G")

    @property
    def subject_waits(self) -> bool:
        """True if an earlier person or animal has no verb yet: "a girl in a dress", "a boy wearing red"."""
        for word, word_class in zip(
            reversed(self.tokens[: len(self.classes)]), reversed(self.classes), strict=True
        ):
            if word_class == "N" and english.is_animate(word):
                return True
            if word_class in _CLAUSE_HAS_VERB and word not in ("wearing", "dressed"):
                return False
        return False

    @property
    def after_determined_noun(self) -> bool:
        """True if the noun phrase just before begins with a determiner: "a pink dress", not "ocean"."""
        return re.search(r"d[APBN]*N$", "".join(word_class[0] for word_class in self.classes)) is not None

    @property
    def after_worn_colour(self) -> bool:
        """True if the words just before are a colour of clothes: "in green", "wearing black"."""
        worn = self.tokens[len(self.classes) - 2] if len(self.classes) > 1 else ""
        return self.word_before in english.word_list("colours") and worn in ("in", "wearing")


def _classes(tokens: Sequence[str]) -> list[WordClass]:
    classes: list[WordClass] = []
    for _ in tokens:
        classes.append(_class(_Place(tokens, classes)))
    return classes


def _class(place: _Place) -> WordClass:
    """Return the class of a word by the first rule that applies; otherwise it is a noun."""
    rules = (
        _function_class,
        _compound_class,
        _gerund_class,
        _vague_class,
        _adjective_class,
        _participle_class,
        _finite_class,
        _adverb_class,
    )
    return next((word_class for rule in rules if (word_class := rule(place))), "N")


def _function_class(place: _Place) -> WordClass | None:
    """Return the listed class; numbers are determiners, punctuation and single letters end phrases."""
    if place.word in english.function_words():
        return english.function_words()[place.word]  # type: ignore[return-value]  # the list's class names
    if _is_word(place.word):
        return None
    return "determiner" if place.word.isdigit() else "break"


def _compound_class(place: _Place) -> WordClass | None:
    if " " not in place.word:
        return None
    return "G" if place.word.endswith("ing") and not place.nominal_follows else "N"


def _gerund_class(place: _Place) -> WordClass | None:
    """Classify an -ing form: verb after its subject ("man riding"), participle before its noun."""
    if not english.is_gerund(place.word):
        return None
    in_clause = place.before in _BEFORE_A_CLAUSE or place.joins_verb
    if place.nominal_follows and not in_clause:
        return "P"
    verb = english.verb_forms().get(place.word, (place.word, ""))[0]
    return "verb" if verb in english.word_list("weak_verbs") else "G"


def _vague_class(place: _Place) -> WordClass | None:
    counts = place.word_after == "of" and place.word in english.word_list("partitives")
    return "vague" if counts or place.word in english.word_list("vague_nouns") else None


def _adjective_class(place: _Place) -> WordClass | None:
    return "A" if place.word in english.adjectives() and not _is_noun_here(place) else None


def _is_noun_here(place: _Place) -> bool:
    """Return True if a listed adjective is a noun here: "an orange.", "the male rides"."""
    if place.word not in english.word_list("adjective_nouns"):
        return False
    verb_follows = _form(place.word_after) == "third"
    return not place.nominal_follows or (verb_follows and english.is_animate(place.word))


def _participle_class(place: _Place) -> WordClass | None:
    """Classify a participle: before its noun a modifier or bound ("snow covered"); else a verb."""
    if not english.is_participle(place.word):
        return None
    if not place.nominal_follows or place.before in ("auxiliary", "pronoun", "modal"):
        return "verb"
    if place.word in english.word_list("bound_participles") and place.before in ("A", "N", "B"):
        return "B"
    return "verb" if place.before in ("N", "vague") else "P"


def _finite_class(place: _Place) -> WordClass | None:
    return "verb" if _form(place.word) and _is_verb_here(place) else None


def _adverb_class(place: _Place) -> WordClass | None:
    by_ending = place.word.endswith("ly") and len(place.word) > 4
    return "adverb" if by_ending and place.word not in english.word_list("nouns_in_ly") else None


def _form(word: str) -> english.Form | None:
    """Return the verb form that a word can be, or None."""
    return english.verb_forms()[word][1] if word in english.verb_forms() else None


def _is_verb_here(place: _Place) -> bool:
    """Return True if a possible finite verb is a verb here, judged by the words around it."""
    form = _form(place.word)
    if place.after_worn_colour and place.subject_waits:
        return form == "third" or not place.nominal_follows
    if place.before in _NOMINAL_BEFORE:
        return place.word_before == "to" and form == "plain"
    if place.before in ("pronoun", "modal") or place.joins_verb:
        return True
    if place.before in ("N", "vague"):
        return _agrees(place, form)
    if not _is_also_noun(place.word):
        return form == "third" or place.joined_to is not None
    return form == "third" and (place.object_follows or _joins_clause(place))


def _agrees(place: _Place, form: english.Form | None) -> bool:
    """Return True if a finite form fits the noun before it: "dogs run", not "train tracks"."""
    subject = place.word_before
    if english.is_plural(subject) or place.object_follows:
        return True
    willing = english.is_animate(subject)
    if form == "plain":
        willing |= subject in english.word_list("collectives")
        return willing and place.word_after != "" and not place.nominal_follows
    return willing or (place.after_determined_noun and place.subject_waits) or not _is_also_noun(place.word)


def _joins_clause(place: _Place) -> bool:
    """Return True if a form in -s after "and" is a verb: "leaps and spins", but "rocks and waves"."""
    joined = place.joined_to
    if joined is None or "verb" not in place.classes:
        return False
    noun = place.tokens[joined]
    return english.is_animate(noun) or not english.is_plural(noun)


def _is_also_noun(word: str) -> bool:
    return english.verb_forms()[word][0] in english.word_list("noun_verbs")

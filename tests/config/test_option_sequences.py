"""Every option that holds several things takes them in any kind of sequence."""

from __future__ import annotations

import array
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import is_dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autotag.albums.rules import AlbumRules
from autotag.config import options, registry
from autotag.errors import ConfigError
from autotag.pipeline.pipeline import Pipeline
from autotag.protocols import CaptionOptions, KeyphraseOptions
from autotag.records import Result, Tag
from autotag.stages import CaptionImages, ExtractKeyphrases, MatchVocabulary
from autotag.testing import FakeCaptioner, FakeTranslator, make_image

NEEDED: dict[str, dict[str, Any]] = {
    "SuggestKeywords": {"keywords": "family.tags"},
    "ClassifyImages": {"model": "lite-imagenet"},
    "MatchVocabulary": {"vocabulary": ("cat",)},
    "NameTags": {"languages": "de"},
    "TranslateCaptions": {"model": FakeTranslator(), "target": "de"},
    "Pipeline": {"stages": [CaptionImages()]},
    "CsvWriter": {"stream": StringIO()},
    "JsonlWriter": {"stream": StringIO()},
}
"""What each class cannot be built without."""

PHRASES = ("in oil", "by night")
GIVEN: dict[tuple[str, str], Any] = {
    ("AlbumRules", "always"): ("autotag", "trigger"),
    ("AlbumRules", "deny"): ("photo", "*picture*"),
    ("AlbumRules", "hierarchy"): ("animal|dog", "animal|cat"),
    ("AlbumRules", "synonyms"): {"dog": ("hound", "pooch")},
    ("AssemblePrompt", "artists"): PHRASES,
    ("AlbumRules", "flagged_write"): ("csv", "txt"),
    ("AssemblePrompt", "flavors"): PHRASES,
    ("AssemblePrompt", "mediums"): PHRASES,
    ("AssemblePrompt", "movements"): PHRASES,
    ("AssemblePrompt", "negatives"): PHRASES,
    ("AssemblePrompt", "trendings"): PHRASES,
    ("CaptionImages", "model"): ("blip-base", "blip-mini"),
    ("ClassifyImages", "categories"): ("general", "character"),
    ("DetectObjects", "labels"): ("cat", "dog"),
    ("ExtractKeyphrases", "ngram_range"): (1, 3),
    ("ExtractKeyphrases", "stop_words"): ("der", "die"),
    ("KeyphraseOptions", "ngram_range"): (1, 3),
    ("KeyphraseOptions", "stop_words"): ("der", "die"),
    ("MatchVocabulary", "leave_out"): ("cat",),
    ("MatchVocabulary", "vocabulary"): ("cat", "dog"),
    ("NameTags", "languages"): ("de", "fr"),
    ("NameTags", "vocabularies"): ("things", "mediums"),
    ("Pipeline", "fast_paths"): ("causal_text", "views"),
    ("RankLabels", "vocabularies"): ("mediums", "flavors"),
    ("XmpWriter", "fields"): ("dc:subject", "digiKam:TagsList"),
}
"""By class and option, a value of several things."""


def classes() -> Iterator[type]:
    """Every class whose fields users set."""
    yield from (AlbumRules, CaptionOptions, KeyphraseOptions, Pipeline)
    for kind in ("stage", "writer", "album_writer"):
        for name in registry.names(kind):
            found = registry.resolve(kind, name)
            if is_dataclass(found):
                yield found


def admits_several(hint: str) -> bool:
    return any(word in hint for word in ("tuple[", "Sequence[", "list[", "frozenset[", "Collection["))


SEVERAL = [
    (kind, name)
    for kind in classes()
    for name, field in options.option_fields(kind).items()
    if admits_several(str(field.type))
]

SEQUENCES: dict[str, Callable[[tuple[Any, ...]], Any]] = {
    "list": list,
    "deque": deque,
    "array of NumPy": np.array,
    "set": set,
    "keys of a dict": lambda values: dict.fromkeys(values).keys(),
}


def built(kind: type, **given: Any) -> Any:
    return kind(**{**NEEDED.get(kind.__name__, {}), **given})


def each(change: Callable[[Any], Any], value: Any) -> Any:
    """The value with every sequence in it changed."""
    if isinstance(value, dict):
        return {key: change(entry) for key, entry in value.items()}
    return change(value)


def test_the_table_has_every_option_that_holds_several_things() -> None:
    assert set(GIVEN) == {(kind.__name__, name) for kind, name in SEVERAL}, "GIVEN above needs a row"


@pytest.mark.parametrize("sequence", SEQUENCES)
@pytest.mark.parametrize(("kind", "name"), SEVERAL, ids=lambda part: getattr(part, "__name__", part))
def test_any_sequence_is_stored_as_a_tuple_of_the_same(kind: type, name: str, sequence: str) -> None:
    if name == "ngram_range" and sequence in {"set", "keys of a dict"}:
        with pytest.raises(ConfigError, match="ngram_range"):
            built(kind, ngram_range=SEQUENCES[sequence]((1, 3)))
        return
    value = GIVEN[kind.__name__, name]
    stored = getattr(built(kind, **{name: each(SEQUENCES[sequence], value)}), name)
    assert stored == (each(lambda entries: tuple(sorted(entries)), value) if sequence == "set" else value)
    for part in stored.values() if isinstance(stored, dict) else [stored]:
        assert type(part) is tuple
        assert {type(entry) for entry in part} <= {str, int}


@pytest.mark.parametrize("kind", list(classes()), ids=lambda kind: kind.__name__)
def test_every_option_is_checked_where_it_is_built(kind: type) -> None:
    for name in options.option_fields(kind):
        with pytest.raises(ConfigError, match=name):
            built(kind, **{name: {7j: 7j}})  # fits no option, not even one that takes objects


def test_a_set_always_has_the_same_order() -> None:
    assert ExtractKeyphrases(stop_words={"und", "der", "die"}).stop_words == ("der", "die", "und")  # type: ignore[arg-type]


def test_numbers_of_numpy_are_numbers() -> None:
    rules = options.checked(CaptionImages, {"num_beams": np.int64(3), "top_p": None}, where="stage")
    assert type(rules["num_beams"]) is int
    assert built(Pipeline, batch_size=np.int32(4)).batch_size == 4
    assert ExtractKeyphrases(ngram_range=array.array("i", [1, 2])).ngram_range == (1, 2)  # type: ignore[arg-type]
    assert ExtractKeyphrases(ngram_range=range(1, 3)).ngram_range == (1, 2)  # type: ignore[arg-type]


def test_a_text_is_no_sequence_of_letters() -> None:
    with pytest.raises(ConfigError, match=r"album rules: deny = 'photo' does not fit; it takes an array"):
        AlbumRules(deny="photo")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="fast_paths = 'all' does not fit; it takes one of 'auto', 'off'"):
        built(Pipeline, fast_paths="all")


def test_rules_given_as_lists_are_applied() -> None:
    rules = AlbumRules(hierarchy=["animal|dog"], synonyms={"dog": ["hound"]})  # type: ignore[arg-type, dict-item]
    result = Result("a.jpg", (8, 8), tags=(Tag("dog", 0.9, "filter_tags"),))
    found = rules.applied(result)
    assert [tag.text for tag in found.tags] == ["dog", "hound"]
    assert [tag.path for tag in found.tags] == [("animal", "dog"), ()]


@pytest.mark.slow
def test_stop_words_given_as_a_list_reach_the_extractor(minilm: Path) -> None:
    pipeline = Pipeline(
        [
            CaptionImages(FakeCaptioner()),
            ExtractKeyphrases(str(minilm), stop_words=["red"], ngram_range=[1, 1], candidates="ngrams"),  # type: ignore[arg-type]
        ],
        encoder=None,
    )
    with pipeline:
        result = pipeline(make_image("red"))
    assert result.caption == "a red picture"
    assert [tag.text for tag in result.tags] == ["picture"]


def test_several_captioners_in_a_deque_are_several_captioners() -> None:
    captioners = deque([FakeCaptioner(), FakeCaptioner()])
    assert CaptionImages(captioners).model == tuple(captioners)  # type: ignore[arg-type]


def test_labels_and_synonyms_may_be_lists() -> None:
    stage = MatchVocabulary({"sofa": ["couch"]})  # type: ignore[dict-item]
    assert stage.vocabulary == {"sofa": ("couch",)}

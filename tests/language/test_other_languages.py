from __future__ import annotations

import importlib.util
import unicodedata

import pytest

from autotag.errors import ConfigError
from autotag.language import other_languages
from autotag.language.other_languages import stop_words_of, words_of
from autotag.language.phrases import phrase_candidates


@pytest.mark.parametrize(
    ("language", "text", "phrases"),
    [
        ("de", "Ein brauner Hund auf dem Strand", ["brauner", "brauner Hund", "Hund", "Strand"]),
        ("fr", "un chien près de l'arbre", ["chien", "arbre"]),
        ("es", "un perro en la playa", ["perro", "playa"]),
        ("it", "un cane sull’erba", ["cane", "erba"]),
        ("pt", "um cachorro na praia", ["cachorro", "praia"]),
        ("nl", "een hond op het strand, een bal", ["hond", "strand", "bal"]),
    ],
)
def test_phrases_have_no_stop_words_of_their_language(language, text, phrases):
    assert phrase_candidates(text, ngram_range=(1, 2), stop_words=language) == phrases


def test_only_german_keeps_capitals_and_a_phrase_is_there_once_whatever_its_case():
    assert words_of("Der Hund", "de") == ["Der", "Hund"]
    assert words_of("Le Chien", "fr") == ["le", "chien"]
    assert phrase_candidates("Hund und hund", ngram_range=(1, 1), stop_words="de") == ["Hund"]


@pytest.mark.parametrize(
    ("language", "text", "words"),
    [
        ("hi", "कुत्ता घास पर खड़ा है।", ["कुत्ता", "घास", "पर", "खड़ा", "है", "।"]),
        ("bn", "ঘাসে কুকুর", ["ঘাসে", "কুকুর"]),
        ("fa", "می\u200cخواهم", ["می\u200cخواهم"]),
        ("fr", "cafe\u0301 noir", ["café", "noir"]),
        ("uk", "червоний м'яч, пес", ["червоний", "м'яч", ",", "пес"]),
    ],
)
def test_vowel_signs_accents_and_apostrophes_do_not_split_words_that_have_them(language, text, words):
    normal = [unicodedata.normalize("NFC", word) for word in words]
    assert words_of(text, language) == normal


@pytest.mark.slow
def test_chinese_and_japanese_are_segmented_and_phrases_have_no_spaces():
    chinese = phrase_candidates("一只棕色的狗在海滩上奔跑。", ngram_range=(1, 2), stop_words="zh")
    assert {"棕色", "狗", "海滩"} <= set(chinese)
    assert "一只棕色" in chinese
    japanese = phrase_candidates("茶色の犬が海辺を走っている", ngram_range=(1, 2), stop_words="ja")
    assert {"茶色", "犬", "海辺"} <= set(japanese)
    assert not {"の", "が", "を"} & set(japanese)
    assert words_of("iPhone 犬", "ja") == ["iphone", "犬"]


@pytest.mark.parametrize(
    ("language", "said"),
    [
        ("th", "'th' is written without spaces"),
        ("en", "no stop words for 'en'.*english"),
        (
            "german",
            "'english', the code of another language, a list of words, or None: there are no stop words",
        ),
    ],
)
def test_languages_without_words_are_refused(language, said):
    with pytest.raises(ConfigError, match=said):
        phrase_candidates("x", ngram_range=(1, 1), stop_words=language)


@pytest.mark.parametrize(("language", "package"), [("sv", "stopwordsiso"), ("zh", "jieba"), ("ja", "janome")])
def test_a_missing_package_is_named_with_the_way_out(language, package, monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(other_languages, "find_spec", lambda name: None if name == package else real(name))
    stop_words_of.cache_clear()
    with pytest.raises(ConfigError, match=rf"need {package}: pip install 'autotag-images\[languages\]'"):
        stop_words_of(language)
    stop_words_of.cache_clear()

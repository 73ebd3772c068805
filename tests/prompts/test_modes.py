from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from autotag.prompts.modes import (
    Continuations,
    best_prompt,
    chain,
    classic_prompt,
    fast_prompt,
    negative_prompt,
    plain_prompt,
    top,
    write_side_by_side,
)


def test_caption_then_the_tags_that_say_something_new():
    prompt = plain_prompt("a man riding a horse.", ["horse", "sunset", "beach"])
    assert prompt == "a man riding a horse, sunset, beach"


@pytest.mark.parametrize("tag", ["horse", "Horses", "rides", "riding", "man", "the man", "horse man"])
def test_what_the_caption_says_is_not_repeated_whatever_its_form(tag):
    assert plain_prompt("men ride a horse", [tag]) == "men ride a horse"


@pytest.mark.parametrize("tag", ["brown horse", "horseshoe", "woman"])
def test_what_it_only_half_says_is(tag):
    assert plain_prompt("men ride a horse", [tag]) == f"men ride a horse, {tag}"


def test_a_tag_within_an_earlier_one_is_left_out_but_not_one_spread_over_two():
    tags = ["red dog", "green ball", "dogs", "red ball"]
    assert plain_prompt("", tags) == "red dog, green ball, red ball"


def test_without_a_caption_there_are_tags_only():
    assert plain_prompt(" ", ["dog", "beach"], separator=" | ") == "dog | beach"


@pytest.mark.parametrize(("max_tags", "prompt"), [(0, "a dog"), (1, "a dog, sea"), (None, "a dog, sea, sky")])
def test_max_tags_counts_the_tags_that_stay(max_tags, prompt):
    assert plain_prompt("a dog", ["dog", "sea", "sky"], max_tags=max_tags) == prompt


def test_nothing_gives_nothing():
    assert plain_prompt("", []) == ""


def test_other_languages_are_compared_word_by_word():
    assert plain_prompt("ein Hund läuft", ["Hund", "Wiese"]) == "ein Hund läuft, Wiese"


@dataclass
class Words:
    """Scores a text by its words, and reads so many of them."""

    worth: dict[str, float] = field(default_factory=dict)
    words: int = 1000
    asked: list[list[Continuations]] = field(default_factory=list)

    def score(self, text):
        return sum(self.worth.get(word, 0.0) for word in text.replace(",", "").split())

    def similarities(self, asked, /):
        self.asked.append([continuations for continuations, _ in asked])
        return [
            np.array([self.score(text) for text in continuations.texts()], dtype=np.float32)
            for continuations, _ in asked
        ]

    def fits(self, text, /):
        return len(text.split()) <= self.words


@dataclass
class Ranked:
    """Ranks that are known."""

    parts: dict[str, list[str]]

    def best(self, part, count, /):
        return self.parts.get(part, [])[:count]

    def best_of_all(self, count, /):
        return [label for labels in self.parts.values() for label in labels][:count]

    def worst(self, part, count, /):
        return self.parts.get(part, [])[::-1][:count]


EVERYTHING = Ranked(
    {
        "artists": ["by Ann", "by Bob"],
        "flavors": ["sharp", "soft", "warm", "cold"],
        "mediums": ["a photo"],
        "movements": ["cubism"],
        "trendings": ["flickr"],
    }
)


def written(writing, scorer):
    [prompt] = write_side_by_side([writing], np.zeros((1, 2), dtype=np.float32), scorer)
    return prompt


def test_fast_is_the_caption_and_the_best_of_all():
    assert fast_prompt("a dog.", EVERYTHING, Words(), max_flavors=3) == "a dog, by Ann, by Bob, sharp"


def test_classic_puts_one_of_each_in_order():
    prompt = classic_prompt("a dog", EVERYTHING, Words())
    assert prompt == "a dog, a photo by Ann, flickr, cubism, sharp, soft, warm"


def test_classic_leaves_out_a_medium_that_the_caption_begins_with():
    prompt = classic_prompt("A photo of a dog", EVERYTHING, Words(), max_flavors=1)
    assert prompt == "A photo of a dog by Ann, flickr, cubism, sharp"


@pytest.mark.parametrize("caption", ["", "a dog"])
def test_prompts_are_made_of_what_there_is(caption):
    nothing = Ranked({})
    assert fast_prompt(caption, nothing, Words()) == caption
    assert classic_prompt(caption, nothing, Words()) == caption
    assert written(best_prompt(caption, nothing, Words()), Words()) == caption
    assert written(negative_prompt(nothing, [], Words()), Words()) == ""


def test_one_label_is_enough():
    one = Ranked({"flavors": ["sharp"]})
    assert written(best_prompt("a dog", one, Words()), Words({"sharp": 0.1})) == "a dog, sharp"
    assert written(negative_prompt(one, [], Words()), Words()) == "sharp"


@pytest.mark.parametrize("mode", [fast_prompt, classic_prompt])
def test_no_prompt_is_longer_than_the_encoder_reads(mode):
    limit = Words(words=5)
    assert limit.fits(mode("a dog", EVERYTHING, limit))
    assert mode("a dog " + "very " * 100, EVERYTHING, limit) == "a dog very very very"
    assert limit.fits(written(best_prompt("one two three four five six", EVERYTHING, limit), Words()))


def test_a_word_longer_than_the_encoder_reads_is_cut():
    class Letters(Words):
        def fits(self, text, /):
            return len(text) <= 4

    assert fast_prompt("abcdefgh", EVERYTHING, Letters()) == "abcd"


def test_the_chain_takes_what_helps_most_and_ends_where_nothing_helps():
    scorer = Words({"good": 0.2, "better": 0.3, "bad": -0.1})
    prompt = written(chain("a dog", ["bad", "good", "better"], scorer, min_steps=0), scorer)
    assert prompt == "a dog, better, good"


def test_the_chain_goes_on_for_its_least_steps_and_returns_the_best_on_the_way():
    scorer = Words({"bad": -0.1, "worse": -0.2})
    assert written(chain("a dog", ["bad", "worse"], scorer, min_steps=2), scorer) == "a dog"
    assert [asked[0].start for asked in scorer.asked] == ["", "a dog", "a dog, bad"]


def test_of_equal_phrases_the_first_is_taken_each_time():
    scorer = Words()
    starts = {written(chain("", ["b", "a", "b", "c"], scorer), scorer) for _ in range(3)}
    assert starts == {"b"}


def test_the_chain_leaves_out_what_does_not_fit_and_takes_the_next():
    scorer = Words({"long": 0.5, "short": 0.1}, words=3)
    assert written(chain("a dog", ["very long long", "short"], scorer), scorer) == "a dog, short"


def test_negative_takes_the_least_similar_and_adds_whatever_lowers_the_similarity():
    scorer = Words({"sharp": 0.3, "soft": 0.2, "ugly": 0.1, "blurry": -0.4, "cold": -0.2})
    ranks = Ranked({"flavors": ["sharp", "soft", "cold"]})
    prompt = written(negative_prompt(ranks, ["ugly", "blurry"], scorer, min_flavors=0), scorer)
    assert prompt == "blurry, cold"


def test_negative_goes_below_zero_from_a_positive_first_phrase():
    """The sign of the first similarity counts: a positive one must not outdo all that follow."""
    scorer = Words({"soft": 0.4, "warm": 0.5, "low": -0.3})
    scorer.worth["soft"] = 0.1
    prompt = written(negative_prompt(Ranked({"flavors": ["warm", "soft"]}), [], scorer), scorer)
    assert prompt == "soft"
    scorer = Words({"soft": 0.1, "low": -0.3})
    chained = written(negative_prompt(Ranked({"flavors": ["soft"]}), ["low"], scorer), scorer)
    assert chained == "low"


def test_no_more_phrases_are_added_than_asked_for():
    scorer = Words(dict.fromkeys("abcdefgh", 0.1))
    ranks = Ranked({"flavors": list("abcdefgh")})
    assert written(best_prompt("x", ranks, scorer, max_flavors=2), scorer) == "x, a, b"
    scorer = Words(dict.fromkeys("abcdefgh", -0.1))
    assert written(negative_prompt(ranks, [], scorer, max_flavors=2), scorer) == "h, g"


def test_several_images_ask_together_and_each_gets_its_own():
    scorer = Words({"good": 0.2})
    writings = [chain(start, ["good", "plain"], scorer, min_steps=0) for start in ("a dog", "a cat", "")]
    prompts = write_side_by_side(writings, np.zeros((3, 2), dtype=np.float32), scorer)
    assert prompts == ["a dog, good", "a cat, good", "good"]
    assert len(scorer.asked[0]) == 3


@pytest.mark.parametrize("count", [1, 3, 10, 50])
def test_top_is_the_first_of_a_stable_sort(count):
    scores = np.random.default_rng(0).integers(0, 5, 40).astype(np.float32)
    assert top(scores, count).tolist() == np.argsort(-scores, kind="stable")[:count].tolist()
    assert top(scores, count, lowest=True).tolist() == np.argsort(scores, kind="stable")[:count].tolist()

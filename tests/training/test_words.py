from __future__ import annotations

from autotag.training.words import count_words


def test_words_and_pairs_that_enough_photographs_share_are_counted() -> None:
    captions = [["a brown dog runs", "the dog is brown"], ["a brown dog"], ["two cats"]]
    table = count_words(captions, least=2)
    assert table.words == ["brown", "brown dog", "dog"]
    assert table.present.tolist() == [[True] * 3, [True] * 3, [False] * 3]


def test_a_stop_word_parts_a_pair() -> None:
    assert count_words([["dog on grass"]], least=1).words == ["dog", "grass"]

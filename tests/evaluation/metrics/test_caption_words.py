from __future__ import annotations

import pytest

from autotag.evaluation.metrics.caption_words import content_words, is_said

CAPTIONS = ["Two brown dogs are running on the beach .", "The puppies play in the sand"]


def test_content_words_are_lemmas_without_stop_words():
    assert content_words(CAPTIONS[0]) == {"brown", "dog", "run", "beach"}


@pytest.mark.parametrize("tag", ["dog", "Dogs", "brown dog", "running dog", "sand"])
def test_a_tag_is_said_where_one_caption_has_all_its_words(tag):
    assert is_said(tag, map(content_words, CAPTIONS))


@pytest.mark.parametrize("tag", ["cat", "dog in sand", "brown puppy", "", "..."])
def test_a_tag_is_not_said_where_no_single_caption_has_all_its_words(tag):
    assert not is_said(tag, map(content_words, CAPTIONS))

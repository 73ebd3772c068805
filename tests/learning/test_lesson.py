from __future__ import annotations

import numpy as np
import pytest

from autotag.learning.lesson import learn
from autotag.learning.teaching import Taught


def taught(word, places, removed=()):
    return Taught((word,), tuple(int(place) for place in places), tuple(int(place) for place in removed))


def each_alone(world):
    return np.arange(len(world.vectors))


def reasons(lesson):
    return {str(one): one.reason for one in lesson.refused}


def test_keywords_are_learned_and_proposed_where_they_fit(world):
    seen = world("cat", "dog", photos=600)
    given = [taught(word, [place for place in seen.shown[word] if place < 300]) for word in ("cat", "dog")]
    lesson = learn(given, seen.vectors[:300], np.arange(300), seen.encoder)
    assert [str(one) for one in lesson.learned.keywords] == ["cat", "dog"]
    assert all(one.low <= one.average_precision <= one.high for one in lesson.learned.keywords)
    _, proposed = lesson.learned.suggested(seen.vectors[300:])
    for number, word in enumerate(("cat", "dog")):
        there = np.isin(np.arange(300, 600), seen.shown[word])
        right = (proposed[:, number] & there).sum()
        assert right / proposed[:, number].sum() > 0.8
        assert right / there.sum() > 0.8


def test_a_keyword_of_too_few_photographs_is_refused(world):
    seen = world("cat")
    lesson = learn([taught("cat", seen.shown["cat"][:7])], seen.vectors, each_alone(seen), seen.encoder)
    assert not lesson.learned.keywords
    assert reasons(lesson) == {"cat": "it has 7 of the 8 photographs that are needed"}


def test_a_keyword_of_every_photograph_is_refused(world):
    seen = world("cat")
    lesson = learn([taught("ours", range(300))], seen.vectors, each_alone(seen), seen.encoder)
    assert "every photograph" in reasons(lesson)["ours"]


def test_a_keyword_of_one_event_is_refused(world):
    seen = world("cat")
    groups = each_alone(seen)
    groups[seen.shown["cat"]] = 1000
    lesson = learn([taught("cat", seen.shown["cat"])], seen.vectors, groups, seen.encoder)
    assert "of one event" in reasons(lesson)["cat"]


@pytest.mark.parametrize("seed", range(5))
def test_a_keyword_that_is_given_at_random_is_refused(world, seed):
    seen = world("cat", seed=seed)
    places = np.random.default_rng(seed).choice(300, 20, replace=False)
    lesson = learn([taught("lucky", places)], seen.vectors, each_alone(seen), seen.encoder)
    assert "not above chance" in reasons(lesson)["lucky"]


def test_a_burst_does_not_make_a_random_keyword_look_learned(world):
    """Twelve scenes of 25 photographs each; a keyword on three scenes at random fits no fourth one."""
    draw = np.random.default_rng(7)
    seen = world("cat")
    scenes = np.repeat(np.arange(60), 5)
    vectors = seen.vectors[:60][scenes] + 0.05 * draw.normal(size=seen.vectors.shape).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    places = np.flatnonzero(np.isin(scenes, draw.choice(60, 6, replace=False)))
    keyword = [taught("lucky", places)]
    assert learn(keyword, vectors, np.arange(300), seen.encoder).learned.keywords
    assert not learn(keyword, vectors, scenes, seen.encoder).learned.keywords


def test_a_keyword_removed_twice_from_similar_photographs_is_not_proposed_for_such(world):
    seen = world("cat", "dog", strength=2.0)
    shown = seen.shown["cat"]
    scene = seen.vectors[shown[0]]
    noise = 0.04 * np.random.default_rng(0).normal(size=(4, 32)).astype(np.float32)
    similar = scene + noise
    similar /= np.linalg.norm(similar, axis=1, keepdims=True)
    vectors = np.concatenate([seen.vectors, similar[:3], similar[:1]])
    groups = np.arange(len(vectors))

    def proposed(removed):
        lesson = learn([taught("cat", shown[1:], removed)], vectors, groups, seen.encoder)
        return bool(lesson.learned.suggested(similar[3:])[1][0, 0]), lesson.learned

    assert proposed([300])[1].declined_vectors.shape == (0, 32)
    assert proposed([300, 303])[1].declined_vectors.shape == (0, 32)  # two copies are one photograph
    told, learned = proposed([300, 301, 302])
    assert not told
    assert learned.declined_keywords.tolist() == [0]
    cosines = vectors @ learned.declined_vectors[0]
    assert cosines.max() < 0.99999  # the middle of several, and the vector of none


def test_nothing_to_learn_is_an_empty_lesson(world):
    seen = world("cat")
    lesson = learn([], seen.vectors, each_alone(seen), seen.encoder)
    assert lesson.learned.probabilities(seen.vectors).shape == (300, 0)
    assert lesson.refused == ()

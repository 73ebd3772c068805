from __future__ import annotations

import tracemalloc

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
    assert not proposed([300, 301])[0]
    told, learned = proposed([300, 301, 302])
    assert not told
    assert learned.declined_keywords.tolist() == [0]
    cosines = vectors @ learned.declined_vectors[0]
    assert cosines.max() < 0.99999  # the middle of several, and the vector of none


def similar_to(vector, count, seed=0):
    """Vectors of different photographs of one scene."""
    noise = 0.04 * np.random.default_rng(seed).normal(size=(count, 32)).astype(np.float32)
    rows = vector + noise
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_a_tag_that_nobody_taught_is_declined_for_photographs_like_two_that_lost_it(world):
    seen = world("cat", "dog", strength=2.0)
    scene = similar_to(seen.vectors[seen.shown["dog"][0]], 4)
    vectors = np.concatenate([seen.vectors, scene[:3]])
    given = [taught("cat", seen.shown["cat"]), taught("Wolf", [], [300, 301, 302]), taught("fox", [], [300])]
    learned = learn(given, vectors, np.arange(len(vectors)), seen.encoder).learned
    assert [str(one) for one in learned.keywords] == ["cat"]
    assert learned.others == ("Wolf",)
    assert learned.unwanted == ()
    far = seen.vectors[[place for place in range(300) if seen.vectors[place] @ scene[3] < 0.5][:1]]
    assert learned.declined(scene[3:]).tolist() == [[False, True]]
    assert learned.declined(far).tolist() == [[False, False]]


def test_a_keyword_that_was_refused_is_declined_where_it_was_removed_twice(world):
    seen = world("cat", strength=2.0)
    scene = similar_to(seen.vectors[0], 3)
    vectors = np.concatenate([seen.vectors, scene[:2]])
    lesson = learn([taught("few", [5, 6, 7], [300, 301])], vectors, np.arange(302), seen.encoder)
    assert reasons(lesson) == {"few": "it has 3 of the 8 photographs that are needed"}
    assert lesson.learned.others == ("few",)
    assert lesson.learned.declined(scene[2:]).tolist() == [[True]]


def test_a_tag_that_is_nearly_always_wrong_is_unwanted(world):
    seen = world("cat")
    five = [taught("snapshot", [], range(5))]

    def unwanted(given, groups=None, **standing):
        groups = each_alone(seen) if groups is None else groups
        return learn(given, seen.vectors, groups, seen.encoder, standing=standing).learned.unwanted

    assert unwanted(five) == ("snapshot",)
    assert unwanted([taught("snapshot", [], range(4))]) == ()
    assert unwanted(five, snapshot=1) == ()
    assert unwanted([taught("Snapshot", [], range(8))], snapshot=1) == ("Snapshot",)
    assert unwanted([taught("snapshot", [100], range(5))]) == ()
    assert unwanted(five, np.zeros(300, dtype=np.intp)) == ()  # one event


def test_a_keyword_that_people_took_out_of_most_photographs_is_refused(world):
    seen = world("cat")
    cat = taught("cat", seen.shown["cat"][:8], np.setdiff1d(np.arange(300), seen.shown["cat"])[:60])
    lesson = learn([cat], seen.vectors, each_alone(seen), seen.encoder)
    assert "took it out of most" in reasons(lesson)["cat"]
    assert lesson.learned.unwanted == ("cat",)


@pytest.mark.slow
def test_thousands_of_keywords_do_not_hold_all_their_logits(world):
    """The peak of 200 keywords exceeds that of 80 by less than half the logits of the other 120."""
    seen = world("cat", photos=2000)
    draw = np.random.default_rng(0)
    many = [taught(f"word {number}", np.sort(draw.choice(2000, 8, replace=False))) for number in range(200)]

    def peak(keywords):
        tracemalloc.start()
        learn(keywords, seen.vectors, each_alone(seen), seen.encoder, ridge=1.0)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("autotag.learning.heads._ENTRIES_AT_ONCE", 2000 * 20)
        few, all_of_them = peak(many[:80]), peak(many)
    assert all_of_them < few + 120 * 2000 * 4 / 2


def test_nothing_to_learn_is_an_empty_lesson(world):
    seen = world("cat")
    lesson = learn([], seen.vectors, each_alone(seen), seen.encoder)
    assert lesson.learned.probabilities(seen.vectors).shape == (300, 0)
    assert lesson.refused == ()

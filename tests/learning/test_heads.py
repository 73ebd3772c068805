from __future__ import annotations

import numpy as np
import pytest

from autotag.learning.heads import fit_heads, sigmoid

NONE = np.empty(0, dtype=np.intp)


def average_precision(scores, places):
    there = np.zeros(len(scores), dtype=bool)
    there[places] = True
    found = np.flatnonzero(there[np.argsort(-scores)])
    return (np.arange(1, len(found) + 1) / (found + 1)).mean()


def priors(world, *words):
    return world.encoder.embed_texts(list(words))


def test_a_head_is_the_minimum_of_its_loss(world):
    """Compared with scikit-learn, without a prior, where every negative is certain."""
    from sklearn.linear_model import LogisticRegression

    from autotag.learning.heads import Space

    seen = world("cat", "dog")
    given = [seen.shown["cat"], seen.shown["dog"]]
    removed = [np.setdiff1d(np.arange(300), places) for places in given]
    heads, _ = fit_heads(seen.vectors, given, np.zeros((2, 32), dtype=np.float32), removed=removed, ridge=1.0)
    rows = Space.of(seen.vectors).rows
    for number, places in enumerate(given):
        there = np.isin(np.arange(300), places)
        theirs = LogisticRegression(C=1.0, tol=1e-8, max_iter=1000).fit(rows, there)
        ours = heads.logits(seen.vectors)[:, number]
        assert ours == pytest.approx(theirs.decision_function(rows), abs=0.02)


def test_few_photographs_start_from_what_the_text_says(world):
    seen = world("cat", "dog", "fox", photos=600, strength=0.8)
    judged = slice(300, 600)
    given = [seen.shown[word][seen.shown[word] < 300] for word in ("cat", "dog", "fox")]
    few = [given[0][:2], given[1], given[2]]
    texts = priors(seen, "cat", "dog", "fox")
    with_prior, _ = fit_heads(seen.vectors[:300], few, texts)
    without, _ = fit_heads(seen.vectors[:300], few, np.zeros_like(texts))
    truth = seen.shown["cat"][seen.shown["cat"] >= 300] - 300
    informed = average_precision(with_prior.logits(seen.vectors[judged])[:, 0], truth)
    blank = average_precision(without.logits(seen.vectors[judged])[:, 0], truth)
    assert informed > blank + 0.1


def test_photographs_teach_what_the_text_does_not_say(world):
    seen = world("cat", photos=600)
    given = [seen.shown["cat"][seen.shown["cat"] < 300]]
    heads, _ = fit_heads(seen.vectors[:300], given, priors(seen, "a name that nobody knows"))
    truth = seen.shown["cat"][seen.shown["cat"] >= 300] - 300
    assert average_precision(heads.logits(seen.vectors[300:])[:, 0], truth) > 0.9


def test_keywords_missing_on_half_of_their_photographs_cost_little(world):
    seen = world("cat", "dog", photos=900, strength=2.0)
    draw = np.random.default_rng(1)
    given = [seen.shown[word][seen.shown[word] < 600] for word in ("cat", "dog")]
    half = [np.sort(draw.permutation(places)[: len(places) // 2]) for places in given]
    texts = priors(seen, "cat", "dog")
    for number, word in enumerate(("cat", "dog")):
        truth = seen.shown[word][seen.shown[word] >= 600] - 600
        whole, less = (
            average_precision(
                fit_heads(seen.vectors[:600], some, texts)[0].logits(seen.vectors[600:])[:, number], truth
            )
            for some in (given, half)
        )
        assert whole - less < 0.05


def test_a_photograph_from_which_a_keyword_was_removed_scores_lower_than_one_that_lacks_it(world):
    seen = world("cat")
    given, missing = seen.shown["cat"][:-5], seen.shown["cat"][-5:]
    texts = priors(seen, "cat")
    plain, _ = fit_heads(seen.vectors, [given], texts)
    told, _ = fit_heads(seen.vectors, [given], texts, removed=[missing])
    before, after = (heads.logits(seen.vectors[missing])[:, 0] for heads in (plain, told))
    assert (after < before).all()


def test_cross_validated_logits_come_from_heads_that_did_not_see_the_photograph(world):
    """Keywords that are given at random look learned to the heads that saw them, and to no other."""
    seen = world("cat")
    places = np.sort(np.random.default_rng(3).choice(300, 30, replace=False))
    heads, [crossed] = fit_heads(
        seen.vectors, [places], np.zeros((1, 32), dtype=np.float32), ridge=0.01, folds=np.arange(300) % 3
    )
    by_heart = average_precision(heads.logits(seen.vectors)[:, 0], places)
    assert by_heart > average_precision(crossed, places) + 0.1


@pytest.mark.parametrize("count", [2, 3, 5])
def test_keywords_given_at_random_do_not_look_learned_by_way_of_the_weights(count):
    """The weights of unlabelled photographs are of heads that did not see the judged ones either."""
    draw = np.random.default_rng(0)
    vectors = draw.normal(size=(600, 128)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    given = [np.flatnonzero(draw.random(600) < 0.3) for _ in range(20)]
    _, crossed = fit_heads(vectors, given, np.zeros((20, 128), np.float32), folds=np.arange(600) % count)
    found = np.mean([average_precision(*pair) for pair in zip(crossed, given, strict=True)])
    assert found == pytest.approx(0.3, abs=0.03)


def test_blocks_of_keywords_do_not_change_the_heads(world, monkeypatch):
    seen = world("cat", "dog", "fox")
    given = [seen.shown[word] for word in ("cat", "dog", "fox")]
    texts = np.zeros((3, 32), dtype=np.float32)
    whole, crossed = fit_heads(seen.vectors, given, texts, folds=np.arange(300) % 3)
    monkeypatch.setattr("autotag.learning.heads._ENTRIES_AT_ONCE", 300)
    parts, again = fit_heads(seen.vectors, given, texts, folds=np.arange(300) % 3)
    assert parts.weights == pytest.approx(whole.weights, abs=1e-2)
    assert np.stack(again) == pytest.approx(np.stack(crossed), abs=5e-2)


def test_the_sigmoid_of_any_logit_is_a_probability():
    assert sigmoid(np.array([-1e30, 0, 1e30], dtype=np.float32)).tolist() == [0, 0.5, 1]

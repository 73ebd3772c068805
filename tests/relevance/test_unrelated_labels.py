from __future__ import annotations

import numpy as np
import pytest

from autotag.errors import ConfigError
from autotag.relevance.unrelated_labels import UnrelatedLabels, unrelated_labels
from autotag.testing import FakeEncoder, make_image


def test_the_labels_are_distinct_single_words_and_enough_to_be_kept_on_disk():
    labels = unrelated_labels()
    assert len(set(labels)) == len(labels) >= 256
    assert all(label.isalpha() and label.islower() for label in labels)


def test_levels_are_those_of_the_labels_cosines_in_the_template():
    encoder = FakeEncoder()
    vectors = encoder.embed_images([make_image("red"), make_image("blue")])
    texts = encoder.embed_texts([f"a drawing of {label}" for label in unrelated_labels()])
    cosines = vectors @ texts.T
    levels = UnrelatedLabels(encoder, "a drawing of {}").levels(vectors)
    assert levels.shape == (2, 2)
    middles = np.median(cosines, axis=1)
    units = np.percentile(cosines, 95, axis=1) - middles
    np.testing.assert_allclose(levels, np.stack([middles, units], 1), rtol=1e-4)


def test_the_labels_are_embedded_once_per_encoder_and_template():
    first, second, third = FakeEncoder(), FakeEncoder(), FakeEncoder(id="another")
    for encoder in (first, second, third):
        UnrelatedLabels(encoder, "a photo of {}")
    assert [len(encoder.text_batches) for encoder in (first, second, third)] == [1, 0, 1]
    UnrelatedLabels(second, "{}")
    assert second.text_batches == [len(unrelated_labels())]


class Blind(FakeEncoder):
    """Knows one word."""

    def embed_texts(self, texts, /):
        return super().embed_texts(["dog" if "dog" in text else "a" for text in texts])


def test_an_encoder_that_tells_few_labels_apart_is_refused_with_the_way_out():
    with pytest.raises(
        ConfigError, match=r"'blind' has only 2 different vectors for \d+ unrelated labels.*'cosine'"
    ):
        UnrelatedLabels(Blind(id="blind"), "{}")

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import autotag
from autotag.albums.settings import settings_of
from autotag.errors import ConfigError, ModelLoadError, ModelUnavailableError
from autotag.models.classifiers.keyword_classifier import KeywordClassifier
from autotag.models.names import parse_name
from autotag.models.pool import ModelPool
from autotag.protocols import Classifier, thresholds_of
from autotag.relevance.learned_keywords import LearnedKeyword, LearnedKeywords
from autotag.stages import ClassifyImages
from autotag.testing import make_image


@pytest.fixture(scope="module")
def encoder():
    return ModelPool(encoder="clip-mini").encoder()


@pytest.fixture
def learned(encoder):
    """Red and blue, each told by the vector of its own picture."""
    red, blue = encoder.embed_images([make_image("red"), make_image("blue")])
    middle = (red + blue) / 2
    weights = np.stack([red - blue, blue - red]) * 400
    return LearnedKeywords(
        encoder=encoder.id,
        photographs=40,
        keywords=tuple(
            LearnedKeyword(path, 12, 0.8, 0.6, 0.9, 0.9) for path in (("Colours", "red"), ("blue",))
        ),
        weights=weights.astype(np.float32),
        biases=(-weights @ middle).astype(np.float32),
        declined_vectors=np.zeros((0, len(red)), dtype=np.float32),
        declined_keywords=np.zeros(0, dtype=np.int64),
        encoder_name="clip-mini",
    )


def test_a_file_of_keywords_is_a_classifier_in_a_pipeline(learned, tmp_path):
    learned.save(tmp_path / "colours.tags")
    with autotag.Pipeline([ClassifyImages(str(tmp_path / "colours.tags"))]) as tagger:
        assert tagger(make_image("red")).tag_texts == ("red",)
        assert tagger(make_image("blue")).tag_texts == ("blue",)


def test_labels_thresholds_and_probabilities_are_those_of_the_file(learned, encoder):
    classifier = KeywordClassifier(learned, encoder)
    assert isinstance(classifier, Classifier)
    assert classifier.labels == ("red", "blue")
    assert thresholds_of(classifier) == (0.9, 0.9)
    assert classifier.image_size == 224
    images = [make_image("red"), make_image("blue"), make_image("green")]
    found = classifier.classify(images)
    assert found == pytest.approx(learned.probabilities(encoder.embed_images(images)), abs=1e-6)
    assert classifier.classify([]).shape == (0, 2)


def test_a_declined_keyword_has_no_probability(learned, encoder):
    declined = replace(
        learned,
        declined_vectors=encoder.embed_images([make_image("red")]),
        declined_keywords=np.zeros(1, dtype=np.int64),
    )
    found = KeywordClassifier(declined, encoder).classify([make_image("red"), make_image("blue")])
    assert found[0, 0] == 0
    assert found[1, 1] > 0.9


def test_a_missing_file_another_encoder_and_a_nameless_one_are_refused(learned, tmp_path):
    for name in ("none.tags", "learned:none.tags", "learned:"):
        with pytest.raises(ModelUnavailableError, match="autotag learn"):
            parse_name(name, "classifier")
    file = tmp_path / "colours.tags"
    replace(learned, encoder="another").save(file)
    with pytest.raises(ConfigError, match="learned with encoder 'clip-mini' "):
        ModelPool().classifier(str(file))
    replace(learned, encoder_name="").save(file)
    with pytest.raises(ModelLoadError, match="suggest_keywords"):
        ModelPool().classifier(f"learned:{file}")


def test_keywords_that_are_learned_again_are_other_settings_of_an_album(learned, tmp_path):
    file = tmp_path / "colours.tags"
    learned.save(file)
    pipeline = autotag.Pipeline([ClassifyImages(f"learned:{file}")])
    before, _ = settings_of(pipeline)
    assert settings_of(pipeline)[0] == before
    replace(learned, biases=learned.biases + 1).save(file)
    assert settings_of(pipeline)[0] != before

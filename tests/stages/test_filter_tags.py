from __future__ import annotations

import numpy as np
import pytest

from autotag.errors import ConfigError
from autotag.records import Tag
from autotag.relevance.embeddings import image_vectors
from autotag.relevance.scores import STANDARDISED_CUT
from autotag.relevance.unrelated_labels import unrelated_labels
from autotag.stages import FilterTags
from autotag.testing import FakeEncoder, FakeModels, check_stage, make_sample

SIMILARITIES = {"dog": 0.5, "sea": 0.3, "car": 0.1}
SHIFT = 0.6
TAGS = {"car": 0.9, "sea": 0.8, "dog": 0.7}


class ShiftedEncoder(FakeEncoder):
    """Another encoder that sees the same: its cosines are higher and closer together."""

    def embed_images(self, images, /):
        return shifted(super().embed_images(images))

    def embed_texts(self, texts, /):
        return shifted(super().embed_texts(texts))


def shifted(rows):
    shared = np.full((len(rows), 1), SHIFT**0.5, dtype=np.float32)
    return np.concatenate([rows * (1 - SHIFT) ** 0.5, shared], axis=1)


def filtered(stage, encoder=None, tags=TAGS):
    stage.setup(FakeModels(fake_encoder=encoder or FakeEncoder(SIMILARITIES)))
    sample = make_sample(tags=tags)
    stage([sample])
    return sample.tags


def test_it_keeps_the_contract():
    check_stage(FilterTags())
    check_stage(FilterTags(score="cosine"))
    check_stage(FilterTags(score="cosine", threshold=-1.0, top_k=None, encoder="clip-mini"))
    check_stage(FilterTags(score="standardised", threshold=1.0))


def test_tags_that_fit_the_image_stay_best_first():
    assert [tag.text for tag in filtered(FilterTags(score="cosine", threshold=0.25))] == ["dog", "sea"]


def test_a_tag_with_exactly_the_threshold_stays():
    [dog] = filtered(FilterTags(score="cosine", threshold=0.4))
    assert [tag.text for tag in filtered(FilterTags(score="cosine", threshold=dog.score))] == ["dog"]
    above = float(np.nextafter(dog.score, 1))
    assert filtered(FilterTags(score="cosine", threshold=above)) == []


def test_every_tag_keeps_its_scores_and_its_source():
    (tag,) = filtered(FilterTags(score="cosine", threshold=0.4))
    assert tag.score == pytest.approx(0.5, abs=1e-6)
    assert tag == Tag("dog", tag.score, "fake", {"fake": 0.7, "filter_tags": tag.score})


def test_the_default_threshold_is_the_encoders():
    strict = FakeEncoder(SIMILARITIES, default_thresholds={"cosine": 0.4})
    lax = FakeEncoder(SIMILARITIES, default_thresholds={"cosine": 0.0})
    assert [tag.text for tag in filtered(FilterTags(score="cosine"), strict)] == ["dog"]
    assert [tag.text for tag in filtered(FilterTags(score="cosine"), lax)] == ["dog", "sea", "car"]


def test_an_encoder_without_default_is_refused_with_the_ways_out():
    unknown = FakeModels(fake_encoder=FakeEncoder(id="new-clip", default_thresholds={"sigmoid": 0.5}))
    with pytest.raises(
        ConfigError, match=r"'new-clip' has no default .*filter_tags\.threshold=-1\.0 to keep the top_k best"
    ):
        FilterTags(score="cosine").setup(unknown)
    FilterTags(score="cosine", threshold=-1.0).setup(unknown)


def test_top_k_keeps_the_best():
    assert [tag.text for tag in filtered(FilterTags(score="cosine", threshold=-1.0, top_k=2))] == [
        "dog",
        "sea",
    ]
    many = {f"tag {number}": 0.5 for number in range(15)}
    assert len(filtered(FilterTags(score="cosine", threshold=-1.0), tags=many)) == 10
    assert len(filtered(FilterTags(score="cosine", threshold=-1.0, top_k=None), tags=many)) == 15


def test_equal_scores_are_ordered_by_text():
    twins = [Tag.proposed(text, 0.5, "fake") for text in ("dog", "Dog", "dog")]
    encoder = FakeEncoder({"dog": 0.0, "Dog": 0.0})
    assert [tag.text for tag in filtered(FilterTags(score="cosine", threshold=-1.0), encoder, twins)] == [
        "Dog",
        "dog",
        "dog",
    ]


def test_a_tag_with_braces_is_a_tag_like_others():
    encoder = FakeEncoder({"a photo of my {} {0} dog": 0.6})
    (tag,) = filtered(FilterTags(score="cosine", threshold=0.5), encoder, {"my {} {0} dog": 0.1})
    assert tag.text == "my {} {0} dog"


def test_the_template_is_what_the_encoder_reads():
    encoder = FakeEncoder({"a drawing of dog": 0.9})
    (tag,) = filtered(
        FilterTags(score="cosine", threshold=0.8, template="a drawing of {}"), encoder, {"dog": 0.1}
    )
    assert tag.text == "dog"


def test_a_batch_costs_one_call_per_modality_and_known_texts_none():
    encoder = FakeEncoder(SIMILARITIES)
    stage = FilterTags(score="cosine")
    stage.setup(FakeModels(fake_encoder=encoder))
    stage([make_sample(tags=TAGS), make_sample(tags={"dog": 0.1}), make_sample()])
    stage([make_sample(tags=TAGS)])
    assert encoder.image_batches == [2, 1]
    assert encoder.text_batches == [3]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"threshold": 1.5, "score": "cosine"},
            r"filter_tags\.threshold is 1\.5; allowed: a number from -1 to 1",
        ),
        (
            {"threshold": 101, "score": "standardised"},
            r"filter_tags\.threshold is 101\.0; allowed: a number from -100 to 100",
        ),
        ({"threshold": 1.5}, r"filter_tags\.threshold = 1\.5 is not a cosine .*; .*filter_tags\.score"),
        ({"score": "sigmoid"}, r"filter_tags: score = 'sigmoid' does not fit; it takes one of 'cosine'"),
        ({"top_k": 0}, r"filter_tags\.top_k is 0"),
        ({"template": "{} {}"}, r"filter_tags\.template is '\{\} \{\}'"),
        ({"encoder": "clip-minni"}, "clip-mini"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        FilterTags(**options)


def test_a_vector_made_ahead_is_used_and_changes_nothing():
    encoder = FakeEncoder(SIMILARITIES)
    stage = FilterTags()
    stage.setup(FakeModels(fake_encoder=encoder))
    prepared, plain = make_sample(tags=TAGS), make_sample(tags=TAGS)
    image_vectors([prepared], stage.image_encoder)
    stage([prepared])
    assert encoder.image_batches == [1]
    stage([plain])
    assert prepared.tags == plain.tags


def test_a_standardised_score_says_how_far_a_tag_stands_above_unrelated_labels():
    encoder = FakeEncoder(SIMILARITIES)
    image = encoder.embed_images([make_sample().image])
    cosines = image @ encoder.embed_texts([f"a photo of {label}" for label in unrelated_labels()]).T
    [tag] = filtered(FilterTags(score="standardised", threshold=1.5), encoder, {"dog": 0.7, "car": 0.9})
    middle, high = np.percentile(cosines, [50, 95])
    assert tag.score == pytest.approx((0.5 - middle) / (high - middle), rel=1e-4)


def test_a_standardised_tag_keeps_its_cosine_too():
    [tag] = filtered(FilterTags(score="standardised", threshold=1.5), tags={"dog": 0.7})
    assert list(tag.scores) == ["fake", "filter_tags.cosine", "filter_tags"]
    assert tag.scores["filter_tags.cosine"] == pytest.approx(0.5, abs=1e-6)
    assert tag.score == tag.scores["filter_tags"]


def test_an_encoder_with_other_cosines_gives_the_same_standardised_scores():
    stage = FilterTags(score="standardised", threshold=-100.0)
    plain = filtered(stage, FakeEncoder(SIMILARITIES, id="plain"))
    other = filtered(stage, ShiftedEncoder(SIMILARITIES, id="shifted"))
    assert [tag.text for tag in other] == [tag.text for tag in plain] == ["dog", "sea", "car"]
    assert [tag.score for tag in other] == pytest.approx([tag.score for tag in plain], abs=1e-3)
    assert other[0].scores["filter_tags.cosine"] == pytest.approx(SHIFT + (1 - SHIFT) * 0.5, abs=1e-5)


def test_standardised_scores_of_a_batch_are_those_of_its_images_alone():
    stage = FilterTags(score="standardised", threshold=-100.0)
    stage.setup(FakeModels(fake_encoder=FakeEncoder(SIMILARITIES)))
    together = [make_sample("red", tags=TAGS), make_sample("blue"), make_sample("blue", tags=TAGS)]
    alone = [make_sample("red", tags=TAGS), make_sample("blue", tags=TAGS)]
    stage(together)
    for sample in alone:
        stage([sample])
    assert together[1].tags == []
    for one, other in zip([together[0], together[2]], alone, strict=True):
        assert [tag.score for tag in one.tags] == pytest.approx([tag.score for tag in other.tags], abs=1e-4)


def test_the_unrelated_labels_cost_one_call_per_encoder_and_none_per_batch():
    encoder = FakeEncoder(SIMILARITIES)
    stage = FilterTags(score="standardised", threshold=1.5)
    stage.setup(FakeModels(fake_encoder=encoder))
    assert encoder.text_batches == [len(unrelated_labels())]
    for _ in range(2):
        stage([make_sample(tags=TAGS)])
    assert encoder.text_batches == [len(unrelated_labels()), 3]


def test_what_is_cut_by_default_is_standardised_at_one_cut_for_every_encoder():
    for encoder in (
        FakeEncoder(SIMILARITIES, id="plain", default_thresholds={}, default_score="standardised"),
        ShiftedEncoder(
            SIMILARITIES,
            id="shifted",
            default_thresholds={"standardised": 1.5, "cosine": 0.0},
            default_score="standardised",
        ),
    ):
        by_default = filtered(FilterTags(), encoder)
        named = FilterTags(score="standardised", threshold=STANDARDISED_CUT)
        assert by_default == filtered(named, encoder)
        assert [tag.text for tag in by_default] == ["dog"]


def test_a_cut_that_was_fitted_to_the_encoder_goes_before_the_one_for_all():
    fitted = FakeEncoder(SIMILARITIES, default_thresholds={"cosine": 0.05})
    assert filtered(FilterTags(), fitted) == filtered(FilterTags(score="cosine", threshold=0.05), fitted)


def test_a_threshold_without_its_score_is_one_of_cosines():
    alone = filtered(FilterTags(threshold=0.25))
    assert alone == filtered(FilterTags(score="cosine", threshold=0.25))
    assert [tag.text for tag in alone] == ["dog", "sea"]


def test_an_encoder_may_bring_a_standardised_cut_of_its_own():
    lax = FakeEncoder(SIMILARITIES, default_thresholds={"standardised": -100.0}, default_score="standardised")
    assert [tag.text for tag in filtered(FilterTags(), lax)] == ["dog", "sea", "car"]

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from autotag.protocols import CaptionOptions, KeyphraseOptions
from autotag.testing import (
    FakeCaptioner,
    FakeDetector,
    FakeEncoder,
    FakeExtractor,
    FakeModels,
    check_captioner,
    check_detector,
    check_encoder,
    check_extractor,
    make_image,
    make_sample,
    make_samples,
)


def test_every_fake_keeps_its_contract() -> None:
    check_captioner(FakeCaptioner())
    check_captioner(FakeCaptioner(text="a dog"))
    check_extractor(FakeExtractor())
    check_encoder(FakeEncoder())
    check_encoder(FakeEncoder({"dog": 0.5}))
    check_detector(FakeDetector())


def test_the_captioner_names_the_colour() -> None:
    images = [make_image(colour) for colour in ("red", "blue", "white")]
    rows = FakeCaptioner().caption(images, CaptionOptions())
    assert [row[0].text for row in rows] == ["a red picture", "a blue picture", "a white picture"]


def test_the_captioner_continues_a_prompt_and_gives_as_many_as_asked() -> None:
    options = CaptionOptions(prompt="a photo of", num_beams=3, num_captions=3)
    (captions,) = FakeCaptioner(text="a dog").caption([make_image()], options)
    assert [caption.text for caption in captions] == [
        "a photo of a dog",
        "a photo of a dog, version 2",
        "a photo of a dog, version 3",
    ]
    assert [caption.score for caption in captions] == [-1.0, -2.0, -3.0]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (KeyphraseOptions(), ["red", "dog", "grass", "red dog", "dog grass"]),
        (KeyphraseOptions(top_n=2), ["red", "dog"]),
        (KeyphraseOptions(ngram_range=(2, 2)), ["red dog", "dog grass"]),
        (KeyphraseOptions(stop_words=("red", "on")), ["a", "dog", "the", "grass", "a dog"]),
        (KeyphraseOptions(stop_words=None, top_n=3), ["a", "red", "dog"]),
    ],
)
def test_the_extractor_follows_the_options(options: KeyphraseOptions, expected: list[str]) -> None:
    (row,) = FakeExtractor().extract(["a red dog on the grass"], options)
    assert [phrase for phrase, _ in row] == expected


def test_scripted_cosines_are_exact_for_every_image_and_template() -> None:
    encoder = FakeEncoder({"dog": 0.31, "hot dog": -0.2})
    images = encoder.embed_images([make_image("red"), make_image("blue")])
    texts = encoder.embed_texts(["dog", "a photo of a dog", "a photo of hot dog"])
    assert np.allclose(images @ texts.T, [[0.31, 0.31, -0.2]] * 2, atol=1e-6)


def test_a_key_counts_only_as_whole_words() -> None:
    encoder = FakeEncoder({"cat": 0.9})
    cosine = float((encoder.embed_images([make_image()]) @ encoder.embed_texts(["cattle"]).T)[0, 0])
    assert cosine < 0.5


def test_other_texts_have_a_cosine_of_their_own_with_each_image() -> None:
    encoder = FakeEncoder()
    images = encoder.embed_images([make_image(colour) for colour in ("red", "green", "blue")])
    cosines = images @ encoder.embed_texts([f"tag {number}" for number in range(200)]).T
    assert len(np.unique(cosines)) == cosines.size
    assert cosines.min() > -0.1
    assert cosines.max() < 0.5


def test_a_cosine_out_of_reach_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'dog' must be in \[-0.95, 0.95\]"):
        FakeEncoder({"dog": 1.0})


def test_vectors_are_the_same_in_another_process() -> None:
    program = (
        "from autotag.testing import FakeEncoder, make_image\n"
        "encoder = FakeEncoder()\n"
        "image, text = encoder.embed_images([make_image()])[0, 1], encoder.embed_texts(['dog'])[0, 1]\n"
        "print(float(image), float(text))\n"
        "import sys; print('torch' in sys.modules)\n"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True)
    encoder = FakeEncoder()
    image, text = encoder.embed_images([make_image()])[0, 1], encoder.embed_texts(["dog"])[0, 1]
    assert done.stdout == f"{float(image)} {float(text)}\nFalse\n"


def test_fakes_remember_how_they_were_called() -> None:
    detector, encoder = FakeDetector(), FakeEncoder()
    detector.detect([make_image()] * 3)
    encoder.embed_images([make_image()] * 2)
    encoder.embed_texts(["a"])
    assert (detector.batches, encoder.image_batches, encoder.text_batches) == ([3], [2], [1])


def test_models_return_a_fake_for_a_name_and_an_object_for_itself() -> None:
    models = FakeModels()
    own = FakeCaptioner()
    assert models.captioner("blip-base") is models.captioner("blip-large") is models.fake_captioner
    assert models.captioner(own) is own
    assert models.encoder() is models.encoder("clip-mini") is models.fake_encoder
    assert models.extractor("minilm") is models.fake_extractor
    assert models.detector("any") is models.fake_detector
    assert models.asked[0] == ("captioner", "blip-base")


def test_a_sample_is_made_of_what_earlier_stages_would_have_written() -> None:
    sample = make_sample(captions=["a dog"], tags={"dog": 0.5}, extras={"key": 1})
    assert sample.captions[0].text == "a dog"
    assert sample.tags[0].scores == {"fake": 0.5}
    assert sample.extras == {"key": 1}
    assert sample.image.size == sample.size


def test_samples_are_fresh_each_time() -> None:
    make_samples()[0].tags.clear()
    assert make_samples()[0].tags

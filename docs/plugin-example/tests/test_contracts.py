"""The contracts of autotag, each checked by one call."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from autotag.errors import ConfigError
from autotag.protocols import CaptionOptions, KeyphraseOptions
from autotag.records import Result, Tag
from autotag.testing import (
    FakeDetector,
    FakeModels,
    check_captioner,
    check_classifier,
    check_detector,
    check_encoder,
    check_extractor,
    check_stage,
    check_writer,
    make_image,
    make_sample,
)
from autotag_plugin_example.blocklist_tags import BlocklistTags
from autotag_plugin_example.bright_detector import BrightDetector
from autotag_plugin_example.colour_captioner import ColourCaptioner
from autotag_plugin_example.colour_encoder import ColourEncoder
from autotag_plugin_example.csv_writer import CsvWriter
from autotag_plugin_example.find_regions import FindRegions
from autotag_plugin_example.light_classifier import LightClassifier
from autotag_plugin_example.word_extractor import WordExtractor


def test_everything_keeps_its_contract() -> None:
    check_stage(BlocklistTags(("dog",)))
    check_stage(FindRegions())
    check_captioner(ColourCaptioner())
    check_extractor(WordExtractor())
    check_encoder(ColourEncoder())
    check_detector(BrightDetector())
    check_writer(CsvWriter)


def test_blocked_tags_are_dropped_whatever_their_case() -> None:
    sample = make_sample(tags={"Dog": 0.9, "grass": 0.8, "hot dog": 0.7})
    BlocklistTags(("dog",))([sample])
    assert [tag.text for tag in sample.tags] == ["grass", "hot dog"]


def test_the_captioner_names_the_commonest_colour_first() -> None:
    image = make_image("blue", (40, 40))
    image.paste((40, 140, 50), (0, 0, 10, 40))
    captions = ColourCaptioner().caption([image], CaptionOptions(num_captions=2, num_beams=2))[0]
    assert [caption.text for caption in captions] == ["a picture in blue", "a picture in green"]
    assert [caption.score for caption in captions] == pytest.approx([0.75, 0.25], abs=0.02)


def test_the_captioner_refuses_more_captions_than_colours() -> None:
    with pytest.raises(ConfigError, match="11 colours"):
        ColourCaptioner().caption([make_image()], CaptionOptions(num_captions=12, num_beams=12))


def test_the_extractor_prefers_long_and_frequent_words() -> None:
    found = WordExtractor().extract(["the red dog and the red elephant"], KeyphraseOptions())[0]
    assert [word for word, _ in found] == ["elephant", "red", "dog"]
    assert sum(score**2 for _, score in found) == pytest.approx(1)


@pytest.mark.parametrize("options", [KeyphraseOptions(diversity=0.5), KeyphraseOptions(ngram_range=(2, 2))])
def test_the_extractor_refuses_what_it_cannot_do(options: KeyphraseOptions) -> None:
    with pytest.raises(ConfigError):
        WordExtractor().extract(["a red dog"], options)


def test_a_picture_is_nearest_to_the_name_of_its_colour() -> None:
    encoder = ColourEncoder()
    image_vector = encoder.embed_images([make_image("green")])[0]
    named, unnamed, other = encoder.embed_texts(["a photo of green", "a photo of a dog", "a photo of red"])
    assert named @ image_vector > unnamed @ image_vector > other @ image_vector


def test_the_classifier_keeps_its_contract_and_sees_the_light() -> None:
    check_classifier(LightClassifier())
    light, dark = LightClassifier().classify([make_image("white"), make_image("black")])
    assert light[0] > 0.9
    assert dark[0] < 0.1


def test_the_detector_finds_the_bright_part() -> None:
    image = Image.new("RGB", (40, 20), "black")
    image.paste("white", (10, 5, 30, 15))
    assert [found.box for found in BrightDetector().detect([image])[0]] == [(10, 5, 30, 15)]


def test_boxes_come_out_in_pixels_of_the_file() -> None:
    sample = make_sample(size=(40, 20))
    sample.size = (400, 200)  # the file is ten times as large as what was decoded
    stage = FindRegions()
    stage.setup(FakeModels(fake_detector=FakeDetector()))
    stage([sample])
    assert sample.detections[0].box == (100, 50, 300, 150)


def test_a_least_score_out_of_range_is_refused() -> None:
    with pytest.raises(ConfigError, match="from 0 to 1"):
        FindRegions(least_score=2)


def test_rows_survive_commas_and_line_breaks() -> None:
    stream = io.StringIO(newline="")
    writer = CsvWriter(stream)
    writer.write(Result("a,\r\nb\r.jpg", (1, 1), tags=(Tag("red", 0.5, "x"), Tag("dog", 0.4, "x"))))
    writer.close()
    assert stream.getvalue() == '"file","caption","tags","error"\n"a,\r\nb\r.jpg","","red; dog",""\n'

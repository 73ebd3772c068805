from __future__ import annotations

import builtins
import json
import shutil

import pytest
from PIL import Image

from autotag.errors import ConfigError, ModelLoadError, ModelUnavailableError
from autotag.models.names import check_model
from autotag.models.pool import ModelPool
from autotag.pipeline.pipeline import Pipeline
from autotag.protocols import TranslationOptions
from autotag.records import Caption
from autotag.stages import CaptionImages, ExtractKeyphrases, NameTags, TranslateCaptions
from autotag.testing import FakeCaptioner, FakeExtractor, check_translator, make_sample

pytestmark = pytest.mark.slow


def translated(folder, texts, target, **options):
    translator = ModelPool(device="cpu").translator(str(folder))
    return translator.translate(texts, TranslationOptions("en", target, **options))


@pytest.mark.parametrize("num_beams", [1, 4])
def test_marian_translates_what_it_learned(english_to_german, sentences, num_beams):
    check_translator(ModelPool(device="cpu").translator(str(english_to_german)))
    assert translated(english_to_german, sentences["en"], "de", num_beams=num_beams) == sentences["de"]


@pytest.mark.parametrize("kind", ["english_to_several", "m2m100"])
def test_one_model_translates_to_the_language_that_is_asked_for(kind, request, sentences):
    folder = request.getfixturevalue(kind)
    check_translator(ModelPool(device="cpu").translator(f"hf:{folder}"))
    assert translated(folder, sentences["en"], "de") == sentences["de"]
    assert translated(folder, sentences["en"], "fr") == sentences["fr"]


def test_a_length_in_the_models_own_configuration_does_not_warn_at_every_call(
    english_to_german, sentences, tmp_path, monkeypatch
):
    said = []
    monkeypatch.setattr("transformers.generation.utils.logger.warning", lambda text, *_: said.append(text))
    folder = shutil.copytree(english_to_german, tmp_path / "en-de")
    file = folder / "generation_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "max_length": 512}), encoding="utf-8")
    assert translated(folder, sentences["en"], "de") == sentences["de"]
    assert said == []


def test_a_pipeline_translates_after_it_found_tags(english_to_german):
    stages = [
        CaptionImages(FakeCaptioner("two cats sleep")),
        ExtractKeyphrases(FakeExtractor()),
        NameTags("de"),
        TranslateCaptions(str(english_to_german), "de"),
    ]
    with Pipeline(stages, device="cpu") as pipeline:
        result = pipeline(Image.new("RGB", (8, 8)))
    assert result.caption == "zwei Katzen schlafen"
    assert [caption.text for caption in result.captions][1:] == ["two cats sleep"]
    assert "Katze" in result.tag_texts


def test_a_stage_translates_the_best_caption_and_keeps_the_others(m2m100, sentences):
    stage = TranslateCaptions(str(m2m100), "de")
    pool = ModelPool(device="cpu")
    stage.setup(pool)
    sample = make_sample()
    sample.captions = [Caption(text, "blip") for text in sentences["en"]]
    stage([sample])
    assert [caption.text for caption in sample.captions] == [sentences["de"][0], *sentences["en"]]
    assert sample.captions[0].source == f"{m2m100} from blip"
    assert pool.image_size is None


@pytest.mark.parametrize(
    ("kind", "source", "target", "said"),
    [
        ("english_to_german", "en", "fr", "translates to 'de', not to 'fr'"),
        ("english_to_german", "fr", "de", "translates from 'en', not from 'fr'"),
        ("english_to_several", "en", "it", "does not know the language 'it'. Known: de, fr"),
        ("m2m100", "en", "deu", "does not know the language 'deu'"),
        ("m2m100", "english", "de", "does not know the language 'english'"),
    ],
)
def test_languages_that_a_model_does_not_translate_are_refused_in_setup(kind, source, target, said, request):
    stage = TranslateCaptions(str(request.getfixturevalue(kind)), target, source=source)
    with pytest.raises(ConfigError, match=said):
        stage.setup(ModelPool(device="cpu"))


def test_marian_without_sacremoses_is_refused_with_the_way_out(english_to_german, monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.partition(".")[0] == "sacremoses":
            raise ModuleNotFoundError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(
        ConfigError, match=r"OPUS-MT need sacremoses: pip install 'autotag-images\[translate\]'"
    ):
        translated(english_to_german, ["a dog"], "de")


def test_damaged_folders_are_refused(english_to_german, tmp_path):
    folder = tmp_path / "damaged"
    shutil.copytree(english_to_german, folder)
    (folder / "source.spm").unlink()
    with pytest.raises(ModelLoadError, match="no sentencepiece model"):
        translated(folder, ["a dog"], "de")
    config = json.loads((folder / "config.json").read_text("utf-8"))
    shutil.copy(english_to_german / "source.spm", folder)
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "t5"}), encoding="utf-8")
    with pytest.raises(ModelLoadError, match="model_type 't5'. Supported: M2M100"):
        translated(folder, ["a dog"], "de")
    with pytest.raises(ModelUnavailableError, match="there is no folder"):
        check_model("./no-such-folder", "translator")

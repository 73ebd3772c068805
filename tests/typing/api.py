"""What type checkers see of the public names. Checked by mypy, never run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, assert_type

import numpy as np
from PIL import Image

import autotag
from autotag.albums.rules import AlbumRules
from autotag.pipeline.function_stage import FunctionStage
from autotag.pipeline.presets import from_config, parse_overrides, to_config
from autotag.protocols import (
    Captioner,
    Detector,
    ImageTextEncoder,
    KeyphraseExtractor,
    Models,
    NeedsModels,
    Stage,
)
from autotag.records import Caption, Result, Sample, Tag
from autotag.stages import (
    AssemblePrompt,
    CaptionImages,
    ChooseCaption,
    ExtractKeyphrases,
    FilterTags,
    MatchVocabulary,
    MergeTags,
    NameTags,
)
from autotag.testing import FakeCaptioner, FakeDetector, FakeEncoder, FakeExtractor, FakeModels, check_stage

assert_type(autotag.tag("beach.jpg"), Result)
assert_type(autotag.tag(Path("beach.jpg"), preset="mini", device="cpu"), Result)
assert_type(autotag.tag(["beach.jpg", "cat.jpg"], preset="mini"), list[Result])

tagger = autotag.load("base", device="cuda", filter_tags={"top_k": 5})
assert_type(tagger, autotag.Pipeline)
assert_type(tagger("beach.jpg"), Result)
assert_type(tagger(Image.new("RGB", (1, 1))), Result)
assert_type(tagger(np.zeros((1, 1, 3), dtype=np.uint8)), Result)
assert_type(tagger(b"content"), Result)
assert_type(tagger(["a.jpg", "b.jpg"]), list[Result])
assert_type(tagger["filter_tags"], Stage)
assert_type(tagger.replace(filter_tags={"top_k": 3}, merge_tags=False), autotag.Pipeline)
assert_type(tagger.stream(autotag.find_images("photos/"), on_error="record"), Iterator[Result])
assert_type(tagger.stream(["a.jpg", "b.jpg"]), Iterator[Result])
tagger.stream([], on_error="ignore")  # type: ignore[arg-type]
autotag.load("base", batch_size="many")  # type: ignore[arg-type]

for result in tagger.stream([Path("a.jpg")]):
    assert_type(result.caption, str)
    assert_type(result.tags, tuple[Tag, ...])
    assert_type(result.captions, tuple[Caption, ...])
    assert_type(result.error, str | None)
    result.prompt = "frozen"  # type: ignore[misc]


@autotag.stage(requires={"tags"}, provides={"tags"})
def only_long_words(sample: Sample) -> None:
    sample.tags = [tag for tag in sample.tags if len(tag.text) > 3]


assert_type(only_long_words, FunctionStage)


@dataclass
class Shout:
    """A stage of a stranger: no base class."""

    loud: bool = True
    name: str = "shout"
    requires: ClassVar[frozenset[str]] = frozenset({"prompt"})
    provides: ClassVar[frozenset[str]] = frozenset({"prompt"})

    def setup(self, models: Models, /) -> None:
        assert_type(models.encoder(), ImageTextEncoder)

    def __call__(self, samples: Sequence[Sample], /) -> None:
        for sample in samples:
            sample.prompt = sample.prompt.upper()


pipeline = autotag.Pipeline(
    [
        CaptionImages("blip-large"),
        ExtractKeyphrases(top_n=10),
        MergeTags(),
        only_long_words,
        FilterTags(score="cosine", threshold=0.22),
        MatchVocabulary(("cat", "dog"), name="pets"),
        AssemblePrompt(),
        Shout(),
    ],
    encoder="open_clip:ViT-L-14/openai",
)
autotag.Pipeline([CaptionImages(FakeCaptioner())], encoder=FakeEncoder())
autotag.Pipeline([CaptionImages(["blip-base", FakeCaptioner()], candidates=2), ChooseCaption(top_k=1)])
CaptionImages(["blip-base", 1])  # type: ignore[list-item]
autotag.Pipeline(["caption_images"])  # type: ignore[list-item]
autotag.Pipeline([CaptionImages], encoder="clip-mini")  # type: ignore[list-item]

# Options that hold several things take lists.
autotag.Pipeline([MatchVocabulary(["cat", "dog"], leave_out=["dog"])], fast_paths=["views"])
autotag.Pipeline([MatchVocabulary({"beach": ["seaside"]}), NameTags(["de", "fr"], vocabularies=["things"])])
autotag.Pipeline([CaptionImages(), ExtractKeyphrases(stop_words=["der", "die"])])
AlbumRules(deny=["photo"], always=["mine"], synonyms={"dog": ["hound"]})
autotag.tag(bytearray(b"image"))

with pipeline as opened:
    assert_type(opened, autotag.Pipeline)

assert_type(from_config(to_config(pipeline)), autotag.Pipeline)
autotag.load("mini", **parse_overrides(["filter_tags.threshold=0.25"]))

stage: Stage = Shout()
needs_models: NeedsModels = Shout()
captioner: Captioner = FakeCaptioner()
extractor: KeyphraseExtractor = FakeExtractor()
encoder: ImageTextEncoder = FakeEncoder()
detector: Detector = FakeDetector()
models: Models = FakeModels()
check_stage(Shout(), models=models)

assert_type(autotag.__version__, str)
assert_type(autotag.errors.ImageReadError("a.jpg", "it is empty").reason, str)

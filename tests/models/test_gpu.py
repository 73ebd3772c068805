"""What a GPU needs and a CPU forgives: every tensor on the device, on a GPU that is pretended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

import autotag
from autotag.config import fast_paths
from autotag.config.fast_paths import FastPaths
from autotag.models.pool import ModelPool
from autotag.protocols import CaptionOptions, KeyphraseOptions
from autotag.stages import AssemblePrompt, CaptionImages, ExtractKeyphrases, FilterTags, RankLabels
from autotag.vocabularies.vocabulary import Vocabulary

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import ModuleType

    from PIL import Image


pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was said once in another test may be said again."""
    monkeypatch.setattr(fast_paths, "_said", set())


CAPTIONERS = [
    "blip",
    "git",
    "blip2_opt",
    "blip2_t5",
    "coca",
    "florence2",
    "vit_gpt2",
    "idefics3",
    "smolvlm",
    "qwen2_vl",
    "qwen2_5_vl",
]
HAVE_FAST_PATHS = ["blip", "coca"]
ENCODERS = ["clip", "siglip", "siglip2", "open_clip_folder", "open_clip_folder/timm", "coca"]
DRAWS = CaptionOptions(max_new_tokens=5, do_sample=True, top_p=0.8, num_captions=2)
SEARCHES = [
    CaptionOptions(max_new_tokens=5),
    CaptionOptions(max_new_tokens=5, num_beams=3, num_captions=2),
    CaptionOptions(max_new_tokens=5, repetition_penalty=1.5),
]
COLOURS = ["red", "green", "blue", "dark", "bright"]
THINGS = ["dog", "house", "sky", "boat", "tree", "face"]
TEXTS = ["a photo of a dog", "a photo of a cat on the mat", "a photo of a dog", "two men", ""]


def _pools(setting: Any) -> tuple[ModelPool, ModelPool]:
    return (
        ModelPool(device="cpu", dtype="float32", fast_paths=FastPaths.parse(setting)),
        ModelPool(device="cuda", dtype="float32", fast_paths=FastPaths.parse(setting)),
    )


def _check(expected: object, given: object) -> None:
    """The same, numbers to rounding."""
    if isinstance(expected, np.ndarray):
        np.testing.assert_allclose(given, expected, atol=1e-5)
    else:
        assert given == expected


def _said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Our own warnings: that a fast path does not fit, for one."""
    return [record.message for record in caplog.records if record.name.startswith("autotag")]


def _words(rows: Any) -> Any:
    return [[one.text for one in row] for row in rows]


def test_the_pretended_gpu_minds_what_is_left_on_the_cpu(pretended_gpu: ModuleType) -> None:
    with pretended_gpu.pretended(), torch.no_grad():
        there = torch.arange(6.0, device="cuda").view(2, 3)
        assert there.device.type == "cuda"
        assert (there @ there.mT).sum().item() == 83
        with pytest.raises(RuntimeError, match="same device"):
            there + torch.ones(3)
        with pytest.raises(TypeError):
            np.asarray(there)
        np.testing.assert_array_equal(there.cpu().numpy(), np.arange(6).reshape(2, 3))


@pytest.mark.parametrize(
    ("family", "setting"),
    [*((family, "auto") for family in CAPTIONERS), *((family, "off") for family in HAVE_FAST_PATHS)],
)
def test_captioners_write_on_a_gpu_what_they_write_on_a_cpu(
    tiny_folder: Callable[[str], Path],
    images: list[Image.Image],
    pretended_gpu: ModuleType,
    caplog: pytest.LogCaptureFixture,
    family: str,
    setting: str,
) -> None:
    name = str(tiny_folder(family))

    def written(pool: ModelPool) -> list[Any]:
        captioner: Any = pool.captioner(name)
        searches = [*SEARCHES, DRAWS] if family == "coca" else SEARCHES
        rows = [_words(captioner.caption(images, options)) for options in searches]
        if getattr(captioner, "view_id", None):
            views = [captioner.view(image) for image in images]
            rows += [_words(captioner.caption_views(views, options)) for options in searches]
        return rows

    cpu, gpu = _pools(setting)
    expected = written(cpu)
    caplog.clear()  # what is said on a CPU, too, is not said again
    with pretended_gpu.pretended():
        _check(expected, written(gpu))
    assert not _said(caplog)


@pytest.mark.parametrize("setting", ["auto", "off"], ids=["fast", "plain"])
@pytest.mark.parametrize("family", ENCODERS)
def test_encoders_give_on_a_gpu_what_they_give_on_a_cpu(
    tiny_folder: Callable[[str], Path],
    images: list[Image.Image],
    pretended_gpu: ModuleType,
    caplog: pytest.LogCaptureFixture,
    family: str,
    setting: str,
) -> None:
    def vectors(pool: ModelPool) -> list[Any]:
        encoder: Any = pool.encoder(str(tiny_folder(family)))
        rows = [encoder.embed_images(images), encoder.embed_texts(TEXTS)]
        if getattr(encoder, "view_id", None):
            rows.append(encoder.embed_views([encoder.view(image) for image in images]))
        return rows

    cpu, gpu = _pools(setting)
    expected = vectors(cpu)
    caplog.clear()  # what is said on a CPU, too, is not said again
    with pretended_gpu.pretended():
        for one, other in zip(expected, vectors(gpu), strict=True):
            _check(one, other)
    assert not _said(caplog)


@pytest.mark.parametrize("setting", ["auto", "off"], ids=["fast", "plain"])
@pytest.mark.parametrize("words", [True, False], ids=["static", "bert"])
def test_keyphrases_are_on_a_gpu_those_of_a_cpu(
    tiny_folder: Callable[[str], Path],
    minilm: Path,
    pretended_gpu: ModuleType,
    caplog: pytest.LogCaptureFixture,
    setting: str,
    *,
    words: bool,
) -> None:
    folder = tiny_folder("sentence_transformer") if words else minilm
    texts = ["a dog runs on the green grass", "two men in a boat", ""]

    def found(pool: ModelPool) -> Any:
        extractor: Any = pool.extractor(str(folder))
        options = KeyphraseOptions(candidates="ngrams", top_n=4)
        return [[phrase for phrase, _ in row] for row in extractor.extract(texts, options)]

    cpu, gpu = _pools(setting)
    expected = found(cpu)
    caplog.clear()  # what is said on a CPU, too, is not said again
    assert expected[0]
    with pretended_gpu.pretended():
        _check(expected, found(gpu))
    assert not _said(caplog)


@pytest.mark.parametrize(
    ("encoder", "mode"),
    [("clip-mini", "best"), ("clip-mini", "negative"), ("open_clip_folder", "fast"), ("clip", "fast")],
)
def test_a_whole_pipeline_says_on_a_gpu_what_it_says_on_a_cpu(
    tiny_folder: Callable[[str], Path],
    images: list[Image.Image],
    pretended_gpu: ModuleType,
    caplog: pytest.LogCaptureFixture,
    mode: str,
    encoder: str,
) -> None:
    name = encoder if encoder == "clip-mini" else str(tiny_folder(encoder))
    words = Vocabulary([f"{colour} {thing}" for colour in COLOURS for thing in THINGS], name="things")

    def results(device: str) -> list[Any]:
        stages = [
            CaptionImages("blip-mini"),
            ExtractKeyphrases("minilm-mini"),
            FilterTags(),
            RankLabels([words]),
            AssemblePrompt(
                mode, mediums=words, artists=(), movements=(), trendings=(), flavors=words, negatives=words
            ),
        ]
        with autotag.Pipeline(stages, encoder=name, device=device, dtype="float32") as tagger:
            found = [tagger(image) for image in images[:2]]
        return [(one.caption, _words([one.tags]), _words(one.rankings.values()), one.prompt) for one in found]

    expected = results("cpu")
    caplog.clear()  # what is said on a CPU, too, is not said again
    with pretended_gpu.pretended():
        assert results("cuda") == expected
    assert not _said(caplog)

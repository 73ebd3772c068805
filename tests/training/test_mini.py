from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer

import autotag
from autotag.models.captioners.hybrid_blip import HybridBlip
from autotag.models.pool import ModelPool
from autotag.protocols import CaptionOptions
from autotag.training import backbone, mini, mini_encoder, mini_labels, mini_photos
from autotag.training.captioner import CaptionPlan
from autotag.training.data import CaptionedPhotos, LabelledPhotos, TaggedPhotos
from autotag.training.features import Features, ViewPlan
from autotag.training.image_head import HeadPlan
from autotag.training.progress import OnStep
from autotag.training.self_critical import SelfCriticalPlan
from autotag.training.text_tower import TextPlan
from autotag.training.text_vocabulary import caption_tokenizer, contrastive_tokenizer

pytestmark = pytest.mark.slow

FEW_HEAD_STEPS = HeadPlan(steps=2, photos_per_step=4, synthetic_per_step=4)
ENCODER_PLANS = mini.EncoderPlans(
    head=FEW_HEAD_STEPS,
    text=TextPlan(steps=2, texts_per_step=8),
    last=FEW_HEAD_STEPS,
    names=TextPlan(steps=2, texts_per_step=8),
)
CAPTIONER_PLANS = mini.CaptionerPlans(
    captions=CaptionPlan(steps=2, photos_per_step=4),
    scores=SelfCriticalPlan(
        steps=2, photos_per_step=2, captions_per_photo=2, taught_per_step=2, max_tokens=5
    ),
)


@pytest.fixture(scope="module")
def photos(captioned: CaptionedPhotos, labelled: LabelledPhotos) -> mini.Photos:
    """Drawings that stand for the four data sets."""
    here = torch.arange(len(labelled.classes)) % 2 == 0
    present = torch.stack([here, ~here], dim=1)
    return mini.Photos(
        flickr=captioned,
        coco=TaggedPhotos(captioned.pixels, present, ["cat", "dog"]),
        scenes=TaggedPhotos(captioned.pixels, present, ["forest", "sea"]),
        tiny=labelled,
    )


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def few_texts() -> Iterator[None]:
    """Few nouns beyond the learned ones: thousands would take the tiny teacher half a minute."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mini_encoder, "imagenet_nouns", lambda: ["otter", "walnut"])
        patch.setattr(mini_encoder, "other_texts", lambda things: ["oil painting", "tabby cat"])
        patch.setattr(mini_labels, "BLANK_PICTURES", 8)
        yield


@pytest.fixture(scope="module")
def features(photos: mini.Photos, work: Path) -> dict[str, Features]:
    """The features of two views, one with its map; the recipe has up to six."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mini_photos, "VIEWS", dict.fromkeys(mini_photos.VIEWS, ViewPlan(2, 1)))
        return mini.make_all_features(photos, work, workers=1)


@pytest.fixture(scope="module")
def encoder_folder(
    tiny_teacher: SentenceTransformer,
    photos: mini.Photos,
    features: dict[str, Features],
    work: Path,
    few_texts: None,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A ``clip-mini`` after two steps of each kind."""
    folder = tmp_path_factory.mktemp("made") / "clip-mini"
    told = Told()
    mini.make_encoder(tiny_teacher, photos, features, work, folder, plans=ENCODER_PLANS, on_step=told)
    head = {"classes", "each_class", "broader", "labels", "captions"}
    text = {"own", "others"}
    assert told.losses == {
        "encoder head": head,
        "encoder text": text,
        "encoder last": head,
        "encoder moved": head,
        "encoder names": text,
    }
    return folder


@pytest.fixture(scope="module")
def captioner_folder(
    photos: mini.Photos, features: dict[str, Features], work: Path, encoder_folder: Path
) -> Path:
    """A ``blip-mini`` after two steps of each kind."""
    folder = encoder_folder.with_name("blip-mini")
    told = Told()
    mini.make_captioner(photos, features, work, folder, plans=CAPTIONER_PLANS, on_step=told)
    assert told.losses == {
        "captioner captions": {"captions", "words"},
        "captioner scores": {"reward", "captions"},
    }
    return folder


class Told:
    """Remembers which losses each step of the recipe told."""

    def __init__(self) -> None:
        self.losses: dict[str, set[str]] = {}

    def __call__(self, name: str) -> OnStep:
        return lambda step, losses: self.losses.setdefault(name, set()).update(losses)


@pytest.fixture(scope="module")
def sentence_folder(tiny_teacher: SentenceTransformer, encoder_folder: Path) -> Path:
    folder = encoder_folder.with_name("minilm-mini")
    mini.make_sentence_encoder(tiny_teacher, folder)
    return folder


def kinds_of_numbers(file: Path) -> set[torch.dtype]:
    return {tensor.dtype for tensor in load_file(str(file)).values()}


def test_weights_are_in_half_precision_on_disk(
    encoder_folder: Path, captioner_folder: Path, sentence_folder: Path
) -> None:
    assert kinds_of_numbers(encoder_folder / "open_clip_model.safetensors") <= {torch.float16, torch.int64}
    assert kinds_of_numbers(captioner_folder / "model.safetensors") <= {torch.float16, torch.int64}
    assert kinds_of_numbers(sentence_folder / "model.safetensors") == {torch.float16}


def test_the_three_folders_are_a_preset_of_their_own(
    encoder_folder: Path, captioner_folder: Path, sentence_folder: Path, folder_of_drawings: Path
) -> None:
    options: dict[str, Any] = {
        "encoder": str(encoder_folder),
        "caption_images": {"model": str(captioner_folder)},
        "extract_keyphrases": {"model": str(sentence_folder)},
        "filter_tags": {"threshold": -1.0},
    }
    with autotag.load("mini", device="cpu", **options) as tagger:
        [result] = tagger.stream([folder_of_drawings / "red square.png"])
    assert result.error is None
    assert result.captions
    assert all(-1 <= tag.score <= 1 for tag in result.tags)


def test_a_saved_encoder_embeds_as_the_model_did(tmp_path: Path, drawn: Callable[..., Image.Image]) -> None:
    tokenizer = contrastive_tokenizer(["a", "red", "ring"])
    config = mini.encoder_config(len(tokenizer))
    torch.manual_seed(0)
    model = open_clip.CLIP(**config).eval()
    mini.save_encoder(model, config, tokenizer, tmp_path)

    encoder = ModelPool(device="cpu").encoder(str(tmp_path))
    ids = tokenizer(
        ["a red ring", "ring"], padding="max_length", max_length=77, return_tensors="pt"
    ).input_ids
    with torch.no_grad():
        vectors = torch.nn.functional.normalize(model.encode_text(ids), dim=-1)
    np.testing.assert_allclose(encoder.embed_texts(["A red ring", "ring"]), vectors, atol=2e-3)
    assert encoder.embed_images([drawn("red square", 0)]).shape == (1, 512)
    preprocessing = json.loads((tmp_path / "open_clip_config.json").read_text())["preprocess_cfg"]
    assert preprocessing["resize_mode"] == "squash"


def test_a_saved_captioner_says_what_the_model_did(tmp_path: Path, drawn: Callable[..., Image.Image]) -> None:
    tokenizer = caption_tokenizer(["a red ring on a blue square"], least=1)
    torch.manual_seed(0)
    model = HybridBlip(mini.captioner_config(tokenizer)).eval()
    mini.save_captioner(model, tokenizer, tmp_path)
    assert next(model.parameters()).dtype == torch.float32

    captioner: Any = ModelPool(device="cpu").captioner(str(tmp_path))
    image = drawn("red square", 0)
    [[caption]] = captioner.caption([image], options=CaptionOptions(max_new_tokens=5, num_beams=1))
    pixels = torch.from_numpy(
        np.array(image.resize((224, 224), Image.Resampling.BICUBIC), dtype=np.float32)
    ).permute(2, 0, 1)
    mean, std = (torch.tensor(each).view(3, 1, 1) for each in (backbone.MEAN, backbone.STD))
    ids = model.generate(pixel_values=((pixels / 255 - mean) / std)[None], max_new_tokens=5)
    assert caption.text == tokenizer.decode(ids[0], skip_special_tokens=True)


def test_a_run_that_was_killed_makes_the_same_weights(
    encoder_folder: Path,
    tiny_teacher: SentenceTransformer,
    photos: mini.Photos,
    features: dict[str, Features],
    tmp_path: Path,
    few_texts: None,
) -> None:
    """The second of the three steps of the encoder is stopped after its first batch."""

    class KilledError(Exception):
        pass

    def dying(name: str) -> OnStep:
        def step(number: int, losses: dict[str, float]) -> None:
            if name == "encoder text" and number == 1:
                raise KilledError

        return step

    def make(told: Callable[[str], OnStep]) -> None:
        mini.make_encoder(
            tiny_teacher, photos, features, tmp_path, tmp_path / "made", plans=ENCODER_PLANS, on_step=told
        )

    with pytest.raises(KilledError):
        make(dying)
    assert not (tmp_path / "made").exists()
    told = Told()
    make(told)
    assert "encoder head" not in told.losses, "it was done before"
    file = "open_clip_model.safetensors"
    one, two = (load_file(str(each / file)) for each in (encoder_folder, tmp_path / "made"))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_the_backbone_is_the_same_in_both_models(encoder_folder: Path, captioner_folder: Path) -> None:
    clip = load_file(str(encoder_folder / "open_clip_model.safetensors"))
    blip = load_file(str(captioner_folder / "model.safetensors"))
    ours, theirs = "visual.trunk.", "vision_model.embeddings.patch_embedding.trunk."
    names = [name.removeprefix(ours) for name in clip if name.startswith(ours)]
    assert len(names) > 200
    assert all(torch.equal(clip[ours + name], blip[theirs + name]) for name in names)


def test_the_encoders_words_begin_with_the_teachers_vectors(
    encoder_folder: Path, tiny_teacher: SentenceTransformer
) -> None:
    weights = load_file(str(encoder_folder / "open_clip_model.safetensors"))["token_embedding.weight"].float()
    tokenizer = open_clip.get_tokenizer(f"local-dir:{encoder_folder}").tokenizer
    rows = [tokenizer.convert_tokens_to_ids(word) for word in ("red", "blue", "square", "ring")]
    teacher = tiny_teacher.encode(["red", "blue", "square", "ring"], convert_to_tensor=True).float()
    wanted = torch.nn.functional.normalize(teacher - teacher.mean(dim=0), dim=-1)
    found = torch.nn.functional.normalize(weights[rows] - weights[rows].mean(dim=0), dim=-1)
    torch.testing.assert_close(found @ found.T, wanted @ wanted.T, atol=0.1, rtol=0)

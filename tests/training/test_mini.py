from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
from transformers import BlipForConditionalGeneration

import autotag
from autotag.errors import ConfigError, ModelUnavailableError
from autotag.models.pool import ModelPool
from autotag.protocols import CaptionOptions
from autotag.training import mini
from autotag.training.captioner import CaptionPlan, DistillationPlan
from autotag.training.data import CaptionedPhotos, LabelledPhotos
from autotag.training.encoder import EncoderPlan, ImageTowerPlan
from autotag.training.text_vocabulary import caption_tokenizer, contrastive_tokenizer

FEW_STEPS = EncoderPlan(
    steps=1, size=32, classes_per_step=4, captioned_per_step=4, words_per_step=4, smallest_crop=0.9
)

ONE_TOWER_STEP = ImageTowerPlan(steps=1, size=32, classes_per_step=4, captioned_per_step=4)


@pytest.fixture(scope="module")
def encoder_folder(
    tiny_teacher: SentenceTransformer,
    captioned: CaptionedPhotos,
    labelled: LabelledPhotos,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A ``clip-mini`` after three plans of one step each."""
    folder = tmp_path_factory.mktemp("made") / "clip-mini"
    steps: list[int] = []
    mini.make_encoder(
        tiny_teacher,
        captioned,
        labelled,
        folder,
        plans=[FEW_STEPS, ONE_TOWER_STEP, FEW_STEPS],
        on_step=lambda step, losses: steps.append(step),
        workers=1,
    )
    assert steps == [1, 1, 1]
    return folder


@pytest.fixture(scope="module")
def captioner_folder(encoder_folder: Path, captioned: CaptionedPhotos, labelled: LabelledPhotos) -> Path:
    """A ``blip-mini`` after one step of each kind."""
    folder = encoder_folder.with_name("blip-mini")
    losses: list[set[str]] = []
    mini.make_captioner(
        encoder_folder,
        captioned,
        labelled,
        folder,
        distillation=DistillationPlan(steps=1, labelled_per_step=2, captioned_per_step=2),
        plan=CaptionPlan(steps=1, photos_per_step=2),
        on_step=lambda step, each: losses.append(set(each)),
        workers=1,
    )
    assert losses == [
        {"features", "vector", "words", "classes"},
        {"captions", "words"},
    ]
    return folder


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
    assert kinds_of_numbers(captioner_folder / "model.safetensors") == {torch.float16}
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
    assert len(result.captions) == 20, "as preset mini asks for"
    assert all(-1 <= tag.score <= 1 for tag in result.tags)


def test_a_saved_encoder_embeds_as_the_model_did(tmp_path: Path, drawn: Callable[..., Image.Image]) -> None:
    tokenizer = contrastive_tokenizer(["a", "red", "ring"])
    config = mini.encoder_config(len(tokenizer), image_size=64)
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
    assert encoder.embed_images([drawn("red square", 0)]).shape == (1, 256)
    preprocessing = json.loads((tmp_path / "open_clip_config.json").read_text())["preprocess_cfg"]
    assert preprocessing["resize_mode"] == "squash"


def test_a_saved_captioner_says_what_the_model_did(tmp_path: Path, drawn: Callable[..., Image.Image]) -> None:
    tokenizer = caption_tokenizer(["a red ring on a blue square"], least=1)
    torch.manual_seed(0)
    model = BlipForConditionalGeneration(mini.captioner_config(tokenizer)).eval()
    mini.save_captioner(model, tokenizer, tmp_path)
    assert next(model.parameters()).dtype == torch.float32

    captioner: Any = ModelPool(device="cpu").captioner(str(tmp_path))
    image = drawn("red square", 0)
    [[caption]] = captioner.caption([image], options=CaptionOptions(max_new_tokens=5, num_beams=1))
    pixels = torch.from_numpy(
        np.array(image.resize((128, 128), Image.Resampling.BICUBIC), dtype=np.float32)
    ).permute(2, 0, 1)
    mean, std = (torch.tensor(each).view(3, 1, 1) for each in (mini.MEAN, mini.STD))
    ids = model.generate(pixel_values=((pixels / 255 - mean) / std)[None], max_new_tokens=5)
    assert caption.text == tokenizer.decode(ids[0], skip_special_tokens=True)


def test_making_an_encoder_twice_gives_the_same_weights(
    encoder_folder: Path,
    tiny_teacher: SentenceTransformer,
    captioned: CaptionedPhotos,
    labelled: LabelledPhotos,
    tmp_path: Path,
) -> None:
    mini.make_encoder(
        tiny_teacher,
        captioned,
        labelled,
        tmp_path,
        plans=[FEW_STEPS, ONE_TOWER_STEP, FEW_STEPS],
        on_step=lambda step, losses: None,
        workers=1,
    )
    one, two = (load_file(str(each / "open_clip_model.safetensors")) for each in (encoder_folder, tmp_path))
    assert all(torch.equal(one[name], two[name]) for name in one)


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


def test_a_captioner_without_an_encoder_to_learn_from_is_refused(
    captioned: CaptionedPhotos, labelled: LabelledPhotos, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="make the part 'encoder' first"):
        mini.make_captioner(
            tmp_path / "clip-mini",
            captioned,
            labelled,
            tmp_path / "blip-mini",
            distillation=DistillationPlan(),
            plan=CaptionPlan(),
            on_step=lambda step, losses: None,
            workers=1,
        )


@pytest.mark.parametrize(
    ("present", "missing"),
    [
        ("tiny-imagenet-train-0.parquet", "flickr8k-train.parquet"),
        ("flickr8k-train.parquet", "tiny-imagenet-train"),
    ],
)
def test_missing_data_is_named(tmp_path: Path, present: str, missing: str) -> None:
    (tmp_path / present).touch()
    with pytest.raises(ConfigError, match=f"no {missing}"):
        mini.read_data(tmp_path)


def test_a_teacher_is_read_from_a_folder(minilm: Path) -> None:
    assert mini.read_teacher(str(minilm)).encode(["a dog"]).shape == (1, 384)


def test_a_teacher_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailableError, match="nowhere"):
        mini.read_teacher(str(tmp_path / "nowhere"))

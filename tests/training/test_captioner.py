from __future__ import annotations

from dataclasses import replace

import pytest
import timm
import torch
from transformers import BertTokenizer, BlipConfig, BlipForConditionalGeneration

from autotag.training.augmentation import normalized
from autotag.training.captioner import (
    CaptionPlan,
    CaptionTrainer,
    DistillationPlan,
    FeatureTeacher,
    VisionDistiller,
    caption_ids,
    caption_loss,
)
from autotag.training.data import CaptionedPhotos, LabelledPhotos
from autotag.training.encoder import MEAN, STD, WordTable, count_words
from autotag.training.text_vocabulary import caption_tokenizer

PLAN = CaptionPlan(
    steps=60, learning_rate=4e-3, photos_per_step=12, captions_per_photo=1, smallest_crop=1.0, max_tokens=8
)


def tiny_blip(tokenizer: BertTokenizer) -> BlipForConditionalGeneration:
    shape = {"hidden_size": 48, "intermediate_size": 96, "num_attention_heads": 2, "num_hidden_layers": 2}
    text = {
        **shape,
        "encoder_hidden_size": 48,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": 32,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.sep_token_id,
        "sep_token_id": tokenizer.sep_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = {**shape, "image_size": 32, "patch_size": 8, "initializer_range": 0.02}
    torch.manual_seed(0)
    return BlipForConditionalGeneration(BlipConfig(vision_config=vision, text_config=text))


@pytest.fixture
def colours(labelled: LabelledPhotos) -> CaptionedPhotos:
    """Squares and rings, captioned by whether their colour is warm."""
    names = ["a warm shape" if label < 2 else "something cold on grey" for label in labelled.classes.tolist()]
    return CaptionedPhotos(labelled.pixels, [[name] for name in names])


@pytest.fixture
def words(colours: CaptionedPhotos) -> WordTable:
    return count_words(colours, least=1)


@pytest.fixture
def tokenizer(colours: CaptionedPhotos) -> BertTokenizer:
    return caption_tokenizer((text for texts in colours.captions for text in texts), least=1)


@pytest.fixture(scope="module")
def teacher() -> FeatureTeacher:
    torch.manual_seed(0)
    return FeatureTeacher(timm.create_model("resnet10t", num_classes=0), grid=4)


def test_a_blip_learns_to_caption_two_kinds_of_colours(
    tokenizer: BertTokenizer, colours: CaptionedPhotos, words: WordTable, unseen: LabelledPhotos
) -> None:
    model = tiny_blip(tokenizer)
    losses: list[dict[str, float]] = []
    CaptionTrainer(model, tokenizer, colours, words, PLAN).run(lambda step, each: losses.append(each))
    assert len(losses) == 60
    assert losses[-1]["words"] < losses[0]["words"]
    pixels = normalized(unseen.pixels.float() / 255, MEAN, STD)
    ids = model.generate(pixel_values=pixels, max_new_tokens=8)
    captions = tokenizer.batch_decode(ids, skip_special_tokens=True)
    expected = [
        "a warm shape" if label < 2 else "something cold on grey" for label in unseen.classes.tolist()
    ]
    assert captions == expected


def test_a_vision_rate_of_0_leaves_the_tower_as_it_is(
    tokenizer: BertTokenizer, colours: CaptionedPhotos, words: WordTable
) -> None:
    model = tiny_blip(tokenizer)
    tower = [weight.clone() for weight in model.vision_model.parameters()]
    decoder = [weight.clone() for weight in model.text_decoder.parameters()]
    plan = replace(PLAN, steps=2, vision_factor=0.0)
    CaptionTrainer(model, tokenizer, colours, words, plan).run()
    assert all(map(torch.equal, tower, model.vision_model.parameters()))
    assert not all(map(torch.equal, decoder, model.text_decoder.parameters()))


def test_all_captions_of_a_photograph_come_before_any_comes_twice(tokenizer: BertTokenizer) -> None:
    texts = ["warm", "cold", "grey"]
    photos = CaptionedPhotos(torch.zeros(1, 3, 32, 32, dtype=torch.uint8), [texts])
    plan = replace(PLAN, captions_per_photo=5)
    trainer = CaptionTrainer(tiny_blip(tokenizer), tokenizer, photos, count_words(photos, least=1), plan)
    rows = [tuple(row) for row in trainer._captions_of(0).tolist()]
    assert len(rows) == 5
    assert len(set(rows[:3])) == 3
    assert rows[3:] == rows[:2]


def test_the_distilled_tower_comes_nearer_to_the_teacher(
    tokenizer: BertTokenizer,
    colours: CaptionedPhotos,
    words: WordTable,
    labelled: LabelledPhotos,
    teacher: FeatureTeacher,
) -> None:
    vision = tiny_blip(tokenizer).vision_model
    plan = DistillationPlan(steps=25, learning_rate=4e-3, labelled_per_step=8, captioned_per_step=8)
    losses: list[dict[str, float]] = []
    distiller = VisionDistiller(vision, teacher, colours, words, labelled, plan)
    distiller.run(lambda step, each: losses.append(each))
    assert set(losses[0]) == {"features", "vector", "words", "classes"}
    for name in ("features", "vector", "words"):
        first, last = (sum(each[name] for each in part) for part in (losses[:5], losses[-5:]))
        assert last < 0.95 * first, name


def test_a_tower_can_be_distilled_without_classes(
    tokenizer: BertTokenizer, colours: CaptionedPhotos, words: WordTable, teacher: FeatureTeacher
) -> None:
    losses: list[dict[str, float]] = []
    plan = DistillationPlan(steps=1, captioned_per_step=4)
    distiller = VisionDistiller(tiny_blip(tokenizer).vision_model, teacher, colours, words, None, plan)
    distiller.run(lambda step, each: losses.append(each))
    assert set(losses[0]) == {"features", "vector", "words"}


def test_the_teacher_gives_a_target_for_every_patch_and_a_vector(teacher: FeatureTeacher) -> None:
    pixels = torch.randn(3, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    features, vectors = teacher(pixels)
    channels = sum(each["num_chs"] for each in teacher.trunk.feature_info[-2:])
    assert features.shape == (3, 16, channels)
    torch.testing.assert_close(features.mean(dim=(0, 1)), torch.zeros(channels), atol=1e-4, rtol=0)
    assert vectors.shape == (3, 512)
    torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(3))
    assert not features.requires_grad
    assert not teacher.trunk.training


def test_captions_begin_and_end_with_blips_tokens(tokenizer: BertTokenizer) -> None:
    ids, owners = caption_ids(tokenizer, [["a warm shape"], ["warm", "cold " * 9]], max_tokens=6)
    begin, end = tokenizer.bos_token_id, tokenizer.sep_token_id
    warm, cold = (tokenizer.convert_tokens_to_ids(word) for word in ("warm", "cold"))
    assert owners == [[0], [1, 2]]
    assert ids.dtype == torch.long
    assert ids[0].tolist() == [begin, *tokenizer.convert_tokens_to_ids(["a", "warm", "shape"]), end, 0]
    assert ids[1:].tolist() == [[begin, warm, end, 0, 0, 0], [begin, *[cold] * 4, end]]


def test_a_model_may_begin_captions_with_a_token_that_its_tokenizer_does_not_know() -> None:
    """As published BLIPs do: their [DEC] is in the model's configuration only."""
    vocabulary = {token: i for i, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "dog"])}
    tokenizer = BertTokenizer(vocab=vocabulary)
    assert caption_ids(tokenizer, [["dog"]], max_tokens=9, start=6)[0].tolist() == [[6, 5, 3]]
    photos = CaptionedPhotos(torch.zeros(1, 3, 32, 32, dtype=torch.uint8), [["dog"]])
    model = tiny_blip(caption_tokenizer(["dog"], least=1))
    trainer = CaptionTrainer(model, tokenizer, photos, count_words(photos, least=1), PLAN)
    assert trainer.ids[0, 0] == model.config.text_config.bos_token_id


def test_padding_does_not_count_in_the_loss(tokenizer: BertTokenizer) -> None:
    model = tiny_blip(tokenizer).eval()
    states = torch.randn(1, 5, 48, generator=torch.Generator().manual_seed(0))
    ids, _ = caption_ids(tokenizer, [["a warm shape"]], max_tokens=8)
    padded = torch.cat([ids, torch.zeros(1, 4, dtype=torch.long)], dim=1)
    losses = [caption_loss(model, states, each, label_smoothing=0.1) for each in (ids, padded)]
    torch.testing.assert_close(losses[0], losses[1], atol=5e-3, rtol=0)

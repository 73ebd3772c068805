from __future__ import annotations

from dataclasses import replace

import open_clip
import pytest
import torch
import torch.nn.functional as F  # noqa: N812  (the name that torch's users know)

from autotag.training.augmentation import normalized
from autotag.training.data import CaptionedPhotos, LabelledPhotos
from autotag.training.encoder import (
    MEAN,
    STD,
    EncoderPlan,
    EncoderTrainer,
    Tokenize,
    _encode_text,
)
from autotag.training.mini import encoder_config
from autotag.training.text_vocabulary import contrastive_tokenizer

Clip = tuple[open_clip.CLIP, Tokenize]

PLAN = EncoderPlan(
    steps=60,
    size=32,
    cycle_steps=60,
    learning_rate=5e-3,
    classes_per_step=24,
    captioned_per_step=16,
    words_per_step=8,
    least_word_count=2,
)


@torch.no_grad()
def accuracy(clip: Clip, photos: LabelledPhotos) -> float:
    """Share of photographs whose class has the nearest text."""
    model, tokenize = clip
    model.eval()
    images = model.encode_image(normalized(photos.pixels.float() / 255, MEAN, STD))
    texts = model.encode_text(tokenize([f"a photo of a {names[0]}" for names in photos.names]))
    guesses = (F.normalize(images, dim=-1) @ F.normalize(texts, dim=-1).T).argmax(dim=1)
    return (guesses == photos.classes).float().mean().item()


@pytest.mark.slow
def test_classes_and_captions_teach_a_clip_to_tell_shapes_apart(
    clip: Clip, captioned: CaptionedPhotos, labelled: LabelledPhotos, unseen: LabelledPhotos
) -> None:
    told: list[tuple[int, set[str]]] = []
    trainer = EncoderTrainer(*clip, captioned, labelled, PLAN)
    trainer.run(lambda step, losses: told.append((step, set(losses))))
    assert accuracy(clip, unseen) >= 0.75, "chance is 0.25"
    assert [step for step, _ in told] == list(range(1, 61))
    assert told[0][1] == {"captions", "words", "classes", "head"}


@pytest.mark.slow
def test_captions_alone_are_enough(clip: Clip, captioned: CaptionedPhotos, unseen: LabelledPhotos) -> None:
    losses: list[dict[str, float]] = []
    EncoderTrainer(*clip, captioned, None, PLAN).run(lambda step, each: losses.append(each))
    assert set(losses[0]) == {"captions", "words"}
    assert losses[-1]["words"] < 0.7 * losses[0]["words"]
    assert accuracy(clip, unseen) >= 0.5, "chance is 0.25"


def test_the_seed_decides_what_is_learned(clip: Clip, captioned: CaptionedPhotos) -> None:
    model, tokenize = clip
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    def trained(plan: EncoderPlan) -> torch.Tensor:
        model.load_state_dict(start)
        torch.manual_seed(0)
        EncoderTrainer(model, tokenize, captioned, None, plan).run()
        return model.text_projection.detach().clone()

    short = replace(PLAN, steps=2)
    first = trained(short)
    assert torch.equal(first, trained(short))
    assert not torch.equal(first, trained(replace(short, seed=1)))


def test_what_is_frozen_stays_as_it_is(clip: Clip, captioned: CaptionedPhotos) -> None:
    model, tokenize = clip
    model.token_embedding.weight.requires_grad_(False)
    before, image_side = model.token_embedding.weight.clone(), model.visual.proj.detach().clone()
    EncoderTrainer(model, tokenize, captioned, None, replace(PLAN, steps=2, first_step=3)).run()
    assert torch.equal(model.token_embedding.weight, before)
    assert not torch.equal(model.visual.proj, image_side)


TEXTS = ["a dog!", "a", "hello world!!! what is this?", "", "one two three four five six"]


def test_texts_without_their_padding_give_what_open_clip_gives() -> None:
    """Also where id 0 is not padding: it is the exclamation mark of CLIP's own tokenizer."""
    torch.manual_seed(0)
    model = open_clip.CLIP(
        embed_dim=16,
        vision_cfg={"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
        text_cfg={"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
    ).eval()
    tokens = open_clip.get_tokenizer("ViT-B-32")(TEXTS)
    length = int(tokens.argmax(dim=1).max()) + 1
    assert length < 20
    with torch.no_grad():
        torch.testing.assert_close(_encode_text(model, tokens[:, :length]), model.encode_text(tokens))
        trainer = EncoderTrainer(
            model, open_clip.get_tokenizer("ViT-B-32"), CaptionedPhotos(torch.zeros(1), [["a"]]), None, PLAN
        )
        expected = F.normalize(model.encode_text(tokens), dim=-1)
        torch.testing.assert_close(trainer._embed_texts(TEXTS), expected, atol=0.02, rtol=0)  # bfloat16


def test_an_image_tower_that_is_not_to_learn_does_not(captioned: CaptionedPhotos) -> None:
    words = sorted({word for texts in captioned.captions for text in texts for word in text.split()})
    tokenizer = contrastive_tokenizer(words)
    torch.manual_seed(0)
    model = open_clip.CLIP(**encoder_config(len(tokenizer)))

    def tokenize(texts: list[str]) -> torch.Tensor:
        batch = tokenizer(texts, padding="max_length", max_length=77, truncation=True, return_tensors="pt")
        ids: torch.Tensor = batch.input_ids
        return ids

    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    plan = replace(PLAN, steps=2, first_step=3, train_images=False)
    EncoderTrainer(model, tokenize, captioned, None, plan).run()
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert not any(name.startswith("visual.trunk.") for name in changed), "batch statistics are frozen too"
    assert any(name.startswith("visual.head.") for name in changed)
    assert "text_projection" in changed

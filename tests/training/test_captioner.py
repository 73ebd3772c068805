from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import BertTokenizer, BlipForConditionalGeneration

from autotag.training.augmentation import normalized
from autotag.training.captioner import (
    CaptionedInputs,
    CaptionPlan,
    CaptionTrainer,
    caption_ids,
    caption_loss,
)
from autotag.training.checkpoints import Checkpoint
from autotag.training.data import CaptionedPhotos, LabelledPhotos
from autotag.training.encoder import MEAN, STD
from autotag.training.inputs import PixelInputs
from autotag.training.text_vocabulary import caption_tokenizer
from autotag.training.words import WordTable, count_words

MakeBlip = Callable[[BertTokenizer], BlipForConditionalGeneration]

PLAN = CaptionPlan(
    steps=60, learning_rate=4e-3, photos_per_step=12, captions_per_photo=1, vision_factor=0.5, max_tokens=8
)


def one_photo(captions: list[str]) -> CaptionedInputs:
    pixels = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    return CaptionedInputs(PixelInputs(pixels, size=32, smallest=1.0, mean=MEAN, std=STD), [captions])


@pytest.fixture
def colours(labelled: LabelledPhotos) -> CaptionedPhotos:
    """Squares and rings, captioned by whether their colour is warm."""
    names = ["a warm shape" if label < 2 else "something cold on grey" for label in labelled.classes.tolist()]
    return CaptionedPhotos(labelled.pixels, [[name] for name in names])


@pytest.fixture
def words(colours: CaptionedPhotos) -> WordTable:
    return count_words(colours.captions, least=1)


@pytest.fixture
def tokenizer(colours: CaptionedPhotos) -> BertTokenizer:
    return caption_tokenizer((text for texts in colours.captions for text in texts), least=1)


@pytest.fixture
def photos(colours: CaptionedPhotos) -> CaptionedInputs:
    inputs = PixelInputs(colours.pixels, size=32, smallest=1.0, mean=MEAN, std=STD)
    return CaptionedInputs(inputs, colours.captions)


@pytest.mark.slow
def test_a_blip_learns_to_caption_two_kinds_of_colours(
    tiny_blip: MakeBlip,
    tokenizer: BertTokenizer,
    photos: CaptionedInputs,
    words: WordTable,
    unseen: LabelledPhotos,
) -> None:
    model = tiny_blip(tokenizer)
    losses: list[dict[str, float]] = []
    CaptionTrainer(model, tokenizer, photos, words, PLAN).run(lambda step, each: losses.append(each))
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
    tiny_blip: MakeBlip, tokenizer: BertTokenizer, photos: CaptionedInputs, words: WordTable
) -> None:
    model = tiny_blip(tokenizer)
    tower = [weight.clone() for weight in model.vision_model.parameters()]
    decoder = [weight.clone() for weight in model.text_decoder.parameters()]
    plan = replace(PLAN, steps=2, vision_factor=0.0)
    CaptionTrainer(model, tokenizer, photos, words, plan).run()
    assert all(map(torch.equal, tower, model.vision_model.parameters()))
    assert not all(map(torch.equal, decoder, model.text_decoder.parameters()))


def test_all_captions_of_a_photograph_come_before_any_comes_twice(
    tiny_blip: MakeBlip, tokenizer: BertTokenizer
) -> None:
    texts = ["warm", "cold", "grey"]
    photos = one_photo(texts)
    plan = replace(PLAN, captions_per_photo=5)
    trainer = CaptionTrainer(tiny_blip(tokenizer), tokenizer, photos, count_words([texts], least=1), plan)
    trainer._random.manual_seed(0)
    rows = [tuple(row) for row in trainer._captions_of(0).tolist()]
    assert len(rows) == 5
    assert len(set(rows[:3])) == 3
    assert rows[3:] == rows[:2]


def test_photographs_are_drawn_by_their_weights() -> None:
    inputs = PixelInputs(torch.zeros(3, 3, 8, 8, dtype=torch.uint8), size=8, smallest=1.0, mean=MEAN, std=STD)
    photos = CaptionedInputs(inputs, [["one"], ["two"], ["three"]], torch.tensor([0.0, 0.5, 0.5]))
    drawn = photos.draw(50, torch.Generator().manual_seed(0)).tolist()
    assert set(drawn) == {1, 2}


def test_training_goes_on_from_a_checkpoint_as_if_it_had_not_stopped(
    tiny_blip: MakeBlip, tokenizer: BertTokenizer, photos: CaptionedInputs, words: WordTable, tmp_path: Path
) -> None:
    """KilledError after two of four steps: the file is of the second step, the plan is the whole one."""

    class KilledError(Exception):
        pass

    def kill(step: int, losses: dict[str, float]) -> None:
        if step == 3:
            raise KilledError

    plan = replace(PLAN, steps=4)
    whole, parted = tiny_blip(tokenizer), tiny_blip(tokenizer)

    def trainer(model: BlipForConditionalGeneration, checkpoint: Checkpoint) -> CaptionTrainer:
        torch.manual_seed(0)
        return CaptionTrainer(model, tokenizer, photos, words, plan, checkpoint)

    trainer(whole, Checkpoint(None)).run()
    file = tmp_path / "captions.pt"
    with pytest.raises(KilledError):
        trainer(parted, Checkpoint(file, every=0)).run(kill)
    again = tiny_blip(tokenizer)
    steps: list[int] = []
    trainer(again, Checkpoint(file, every=0)).run(lambda step, _: steps.append(step))
    assert steps == [3, 4]
    for one, two in zip(whole.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(one, two)


def test_captions_begin_and_end_with_blips_tokens(tokenizer: BertTokenizer) -> None:
    ids, owners = caption_ids(tokenizer, [["a warm shape"], ["warm", "cold " * 9]], max_tokens=6)
    begin, end = tokenizer.bos_token_id, tokenizer.sep_token_id
    warm, cold = (tokenizer.convert_tokens_to_ids(word) for word in ("warm", "cold"))
    assert owners == [[0], [1, 2]]
    assert ids.dtype == torch.long
    assert ids[0].tolist() == [begin, *tokenizer.convert_tokens_to_ids(["a", "warm", "shape"]), end, 0]
    assert ids[1:].tolist() == [[begin, warm, end, 0, 0, 0], [begin, *[cold] * 4, end]]


def test_a_model_may_begin_captions_with_a_token_that_its_tokenizer_does_not_know(
    tiny_blip: MakeBlip,
) -> None:
    """As published BLIPs do: their [DEC] is in the model's configuration only."""
    vocabulary = {token: i for i, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "dog"])}
    tokenizer = BertTokenizer(vocab=vocabulary)
    assert caption_ids(tokenizer, [["dog"]], max_tokens=9, start=6)[0].tolist() == [[6, 5, 3]]
    model = tiny_blip(caption_tokenizer(["dog"], least=1))
    trainer = CaptionTrainer(model, tokenizer, one_photo(["dog"]), count_words([["dog"]], least=1), PLAN)
    assert trainer._ids[0, 0] == model.config.text_config.bos_token_id


def test_padding_does_not_count_in_the_loss(tiny_blip: MakeBlip, tokenizer: BertTokenizer) -> None:
    model = tiny_blip(tokenizer).eval()
    states = torch.randn(1, 5, 48, generator=torch.Generator().manual_seed(0))
    ids, _ = caption_ids(tokenizer, [["a warm shape"]], max_tokens=8)
    padded = torch.cat([ids, torch.zeros(1, 4, dtype=torch.long)], dim=1)
    losses = [caption_loss(model, states, each, label_smoothing=0.1) for each in (ids, padded)]
    torch.testing.assert_close(losses[0], losses[1], atol=5e-3, rtol=0)

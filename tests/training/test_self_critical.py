from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from transformers import BertTokenizer, BlipForConditionalGeneration

from autotag.training.captioner import CaptionedInputs
from autotag.training.inputs import PixelInputs
from autotag.training.self_critical import SelfCriticalPlan, SelfCriticalTrainer
from autotag.training.text_vocabulary import caption_tokenizer

CAPTIONS = [["a red square on grey"], ["one blue ring"]]
PLAN = SelfCriticalPlan(
    steps=40, learning_rate=5e-3, photos_per_step=4, captions_per_photo=6, taught_per_step=4, max_tokens=8
)


MakeBlip = Callable[[BertTokenizer], BlipForConditionalGeneration]


def trainer(tiny_blip: MakeBlip, plan: SelfCriticalPlan = PLAN) -> SelfCriticalTrainer:
    tokenizer = caption_tokenizer((text for texts in CAPTIONS for text in texts), least=1)
    pixels = torch.stack([torch.zeros(3, 32, 32), torch.full((3, 32, 32), 255.0)]).to(torch.uint8)
    inputs = PixelInputs(pixels, size=32, smallest=1.0, mean=(0.5,) * 3, std=(0.5,) * 3)
    photos = CaptionedInputs(inputs, CAPTIONS)
    return SelfCriticalTrainer(tiny_blip(tokenizer), tokenizer, photos, photos, plan)


@pytest.mark.slow
def test_captions_score_higher_as_they_are_learned(tiny_blip: MakeBlip) -> None:
    rewards: list[float] = []
    trainer(tiny_blip).run(lambda step, losses: rewards.append(losses["reward"]))
    assert len(rewards) == 40
    assert sum(rewards[-5:]) > 10 * sum(rewards[:5]) + 1


def test_a_caption_is_cut_after_its_end_and_one_without_an_end_scores_nothing(tiny_blip: MakeBlip) -> None:
    made = trainer(tiny_blip, replace(PLAN, captions_per_photo=2))
    start, end = made._start, made._end
    words = made.tokenizer.convert_tokens_to_ids(["one", "blue", "ring"])
    ended, endless = [start, *words, end, 0], [start, *words, *words[:2]]
    scores = made._scores(torch.tensor([1]), torch.tensor([ended, endless]))
    assert scores[0, 0] > 1
    assert scores[0, 1] == 0


def test_sampled_captions_begin_alike_and_hold_nothing_after_their_end(tiny_blip: MakeBlip) -> None:
    made = trainer(tiny_blip)
    states = torch.randn(30, 5, 48, generator=torch.Generator().manual_seed(0))
    made._random.manual_seed(0)
    ids = made._sampled(states)
    assert ids.shape[1] <= PLAN.max_tokens
    assert set(ids[:, 0].tolist()) == {made._start}
    for row in ids.tolist():
        after = row[row.index(made._end) + 1 :] if made._end in row else []
        assert set(after) <= {0}

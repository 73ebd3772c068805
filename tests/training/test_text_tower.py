from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import open_clip
import pytest
import torch
import torch.nn.functional as F  # noqa: N812  (the name that torch's users know)

from autotag.training.checkpoints import Checkpoint
from autotag.training.encoder import TEMPLATES, Tokenize, embed_tokens
from autotag.training.text_tower import TextPlan, TextTargets, TextTowerTrainer, text_side

Clip = tuple[open_clip.CLIP, Tokenize]
TEXTS = ["red square", "yellow ring", "blue square", "lime ring", "one ring", "grey"]
PLAN = TextPlan(steps=150, learning_rate=1e-2, texts_per_step=16)


def targets(texts: list[str]) -> TextTargets:
    vectors = torch.randn(len(texts), 32, generator=torch.Generator().manual_seed(len(texts)))
    return TextTargets(texts, F.normalize(vectors, dim=-1))


@torch.no_grad()
def vectors(clip: Clip, texts: list[str]) -> torch.Tensor:
    return embed_tokens(clip[0].eval(), clip[1](texts))


@pytest.mark.slow
def test_a_tower_learns_its_targets_in_every_template(clip: Clip) -> None:
    names, sentences = targets(TEXTS), targets(["a red ring on grey", "one blue square"])
    others = targets(["green", "white ring"])
    losses: list[dict[str, float]] = []
    TextTowerTrainer(*clip, names, others, sentences, PLAN).run(lambda step, each: losses.append(each))
    assert losses[-1]["own"] < 0.3 * losses[0]["own"]
    for template in (TEMPLATES[0], TEMPLATES[1], TEMPLATES[-1]):
        found = vectors(clip, [template.format(name) for name in TEXTS])
        assert (found @ names.vectors.T).argmax(dim=1).tolist() == list(range(len(TEXTS))), template


def test_the_image_tower_stays_as_it_is(clip: Clip) -> None:
    before = {name: weight.clone() for name, weight in clip[0].visual.state_dict().items()}
    TextTowerTrainer(*clip, targets(TEXTS), targets(["red"]), targets(["grey"]), replace(PLAN, steps=2)).run()
    assert all(torch.equal(weight, before[name]) for name, weight in clip[0].visual.state_dict().items())


def test_a_tower_goes_on_from_its_checkpoint(clip: Clip, tmp_path: Path) -> None:
    plan = replace(PLAN, steps=3)
    start = {name: weight.clone() for name, weight in clip[0].state_dict().items()}
    checkpoint = tmp_path / "text.pt"
    TextTowerTrainer(
        *clip, targets(TEXTS), targets(["red"]), targets(["grey"]), plan, Checkpoint(checkpoint)
    ).run()
    expected = vectors(clip, TEXTS)
    clip[0].load_state_dict(start)
    steps: list[int] = []
    TextTowerTrainer(
        *clip, targets(TEXTS), targets(["red"]), targets(["grey"]), plan, Checkpoint(checkpoint)
    ).run(lambda step, _: steps.append(step))
    assert steps == []
    torch.testing.assert_close(vectors(clip, TEXTS), expected)


def test_the_text_side_shares_its_parameters(clip: Clip) -> None:
    own = {id(weight) for weight in clip[0].parameters()}
    side = list(text_side(clip[0]).parameters())
    assert side
    assert all(id(weight) in own for weight in side)
    visual = {id(weight) for weight in clip[0].visual.parameters()}
    assert not visual & set(map(id, side))

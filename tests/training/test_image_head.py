from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812  (the name that torch's users know)
from timm.layers import Mlp

from autotag.training.checkpoints import Checkpoint
from autotag.training.image_head import (
    Classes,
    HeadPlan,
    HeadTexts,
    ImageHeadTrainer,
    LabelledFeatures,
    NameShifts,
    SyntheticFeatures,
    TextMap,
    class_shifts,
    start_head,
)

WIDTH, CLASSES, TEXT, DIMENSIONS = 12, 4, 6, 8
PLAN = HeadPlan(steps=150, learning_rate=1e-2, photos_per_step=32, synthetic_per_step=16)


def known() -> Classes:
    """Four classes, each of which three features vote for; texts 0 to 3 name them, 4 the first two."""
    weight = torch.eye(CLASSES).repeat_interleave(3, dim=1) * 4
    below = torch.tensor([[1.0, 1.0, 0.0, 0.0]])
    return Classes(weight, torch.zeros(CLASSES), [[0], [1], [2], [3]], torch.tensor([4]), below)


def texts() -> HeadTexts:
    vectors = F.normalize(torch.randn(6, TEXT, generator=torch.Generator().manual_seed(1)), dim=-1)
    return HeadTexts(vectors, vectors[:CLASSES].half())


def photographs(count: int, seed: int) -> tuple[np.ndarray, torch.Tensor]:
    """Features with the three of one class raised, and the class of each."""
    random = torch.Generator().manual_seed(seed)
    classes = torch.randint(CLASSES, (count,), generator=random)
    features = torch.rand(count, WIDTH, generator=random)
    features += 2 * F.one_hot(classes, CLASSES).repeat_interleave(3, dim=1)
    return features[:, None].half().numpy(), classes


def sets() -> list[LabelledFeatures]:
    features, classes = photographs(200, 0)
    present = F.one_hot(classes, CLASSES).to(torch.uint8)
    captions = [[number] for number in classes.tolist()]
    return [
        LabelledFeatures(features, torch.arange(CLASSES), present, 0.3, exclusive=True, captions=captions),
        LabelledFeatures(features[:50] * 0, torch.arange(5), torch.zeros(50, 5, dtype=torch.uint8), 0.3,
                         classes_count=False),
    ]  # fmt: skip


def trained(plan: HeadPlan, checkpoint: Checkpoint | None = None) -> ImageHeadTrainer:
    torch.manual_seed(0)
    head = Mlp(WIDTH, 2 * DIMENSIONS, DIMENSIONS, bias=(True, False))
    trainer = ImageHeadTrainer(
        head, TextMap(TEXT, DIMENSIONS, 16), sets(), known(), texts(), plan, checkpoint or Checkpoint(None)
    )
    trainer.run()
    return trainer


@pytest.mark.slow
def test_names_that_the_texts_cannot_tell_apart_move_to_their_photographs() -> None:
    same = HeadTexts(torch.ones_like(texts().vectors), texts().captions)
    features, classes = photographs(60, 5)

    def right(shifts: NameShifts | None) -> float:
        torch.manual_seed(0)
        head = Mlp(WIDTH, 2 * DIMENSIONS, DIMENSIONS, bias=(True, False))
        trainer = ImageHeadTrainer(
            head, TextMap(TEXT, DIMENSIONS, 16), sets(), known(), same, PLAN, shifts=shifts
        )
        trainer.run()
        with torch.no_grad():
            images = F.normalize(head(torch.from_numpy(features[:, 0]).float()), dim=-1)
            best = (images @ trainer.name_vectors()[:CLASSES].T).argmax(dim=1)
        return float((best == classes).float().mean())

    assert right(NameShifts(len(same.vectors), DIMENSIONS)) > 0.9
    assert right(None) < 0.5


def similarities(trainer: ImageHeadTrainer, features: np.ndarray) -> torch.Tensor:
    with torch.no_grad():
        images = F.normalize(trainer.head(torch.from_numpy(features[:, 0]).float()), dim=-1)
        mapped: torch.Tensor = trainer.text_map(trainer.texts.vectors)
        return images @ mapped.T


@pytest.mark.slow
def test_photographs_come_to_lie_near_the_names_of_what_they_show() -> None:
    trainer = trained(PLAN)
    features, classes = photographs(60, 5)
    found = similarities(trainer, features)
    assert (found[:, :CLASSES].argmax(dim=1) == classes).float().mean() > 0.9
    broader = found[:, 4]
    assert broader[classes < 2].min() > broader[classes >= 2].max(), "the broader term of the first two"


@pytest.mark.slow
def test_pictures_of_nothing_are_near_no_name() -> None:
    trainer = trained(PLAN)
    features, classes = photographs(60, 5)
    own = similarities(trainer, features).gather(1, classes[:, None]).mean()
    blank = similarities(trainer, features[:1] * 0)[:, :5].max()
    assert blank < own - 0.2


def test_a_head_begins_as_the_classifier() -> None:
    torch.manual_seed(0)
    head = Mlp(WIDTH, 2 * DIMENSIONS, DIMENSIONS, bias=(True, False)).eval()
    names = F.normalize(torch.eye(CLASSES, DIMENSIONS), dim=-1)
    start_head(head, known(), names)
    features, classes = photographs(40, 2)
    with torch.no_grad():
        found = F.normalize(head(torch.from_numpy(features[:, 0]).float()), dim=-1) @ names.T
    assert (found.argmax(dim=1) == classes).float().mean() > 0.9


def test_a_shift_points_where_the_photographs_of_a_class_lie() -> None:
    features, classes = photographs(2000, 3)
    seen = torch.from_numpy(features[:, 0]).float()
    mean, shifts = class_shifts(seen, known().weight)
    for number in range(CLASSES):
        own = seen[classes == number].mean(dim=0) - mean
        near = F.cosine_similarity(own[None], shifts)
        assert near.argmax() == number
        assert near[number] > 0.9
    centred = known().weight - known().weight.mean(dim=0)
    torch.testing.assert_close((centred * shifts).sum(dim=1), torch.ones(CLASSES))


def test_synthetic_features_are_taken_for_classes_of_all_kinds_and_stay_in_range() -> None:
    features, classes = photographs(500, 4)
    seen = torch.from_numpy(features[:, 0]).float()
    made = SyntheticFeatures(seen, known().weight)(seen[classes == 0], 200, torch.Generator().manual_seed(0))
    assert made.min() >= 0
    assert made.max() <= seen.max()
    assert known().probabilities(made).argmax(dim=1).unique().tolist() == [0, 1, 2, 3]


def test_texts_are_turned_at_first_and_keep_their_angles() -> None:
    vectors = texts().vectors
    with torch.no_grad():
        mapped = TextMap(TEXT, DIMENSIONS)(vectors)
    torch.testing.assert_close(mapped @ mapped.T, vectors @ vectors.T)


def test_a_head_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    plan = replace(PLAN, steps=4)
    whole = trained(plan)
    trained(replace(PLAN, steps=4), Checkpoint(tmp_path / "head.pt"))
    again = trained(plan, Checkpoint(tmp_path / "head.pt"))
    for one, two in zip(whole.head.parameters(), again.head.parameters(), strict=True):
        torch.testing.assert_close(one, two)

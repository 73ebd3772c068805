from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from autotag.errors import ModelLoadError
from autotag.evaluation.datasets import Example
from autotag.models.names import parse_name
from autotag.models.pool import ModelPool
from autotag.training.fine_tuning.encoder import ContrastiveEncoder, contrastive_loss, positives
from autotag.training.fine_tuning.photographs import Batch
from autotag.training.schedule import adamw

FOLDERS = ("clip", "siglip", "open_clip_folder", "open_clip_folder/timm")
TEXTS = ["a red bus", "the green grass", "a dog"]


def learner(folder: Path) -> ContrastiveEncoder:
    address = parse_name(str(folder), "encoder")
    return ContrastiveEncoder(address.factory, address.request("cpu", "float32"))


def images() -> list[Image.Image]:
    return [Image.new("RGB", (40, 40), colour) for colour in ("red", "green", "white")]


def batch(model: ContrastiveEncoder) -> Batch:
    return Batch(model.prepare(images()), list(TEXTS), [Example(text, b"", (text,)) for text in TEXTS])


def trained(model: ContrastiveEncoder, steps: int = 25) -> list[float]:
    optimizer = adamw([model.model], learning_rate=2e-3, weight_decay=0.0)
    model.begin()
    losses = []
    for _ in range(steps):
        loss = model.loss(batch(model))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize(
    "name", [FOLDERS[0], *(pytest.param(one, marks=pytest.mark.slow) for one in FOLDERS[1:])]
)
def test_an_encoder_learns_and_its_folder_embeds_as_it_did(
    name: str, tiny_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    model = learner(tiny_folder(name))
    losses = trained(model)
    assert losses[-1] < 0.8 * losses[0]
    model.mix(0.5)
    encoder = model.as_model()
    vectors, words = encoder.embed_images(images()), encoder.embed_texts(TEXTS)
    model.save(tmp_path)
    loaded = ModelPool(device="cpu").encoder(str(tmp_path))
    np.testing.assert_allclose(loaded.embed_images(images()), vectors, atol=2e-3)
    np.testing.assert_allclose(loaded.embed_texts(TEXTS), words, atol=1e-4)


def test_shares_lie_on_the_line_between_old_and_new_weights(tiny_folder: Callable[[str], Path]) -> None:
    model = learner(tiny_folder("clip"))
    old = {name: one.clone() for name, one in model.model.state_dict().items()}
    trained(model, 5)
    new = {name: one.clone() for name, one in model.model.state_dict().items()}
    for share in (1.0, 0.25, 0.0):  # not the average of an average
        model.mix(share)
        for name, one in model.model.state_dict().items():
            torch.testing.assert_close(
                one, old[name].lerp(new[name], share) if one.is_floating_point() else one
            )


@pytest.mark.parametrize("name", ["clip", "open_clip_folder"])
def test_gradient_checkpointing_changes_no_gradient(name: str, tiny_folder: Callable[[str], Path]) -> None:
    found = []
    for checkpointed in (False, True):
        model = learner(tiny_folder(name))
        if checkpointed:
            model.checkpoint_gradients()
        model.begin()
        model.loss(batch(model)).backward()
        found.append([one.grad for one in model.model.parameters()])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_the_same_words_are_positives_of_one_another_ignoring_case() -> None:
    examples = [
        Example("1", b"", tags=("Dog", "grass")),
        Example("2", b"", tags=("cat",)),
        Example("3", b"", tags=("dog",)),
    ]
    same = positives(Batch({}, ["grass", "cat", "dog"], examples))
    assert same.tolist() == [[True, False, True], [False, True, False], [False, False, True]]


def test_the_loss_is_that_of_clip_where_nothing_repeats() -> None:
    logits = torch.randn(4, 4, generator=torch.Generator().manual_seed(0))
    rows, columns = -logits.log_softmax(1).diag().mean(), -logits.log_softmax(0).diag().mean()
    torch.testing.assert_close(contrastive_loss(logits, torch.eye(4, dtype=torch.bool)), (rows + columns) / 2)


def test_siglip_gets_the_sigmoid_loss(tiny_folder: Callable[[str], Path]) -> None:
    model = learner(tiny_folder("siglip"))
    model.model.eval()
    encoder = model.as_model()
    with torch.no_grad():
        model.model.logit_scale.fill_(np.log(117.3))  # of the published ViT-B-16-SigLIP
        loss = model.loss(batch(model)).item()
        cosines = encoder.embed_images(images()) @ encoder.embed_texts(TEXTS).T
        logits = cosines * float(model.model.logit_scale.exp()) + float(model.model.logit_bias)
    signs = 2 * np.eye(3) - 1
    assert loss == pytest.approx(np.log1p(np.exp(-signs * logits)).sum(1).mean(), rel=1e-3)


def test_a_model_of_another_class_is_refused(tiny_folder: Callable[[str], Path]) -> None:
    with pytest.raises(ModelLoadError, match="Supported: CLIPModel, SiglipModel"):
        learner(tiny_folder("siglip2"))

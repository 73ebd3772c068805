from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from autotag.config.fast_paths import FastPaths
from autotag.errors import ConfigError, ModelLoadError
from autotag.evaluation.datasets import EvaluationSet, Example
from autotag.models.names import parse_name
from autotag.models.pool import ModelPool
from autotag.protocols import CaptionOptions, ModelRequest
from autotag.training.fine_tuning import captioner
from autotag.training.fine_tuning.captioner import Lora, LoraCaptioner
from autotag.training.fine_tuning.photographs import Batch
from autotag.training.schedule import adamw

FAMILIES = ("blip", "git", "blip2_opt", "blip2_t5", "florence2")
OPTIONS = CaptionOptions(max_new_tokens=12)


def request(folder: Path | str) -> ModelRequest:
    return parse_name(str(folder), "captioner").request("cpu", "float32")


def learner(folder: Path | str, **lora: object) -> LoraCaptioner:
    return LoraCaptioner(request(folder), Lora(dropout=0.0, **lora), seed=0)  # type: ignore[arg-type]


def images() -> list[Image.Image]:
    return [Image.new("RGB", (40, 40), colour) for colour in ("red", "green")]


def batch(model: LoraCaptioner) -> Batch:
    texts = ["a red bus in the street", "a dog"]
    examples = [Example(text, b"", (text,)) for text in texts]
    return Batch(model.prepare(images()), texts, examples)


def trained(model: LoraCaptioner, steps: int = 40, *, learning_rate: float = 0.02) -> list[float]:
    model.begin()
    optimizer = adamw([model.model], learning_rate=learning_rate, weight_decay=0.0)
    losses = []
    for _ in range(steps):
        loss = model.loss(batch(model))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize(
    "family", [name if name == "blip" else pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES]
)
def test_a_captioner_learns_captions_and_its_merged_folder_writes_what_it_wrote(
    family: str, tiny_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    model = learner(tiny_folder(family))
    losses = trained(model)
    assert losses[-1] < 0.9 * losses[0]
    model.mix(1.0)
    with torch.no_grad():
        last = model.loss(batch(model))
    written = model.as_model().caption(images(), OPTIONS)
    model.save(tmp_path)
    for fast in ("off", "auto"):
        pool = ModelPool(device="cpu", fast_paths=FastPaths.parse(fast))
        assert [
            [one.text for one in some] for some in pool.captioner(str(tmp_path)).caption(images(), OPTIONS)
        ] == [[one.text for one in some] for some in written]
    again = learner(tmp_path)  # new adapters change nothing yet
    again.mix(1.0)
    with torch.no_grad():
        assert again.loss(batch(again)) == pytest.approx(last.item(), rel=1e-3)


@pytest.mark.slow
def test_the_bundled_captioner_learns_captions_by_heart() -> None:
    model = learner("blip-mini")
    trained(model, 40, learning_rate=2e-3)
    model.mix(1.0)
    [[red], [green]] = model.as_model().caption(images(), OPTIONS)
    assert (red.text, green.text) == ("a red bus in the street", "a dog")


def test_share_0_is_the_old_captioner_and_a_half_is_between(tiny_folder: Callable[[str], Path]) -> None:
    model = learner(tiny_folder("blip"))
    model.mix(1.0)
    with torch.no_grad():
        old = model.loss(batch(model)).item()
    trained(model)
    losses = []
    for share in (0.0, 0.5, 1.0):
        model.mix(share)
        with torch.no_grad():
            losses.append(model.loss(batch(model)).item())
    assert losses[0] == pytest.approx(old, rel=1e-5)
    assert losses[0] > losses[1] > losses[2]


def test_only_adapters_are_trained_and_a_frozen_image_tower_has_none(
    tiny_folder: Callable[[str], Path],
) -> None:
    every, language = learner(tiny_folder("blip")), learner(tiny_folder("blip"), images=False)
    names = [name for name, one in every.model.named_parameters() if one.requires_grad]
    assert names
    assert all("lora_" in name for name in names)
    assert any(name.startswith("vision_model") for name in names)
    frozen = [name for name, one in language.model.named_parameters() if one.requires_grad]
    assert frozen
    assert not any(name.startswith("vision_model") for name in frozen)
    assert language.facts["trained_weights"] < every.facts["trained_weights"]


@pytest.mark.parametrize("family", FAMILIES)
def test_gradient_checkpointing_changes_no_gradient(family: str, tiny_folder: Callable[[str], Path]) -> None:
    found = []
    for checkpointed in (False, True):
        model = learner(tiny_folder(family))
        if checkpointed:
            model.checkpoint_gradients()
        model.begin()
        torch.manual_seed(0)
        model.loss(batch(model)).backward()
        found.append({name: one.grad for name, one in model.model.named_parameters() if one.grad is not None})
    assert found[0].keys() == found[1].keys()
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, rtol=1e-2, atol=1e-5)


def test_padding_and_the_start_token_cost_nothing(tiny_folder: Callable[[str], Path]) -> None:
    model = learner(tiny_folder("blip"))
    model.mix(1.0)
    both = batch(model)
    alone = [
        Batch({"pixel_values": both.images["pixel_values"][row : row + 1]}, [text], [both.examples[row]])
        for row, text in enumerate(both.texts)
    ]
    with torch.no_grad():
        losses = [model.loss(one).item() for one in alone]
        together = model.loss(both).item()
    tokens = [7, 3]  # predicted: the words and the end
    mean = sum(loss * count for loss, count in zip(losses, tokens, strict=True)) / sum(tokens)
    assert together == pytest.approx(mean, rel=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_loss_is_the_models_own(family: str, tiny_folder: Callable[[str], Path]) -> None:
    model = learner(tiny_folder(family))
    model.mix(1.0)
    both = batch(model)
    inner: Any = model.model
    given = captioner._INPUTS[model.family](inner.config, model.processor, both.texts, 40)
    with torch.no_grad():
        own = inner(**given, **both.images).loss.item()
        assert model.loss(both).item() == pytest.approx(own, rel=1e-4)


@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "florence2"])  # its start is forced
def test_a_caption_is_trained_from_where_generation_starts_it(
    family: str, tiny_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = learner(tiny_folder(family))
    model.mix(1.0)
    seen: dict[str, torch.Tensor] = {}

    def cross_entropy(logits: torch.Tensor, labels: torch.Tensor, **_: object) -> torch.Tensor:
        seen.update(logits=logits, labels=labels)  # the last call is ours; a T5 calls it for its own loss
        return logits.sum()

    monkeypatch.setattr(captioner.F, "cross_entropy", cross_entropy)
    with torch.no_grad():
        model.loss(batch(model))
    first = int((seen["labels"] != -100).nonzero()[0])
    tagger: Any = model.as_model()
    inner: Any = model.model
    made = inner.generate(
        **tagger._inputs(images()[:1], None), max_new_tokens=1, num_beams=1, do_sample=False
    )
    assert int(seen["logits"][first].argmax()) == int(made[0, -1])


def test_a_captioner_rehearses_what_it_wrote_before(
    tiny_folder: Callable[[str], Path], drawings: Callable[..., EvaluationSet]
) -> None:
    model = learner(tiny_folder("git"))
    examples = drawings(3).examples
    old = ModelPool(device="cpu").captioner(str(tiny_folder("git")))
    pictures = [Image.open(io.BytesIO(one.image)) for one in examples if isinstance(one.image, bytes)]
    expected = [some[0].text for some in old.caption(pictures, CaptionOptions())]
    rehearsed = model.rehearsed(examples)
    assert [one.texts[0] for one in rehearsed] == [text for text in expected if text.strip()]
    assert [one.image for one in rehearsed] == [
        one.image for one, text in zip(examples, expected, strict=True) if text.strip()
    ]


def test_an_unknown_family_is_refused_with_those_that_are_known(tiny_folder: Callable[[str], Path]) -> None:
    with pytest.raises(ModelLoadError, match="Supported: .*BlipForConditionalGeneration.*GitForCausalLM"):
        learner(tiny_folder("vit_gpt2"))


def test_without_peft_the_extra_is_named(
    tiny_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ConfigError, match=r"pip install 'autotag-images\[finetune\]'"):
        learner(tiny_folder("blip"))


def test_bad_hyperparameters_are_refused() -> None:
    for wrong in ({"rank": 0}, {"alpha": 0}, {"dropout": 1.0}, {"max_tokens": 2}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            Lora(**wrong)


def test_sets_of_tags_are_refused_before_a_model_is_loaded(
    drawings: Callable[..., EvaluationSet], tmp_path: Path
) -> None:
    from autotag.training.fine_tuning import fine_tune_captioner

    with pytest.raises(ConfigError, match="has tags and no captions"):
        fine_tune_captioner(drawings(24, tags=True), "blip-mini", tmp_path / "out")
    with pytest.raises(ConfigError, match="cannot be fine-tuned: it is loaded by 'open_clip'"):
        fine_tune_captioner(drawings(24), "coca-l", tmp_path / "out")

"""Trains the small encoders on which ``benchmarks/thresholds.py`` compares scores.

    python benchmarks/threshold_encoders.py --data DIR --output DIR

DIR is as for ``python -m autotag.training mini``. Makes ``OUTPUT/softmax`` and ``OUTPUT/sigmoid``, each a
folder that autotag loads by name; about 20 minutes each on one core. They share neither architecture nor
seed, texts, photographs or loss with each other or with clip-mini, as far as so little data allows:

- softmax: a small CSPDarknet and a text tower of two layers, with clip-mini's tokenizer but token vectors of
  its own; all its losses are softmaxes as in CLIP (arXiv:2103.00020), which leave the level of a photograph's
  cosines free.
- sigmoid: a residual network with attention pooling as in CLIP's RN50, and a text tower of one layer over
  the words of the captions; all its losses are sigmoids as in SigLIP (arXiv:2303.15343), which press cosines
  down.

Each sees three quarters of the captioned photographs and half of the others. Needs ``autotag-images[train]``.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
import torch
import torch.nn.functional as F  # noqa: N812  (the name that torch's users know)
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from autotag.models.cards import BUNDLED
from autotag.training.augmentation import normalized, random_views, resized
from autotag.training.data import CaptionedPhotos, LabelledPhotos
from autotag.training.encoder import MEAN, STD, EncoderPlan, EncoderTrainer
from autotag.training.mini import read_data, save_encoder
from autotag.training.progress import OnStep, say_nothing
from autotag.training.schedule import one_cycle, set_learning_rate
from autotag.training.text_vocabulary import contrastive_tokenizer, words_in
from autotag.training.words import WordTable, count_words, word_loss

SIDE = 64
CONTEXT = 32


@dataclass(frozen=True)
class ImageTowerPlan:
    """How to train the image tower alone, as a classifier, by SGD: what convolutions learn fastest by.

    Attributes:
        steps: number of batches.
        size: side of the views in pixels.
        small_steps: batches at the beginning whose views have only two thirds of that side: more than twice
            as fast, and most of what they teach is kept.
        learning_rate: peak.
        momentum: Nesterov's.
        weight_decay: of every parameter.
        classes_per_step: labelled photographs a step.
        captioned_per_step: captioned photographs a step.
        smallest_crop: least share of the side that a crop keeps.
        seed: of every random choice.
    """

    steps: int
    size: int = 64
    small_steps: int = 0
    learning_rate: float = 0.2
    momentum: float = 0.9
    weight_decay: float = 5e-4
    classes_per_step: int = 224
    captioned_per_step: int = 48
    smallest_crop: float = 0.75
    seed: int = 3


class ImageTowerTrainer:
    """Teaches the convolutional part of an image tower classes and words, by linear heads to drop after.

    Args:
        trunk: a timm network that gives pooled features, trained in place.
        captioned: photographs with captions.
        labelled: photographs with classes.
        words: which words describe the captioned photographs.
        plan: how to train.
    """

    def __init__(
        self,
        trunk: nn.Module,
        captioned: CaptionedPhotos,
        labelled: LabelledPhotos,
        words: WordTable,
        plan: ImageTowerPlan,
    ) -> None:
        self.trunk = trunk
        self.pixels = resized(captioned.pixels, plan.size * 3 // 2)
        self.labelled = labelled
        self.words = words
        self.plan = plan
        self.random = torch.Generator().manual_seed(plan.seed)
        width: int = trunk.num_features  # type: ignore[assignment]
        self.to_classes = nn.Linear(width, len(labelled.names))
        self.to_words = nn.Linear(width, len(words.words))
        nn.init.zeros_(self.to_classes.weight)
        nn.init.zeros_(self.to_words.weight)
        nn.init.constant_(self.to_words.bias, -4.0)

    def run(self, on_step: OnStep = say_nothing) -> None:
        """Trains as planned; ``on_step`` is told the losses."""
        plan = self.plan
        modules = [self.trunk, self.to_classes, self.to_words]
        parameters = [weight for module in modules for weight in module.parameters()]
        optimizer = torch.optim.SGD(
            parameters, lr=0.0, momentum=plan.momentum, nesterov=True, weight_decay=plan.weight_decay
        )
        self.trunk.train()
        for step in range(plan.steps):
            set_learning_rate(optimizer, plan.learning_rate * one_cycle(step, plan.steps))
            losses = self._losses(plan.size * 2 // 3 if step < plan.small_steps else plan.size)
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(torch.stack(list(losses.values())).sum())
            optimizer.step()
            on_step(step + 1, {name: loss.item() for name, loss in losses.items()})
        self.trunk.eval()

    def _losses(self, size: int) -> dict[str, Tensor]:
        plan = self.plan
        picked = self._pick(len(self.labelled.pixels), plan.classes_per_step)
        rows = self._pick(len(self.pixels), plan.captioned_per_step)
        labelled = self._views(self.labelled.pixels[picked], size)
        views = torch.cat([labelled, self._views(self.pixels[rows], size)])
        with torch.autocast("cpu", dtype=torch.bfloat16):
            features = self.trunk(normalized(views, MEAN, STD).contiguous(memory_format=torch.channels_last))
        classes, words = features[: len(picked)].float(), features[len(picked) :].float()
        return {
            "classes": F.cross_entropy(
                self.to_classes(classes), self.labelled.classes[picked], label_smoothing=0.1
            ),
            "words": word_loss(self.to_words(words), self.words.present[rows]),
        }

    def _views(self, pixels: Tensor, size: int) -> Tensor:
        return random_views(
            pixels, size=size, smallest=self.plan.smallest_crop, generator=self.random, jitter=0.1
        )

    def _pick(self, total: int, count: int) -> Tensor:
        return torch.randint(total, (count,), generator=self.random)


@dataclass(frozen=True)
class Recipe:
    """One encoder: its towers, its loss and its share of the photographs."""

    name: str
    trainer: type[EncoderTrainer]
    vision: dict[str, Any]
    text: dict[str, Any]
    dimensions: int
    own_words: bool
    captioned_left_out: int
    labelled_rest: int
    tower_plan: ImageTowerPlan
    plan: EncoderPlan


class SoftmaxTrainer(EncoderTrainer):
    """Words as CLIP has captions: each photograph chooses among the words of the batch."""

    def _word_loss(self, vectors: Tensor, rows: Tensor) -> Tensor:
        present = self.words.present[rows]
        columns = torch.multinomial(
            present.sum(dim=0).float() + 0.05, self.plan.words_per_step, generator=self.random
        )
        texts = [self._in_template(self.words.words[column]) for column in columns.tolist()]
        logits = vectors @ self._embed_texts(texts).T * self._logit_scale()
        target = present[:, columns].float()
        shares = target / target.sum(dim=1, keepdim=True).clamp(min=1)
        return 0.5 * F.cross_entropy(logits, shares)


class SigmoidTrainer(EncoderTrainer):
    """Captions, classes and words each by a sigmoid for every pair, with one scale and bias for all."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        with torch.no_grad():
            self.words_fit.log_scale.fill_(3.4)
            self.words_fit.bias.fill_(-5.0)

    def _caption_loss(self, vectors: Tensor, rows: Tensor) -> Tensor:
        texts = [self._choose(self.captioned.captions[row]) for row in rows.tolist()]
        return 0.5 * self._sigmoid_loss(vectors, texts, torch.eye(len(rows)))

    def _class_loss(self, vectors: Tensor, classes: Tensor, names: list[list[str]]) -> Tensor:
        texts = [self._in_template(self._choose(synonyms)) for synonyms in names]
        return self._sigmoid_loss(vectors, texts, F.one_hot(classes, len(names)).float())

    def _sigmoid_loss(self, vectors: Tensor, texts: list[str], target: Tensor) -> Tensor:
        logits: Tensor = self.words_fit(vectors @ self._embed_texts(texts).T)
        return F.binary_cross_entropy_with_logits(logits, target, reduction="sum") / len(vectors)


RECIPES = (
    Recipe(
        name="softmax",
        trainer=SoftmaxTrainer,
        vision={
            "timm_model_name": "cs3darknet_s",
            "timm_model_pretrained": False,
            "timm_pool": "avg",
            "timm_proj": "linear",
            "image_size": SIDE,
        },
        text={"width": 192, "heads": 3, "layers": 2},
        dimensions=192,
        own_words=False,
        captioned_left_out=0,
        labelled_rest=0,
        tower_plan=ImageTowerPlan(steps=700, seed=101),
        plan=EncoderPlan(
            steps=400, cycle_steps=400, size=SIDE, learning_rate=1e-3, classes_per_step=128, seed=102
        ),
    ),
    Recipe(
        name="sigmoid",
        trainer=SigmoidTrainer,
        vision={"layers": [1, 1, 1, 1], "width": 32, "image_size": SIDE},
        text={"width": 128, "heads": 2, "layers": 1},
        dimensions=128,
        own_words=True,
        captioned_left_out=2,
        labelled_rest=1,
        tower_plan=ImageTowerPlan(steps=900, seed=201),
        plan=EncoderPlan(
            steps=500, cycle_steps=500, size=SIDE, learning_rate=1e-3, classes_per_step=128, seed=202
        ),
    ),
)


class PooledStages(nn.Module):
    """The stages of open_clip's residual network, with mean pooling in the place of attention."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network
        self.num_features: int = network.attnpool.k_proj.in_features

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, S, S) to (B, features)."""
        network = self.network
        rows: Tensor = network.layer4(network.layer3(network.layer2(network.layer1(network.stem(pixels)))))
        return rows.mean(dim=(2, 3))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--data", type=Path, required=True)
    options.add_argument("--output", type=Path, required=True)
    options.add_argument("--only", choices=[recipe.name for recipe in RECIPES])
    given = options.parse_args()
    photos = read_data(given.data)
    captioned, labelled = photos.flickr, photos.tiny
    for recipe in RECIPES:
        if given.only in {None, recipe.name}:
            train(recipe, captioned, labelled, given.output / recipe.name)


def train(recipe: Recipe, captioned: CaptionedPhotos, labelled: LabelledPhotos, output: Path) -> None:
    torch.manual_seed(recipe.tower_plan.seed)
    captioned, labelled = share(recipe, captioned, labelled)
    tokenizer = tokenizer_of(recipe, captioned, labelled)
    config = {
        "embed_dim": recipe.dimensions,
        "vision_cfg": recipe.vision,
        "text_cfg": {
            **recipe.text,
            "context_length": CONTEXT,
            "vocab_size": len(tokenizer),
            "hf_tokenizer_name": recipe.name,
        },
    }
    model = open_clip.CLIP(**config).to(memory_format=torch.channels_last)

    def tokenize(texts: list[str]) -> Tensor:
        batch = tokenizer(
            texts, padding="max_length", truncation=True, max_length=CONTEXT, return_tensors="pt"
        )
        ids: Tensor = batch.input_ids
        return ids

    trunk = model.visual.trunk if "timm_model_name" in recipe.vision else PooledStages(model.visual)
    words = count_words(captioned.captions, least=recipe.plan.least_word_count)
    tower = ImageTowerTrainer(trunk, captioned, labelled, words, recipe.tower_plan)
    tower.run(printer(f"{recipe.name} tower"))
    torch.manual_seed(recipe.plan.seed)
    trainer = recipe.trainer(model, tokenize, captioned, labelled, recipe.plan)
    trainer.run(printer(recipe.name))
    save_encoder(model, config, tokenizer, output, mean=MEAN, std=STD)


def printer(name: str) -> OnStep:
    started = time.monotonic()

    def on_step(step: int, losses: dict[str, float]) -> None:
        if step % 50 == 0:
            shown = "  ".join(f"{loss_name} {loss:.3f}" for loss_name, loss in losses.items())
            print(f"{name} {step}  {time.monotonic() - started:.0f} s  {shown}", flush=True)

    return on_step


def share(
    recipe: Recipe, captioned: CaptionedPhotos, labelled: LabelledPhotos
) -> tuple[CaptionedPhotos, LabelledPhotos]:
    """The photographs that this encoder learns from."""
    kept = [row for row in range(len(captioned.captions)) if row % 4 != recipe.captioned_left_out]
    rest = slice(recipe.labelled_rest, None, 2)
    return (
        CaptionedPhotos(captioned.pixels[kept], [captioned.captions[row] for row in kept]),
        LabelledPhotos(labelled.pixels[rest], labelled.classes[rest], labelled.names),
    )


def tokenizer_of(
    recipe: Recipe, captioned: CaptionedPhotos, labelled: LabelledPhotos
) -> PreTrainedTokenizerFast:
    if not recipe.own_words:
        known: PreTrainedTokenizerFast = PreTrainedTokenizerFast.from_pretrained(BUNDLED / "clip-mini")
        return known
    texts = [text for several in (*captioned.captions, *labelled.names) for text in several]
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    words = [word for word, count in words_in(texts).items() if count >= 3]
    return contrastive_tokenizer(list(dict.fromkeys([*letters, *(f"##{one}" for one in letters), *words])))


if __name__ == "__main__":
    main()

"""Training an open_clip CLIP on class names and captions together.

Four losses share one image vector per photograph:

- classes: cross-entropy over the text vectors of every class name, so that the text tower is the classifier;
- captions: the symmetric contrastive loss of CLIP (Radford et al., 2021) within a batch;
- head: cross-entropy of a plain linear classifier on the image vector, dropped after training; it teaches the
  image tower its first features long before the text tower can;
- words: a sigmoid loss (as in SigLIP, Zhai et al., 2023) over words and word pairs, each right for every
  photograph that a caption uses it for. It is what makes one cosine threshold mean the same for every
  photograph and tag.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import open_clip
import torch
import torch.nn.functional as F  # noqa: N812  (the name that torch's users know)
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS
from torch import Tensor, nn

from autotag.training.augmentation import normalized, random_views, resized
from autotag.training.data import CaptionedPhotos, LabelledPhotos
from autotag.training.progress import OnStep, say_nothing
from autotag.training.schedule import adamw, one_cycle, set_learning_rate
from autotag.training.workers import average_gradients, worker

MEAN, STD = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD
TEMPLATES = ("{}", "a photo of {}", "a photo of a {}", "a photo of the {}", "a picture of a {}")

Tokenize = Callable[[list[str]], Tensor]


@dataclass(frozen=True)
class EncoderPlan:
    """How to train for a while.

    Plans may follow one another on one model; each starts with a fresh optimiser.

    Attributes:
        steps: number of batches.
        size: side of the views in pixels.
        first_step: where in the learning-rate cycle this plan starts.
        cycle_steps: length of the learning-rate cycle over all plans.
        learning_rate: its peak.
        weight_decay: of AdamW.
        classes_per_step: labelled photographs a step, over all workers.
        captioned_per_step: captioned photographs a step, over all workers.
        words_per_step: words a step and worker.
        least_word_count: photographs that must share a word before it is learned.
        smallest_crop: least share of the side that a crop keeps.
        jitter: largest relative change of brightness and contrast.
        train_images: whether the convolutional part of the image tower learns too; else only the head on it
            and the text tower.
        seed: of every random choice.
    """

    steps: int
    size: int
    first_step: int = 0
    cycle_steps: int = 3300
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    classes_per_step: int = 256
    captioned_per_step: int = 64
    words_per_step: int = 96
    least_word_count: int = 5
    smallest_crop: float = 0.8
    jitter: float = 0.1
    train_images: bool = True
    seed: int = 0


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
        classes_per_step: labelled photographs a step, over all workers.
        captioned_per_step: captioned photographs a step, over all workers.
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


@dataclass(frozen=True)
class WordTable:
    """Which words describe which photographs.

    Attributes:
        words: V words and adjacent pairs of them.
        present: (N, V) bool.
    """

    words: list[str]
    present: Tensor


def count_words(photos: CaptionedPhotos, *, least: int) -> WordTable:
    """The content words, and adjacent pairs of them, that at least ``least`` photographs share."""
    found = [_words_of(captions) for captions in photos.captions]
    counts = Counter(word for words in found for word in words)
    words = sorted(word for word, count in counts.items() if count >= least)
    number = {word: index for index, word in enumerate(words)}
    present = torch.zeros(len(found), len(words), dtype=torch.bool)
    for row, names in enumerate(found):
        present[row, [number[name] for name in names if name in number]] = True
    return WordTable(words, present)


def _words_of(captions: list[str]) -> set[str]:
    found: set[str] = set()
    for caption in captions:
        words = "".join(letter if letter.isalnum() or letter == "'" else " " for letter in caption).split()
        content = [word if word not in ENGLISH_STOP_WORDS and len(word) > 2 else None for word in words]
        found.update(word for word in content if word)
        found.update(f"{one} {two}" for one, two in pairwise(content) if one and two)
    return found


class EncoderTrainer:
    """Trains a CLIP in place.

    Args:
        model: an open_clip ``CLIP``.
        tokenize: texts -> (T, context) int64, padded; the highest id ends a text.
        captioned: photographs with captions.
        labelled: photographs with classes, or None when there are none.
        plan: how to train.
    """

    def __init__(
        self,
        model: open_clip.CLIP,
        tokenize: Tokenize,
        captioned: CaptionedPhotos,
        labelled: LabelledPhotos | None,
        plan: EncoderPlan,
    ) -> None:
        self.model = model
        self.tokenize = tokenize
        self.captioned = captioned
        self.labelled = labelled
        self.plan = plan
        self.words = count_words(captioned, least=plan.least_word_count)
        rank, self.workers = worker()
        self.random = torch.Generator().manual_seed(1000 * plan.seed + rank)
        self.words_fit = _ScaleAndBias()
        _trunk(model).requires_grad_(plan.train_images)
        self.head = nn.Linear(model.text_projection.shape[1], len(labelled.names) if labelled else 1)

    def run(self, on_step: OnStep = say_nothing) -> None:
        """Trains as planned; ``on_step`` is told the losses."""
        modules = [self.model, self.head, self.words_fit]
        optimizer = adamw(modules, learning_rate=0.0, weight_decay=self.plan.weight_decay)
        size = self.plan.size
        captioned = resized(self.captioned.pixels, min(self.captioned.pixels.shape[-1], size * 3 // 2))
        self.model.train()
        _trunk(self.model).train(self.plan.train_images)
        for step in range(self.plan.first_step, self.plan.first_step + self.plan.steps):
            share = one_cycle(step, self.plan.cycle_steps, warmup=0.03)
            set_learning_rate(optimizer, self.plan.learning_rate * share)
            losses = self._losses(captioned)
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(torch.stack(list(losses.values())).sum())
            average_gradients(modules)
            nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            optimizer.step()
            on_step(step + 1, {name: loss.item() for name, loss in losses.items()})
        self.model.eval()

    def _losses(self, captioned: Tensor) -> dict[str, Tensor]:
        rows = self._pick(len(captioned), self.plan.captioned_per_step // self.workers)
        views = [self._views(captioned[rows])]
        if self.labelled is not None:
            picked = self._pick(len(self.labelled.pixels), self.plan.classes_per_step // self.workers)
            views.append(self._views(self.labelled.pixels[picked]))
        outputs = self._encode_images(torch.cat(views))
        vectors = F.normalize(outputs, dim=-1)
        seen, labelled = vectors[: len(rows)], vectors[len(rows) :]
        losses = {"captions": self._caption_loss(seen, rows), "words": self._word_loss(seen, rows)}
        if self.labelled is not None:
            classes = self.labelled.classes[picked]
            losses["classes"] = self._class_loss(labelled, classes, self.labelled.names)
            losses["head"] = F.cross_entropy(self.head(outputs[len(rows) :]), classes, label_smoothing=0.1)
        return losses

    def _class_loss(self, vectors: Tensor, classes: Tensor, names: list[list[str]]) -> Tensor:
        texts = [self._in_template(self._choose(synonyms)) for synonyms in names]
        logits = vectors @ self._embed_texts(texts).T * self._logit_scale()
        return F.cross_entropy(logits, classes, label_smoothing=0.1)

    def _caption_loss(self, vectors: Tensor, rows: Tensor) -> Tensor:
        texts = [self._choose(self.captioned.captions[row]) for row in rows.tolist()]
        logits = vectors @ self._embed_texts(texts).T * self._logit_scale()
        target = torch.arange(len(rows))
        return 0.25 * (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target))

    def _word_loss(self, vectors: Tensor, rows: Tensor) -> Tensor:
        present = self.words.present[rows]
        weight = present.sum(dim=0).float() + 0.2
        count = min(self.plan.words_per_step, len(weight))
        columns = torch.multinomial(weight, count, generator=self.random)
        texts = [self._in_template(self.words.words[column]) for column in columns.tolist()]
        cosines = vectors @ self._embed_texts(texts).T
        logits: Tensor = self.words_fit(cosines)
        target = present[:, columns].float()
        return F.binary_cross_entropy_with_logits(logits, target, reduction="sum") / (10 * len(rows))

    def _encode_images(self, views: Tensor) -> Tensor:
        pixels = normalized(views, MEAN, STD).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            vectors: Tensor = self.model.encode_image(pixels)
        return vectors.float()

    def _embed_texts(self, texts: list[str]) -> Tensor:
        tokens = self.tokenize(texts)
        lengths = tokens.argmax(dim=1) + 1
        order = lengths.argsort(stable=True)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            chunks = [
                _encode_text(self.model, tokens[rows, : lengths[rows[-1]]]) for rows in torch.split(order, 64)
            ]
        return F.normalize(torch.cat(chunks).float()[order.argsort()], dim=-1)

    def _logit_scale(self) -> Tensor:
        scale: Tensor = self.model.logit_scale.exp()
        return scale.clamp(max=100)

    def _views(self, pixels: Tensor) -> Tensor:
        plan = self.plan
        return random_views(
            pixels, size=plan.size, smallest=plan.smallest_crop, generator=self.random, jitter=plan.jitter
        )

    def _pick(self, total: int, count: int) -> Tensor:
        return torch.randint(total, (count,), generator=self.random)

    def _choose(self, texts: list[str]) -> str:
        return texts[int(torch.randint(len(texts), (1,), generator=self.random))]

    def _in_template(self, text: str) -> str:
        return self._choose(list(TEMPLATES)).format(text)


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
        rank, self.workers = worker()
        self.random = torch.Generator().manual_seed(1000 * plan.seed + rank)
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
            average_gradients(modules)
            optimizer.step()
            on_step(step + 1, {name: loss.item() for name, loss in losses.items()})
        self.trunk.eval()

    def _losses(self, size: int) -> dict[str, Tensor]:
        plan = self.plan
        picked = self._pick(len(self.labelled.pixels), plan.classes_per_step // self.workers)
        rows = self._pick(len(self.pixels), plan.captioned_per_step // self.workers)
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


def word_loss(logits: Tensor, present: Tensor) -> Tensor:
    """Binary cross-entropy, summed over a photograph's words and scaled to the size of the other losses."""
    return F.binary_cross_entropy_with_logits(logits, present.float(), reduction="sum") / (100 * len(logits))


class _ScaleAndBias(nn.Module):
    """Cosines to logits, as in SigLIP."""

    def __init__(self) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(2.7))
        self.bias = nn.Parameter(torch.tensor(-4.0))

    def forward(self, cosines: Tensor) -> Tensor:
        return cosines * self.log_scale.exp() + self.bias


def _trunk(model: open_clip.CLIP) -> nn.Module:
    """The image tower without its head where that is a timm network, else the whole of it."""
    trunk: nn.Module = getattr(model.visual, "trunk", model.visual)
    return trunk


def _encode_text(model: open_clip.CLIP, tokens: Tensor) -> Tensor:
    """(T, D): what ``model.encode_text`` gives, for texts cut where the longest ends.

    Exact, because the tower is causal: no token sees the padding after it.
    """
    length = tokens.shape[1]
    hidden = model.token_embedding(tokens) + model.positional_embedding[:length]
    hidden = model.ln_final(model.transformer(hidden, attn_mask=model.attn_mask[:length, :length]))
    vectors: Tensor = hidden[torch.arange(len(tokens)), tokens.argmax(dim=-1)] @ model.text_projection
    return vectors

"""Training an open_clip CLIP on class names and captions together.

Four losses share one image vector per photograph:

- classes: cross-entropy over the text vectors of every class name, so that the text tower is the classifier;
- captions: the symmetric contrastive loss of CLIP (Radford et al., 2021) within a batch;
- head: cross-entropy of a plain linear classifier on the image vector, dropped after training; it teaches the image tower
  its first features long before the text tower can;
- words: a sigmoid loss (as in SigLIP, Zhai et al., 2023) over words and word pairs, each right for every photograph
  that a caption uses it for. It is what makes one cosine threshold mean the same for every photograph and tag.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import open_clip
import torch
import torch.nn.functional as F  # noqa: N812
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS
from torch import Tensor, nn

from autotag.training.augmentation import normalized, random_views, resized
from autotag.training.data import CaptionedPhotos, LabelledPhotos
from autotag.training.schedule import adamw, one_cycle, set_learning_rate
from autotag.training.workers import average_gradients, worker

MEAN, STD = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD
TEMPLATES = ("{}", "a photo of {}", "a photo of a {}", "a photo of the {}", "a picture of a {}")

Tokenize = Callable[[list[str]], Tensor]


@dataclass(frozen=True)
class EncoderPlan:
    """How to train for a while. Plans may follow one another on one model; each starts with a fresh optimiser.

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
    seed: int = 0


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
        found.update(f"{one} {two}" for one, two in zip(content, content[1:], strict=False) if one and two)
    return found


class EncoderTrainer:
    """Trains a CLIP in place.

    Args:
        model: an open_clip ``CLIP``.
        tokenize: texts -> (T, context) int64, padded with 0.
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
        self.head = nn.Linear(model.text_projection.shape[1], len(labelled.names) if labelled else 1)

    def run(self, on_step: Callable[[int, dict[str, float]], None] = lambda step, losses: None) -> None:
        """Trains as planned; ``on_step`` is told the losses."""
        modules = [self.model, self.head, self.words_fit]
        optimizer = adamw(modules, learning_rate=0.0, weight_decay=self.plan.weight_decay)
        size = self.plan.size
        captioned = resized(self.captioned.pixels, min(self.captioned.pixels.shape[-1], size * 3 // 2))
        self.model.train()
        for step in range(self.plan.first_step, self.plan.first_step + self.plan.steps):
            share = one_cycle(step, self.plan.cycle_steps, warmup=0.03)
            set_learning_rate(optimizer, self.plan.learning_rate * share)
            losses = self._losses(captioned)
            optimizer.zero_grad(set_to_none=True)
            torch.stack(list(losses.values())).sum().backward()
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
            losses["classes"] = self._class_loss(labelled, classes)
            losses["head"] = F.cross_entropy(self.head(outputs[len(rows) :]), classes, label_smoothing=0.1)
        return losses

    def _class_loss(self, vectors: Tensor, classes: Tensor) -> Tensor:
        assert self.labelled is not None
        texts = [self._in_template(self._choose(names)) for names in self.labelled.names]
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
        return F.binary_cross_entropy_with_logits(logits, present[:, columns].float(), reduction="sum") / (10 * len(rows))

    def _encode_images(self, views: Tensor) -> Tensor:
        pixels = normalized(views, MEAN, STD).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return self.model.encode_image(pixels).float()

    def _embed_texts(self, texts: list[str]) -> Tensor:
        tokens = self.tokenize(texts)
        lengths = (tokens != 0).sum(dim=1)
        order = lengths.argsort(stable=True)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            chunks = [_encode_text(self.model, tokens[rows, : lengths[rows[-1]]]) for rows in order.split(64)]
        return F.normalize(torch.cat(chunks).float()[order.argsort()], dim=-1)

    def _logit_scale(self) -> Tensor:
        return self.model.logit_scale.exp().clamp(max=100)

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


class _ScaleAndBias(nn.Module):
    """Cosines to logits, as in SigLIP."""

    def __init__(self) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(2.7))
        self.bias = nn.Parameter(torch.tensor(-4.0))

    def forward(self, cosines: Tensor) -> Tensor:
        return cosines * self.log_scale.exp() + self.bias


def _encode_text(model: open_clip.CLIP, tokens: Tensor) -> Tensor:
    """(T, D): what ``model.encode_text`` gives, without computing the padding (exact: the tower is causal)."""
    length = tokens.shape[1]
    hidden = model.token_embedding(tokens) + model.positional_embedding[:length]
    hidden = model.ln_final(model.transformer(hidden, attn_mask=model.attn_mask[:length, :length]))
    return hidden[torch.arange(len(tokens)), tokens.argmax(dim=-1)] @ model.text_projection

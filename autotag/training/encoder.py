"""Trains an open_clip CLIP on class names and captions together.

Four losses share one image vector per photograph:

- classes: cross-entropy over the text vectors of all class names, so that the text tower is the classifier;
- captions: the symmetric contrastive loss of CLIP (Radford et al., 2021) within a batch;
- head: cross-entropy of a linear classifier on the image vector, which is dropped after training. It teaches
  the image tower useful features long before the text tower can;
- words: a sigmoid loss (as in SigLIP, Zhai et al., 2023) over words and word pairs. Each is a positive for
  every photograph whose captions use it. This loss makes one cosine threshold fit all photographs and tags.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import open_clip
import torch
import torch.nn.functional as F  # noqa: N812  (the name that torch's users know)
from torch import Tensor, nn

from autotag.training.augmentation import normalized, random_views, resized
from autotag.training.data import CaptionedPhotos, LabelledPhotos
from autotag.training.precision import mixed_precision
from autotag.training.progress import OnStep, say_nothing
from autotag.training.schedule import adamw, one_cycle, set_learning_rate
from autotag.training.words import count_words

MEAN, STD = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD
TEMPLATES = ("{}", "a photo of {}", "a photo of a {}", "a photo of the {}", "a picture of a {}")

Tokenize = Callable[[list[str]], Tensor]


@dataclass(frozen=True)
class EncoderPlan:
    """Hyperparameters of one phase of training.

    A model may be trained with several plans in a row; each starts with a new optimiser.

    Attributes:
        steps: number of batches.
        size: side of the views in pixels.
        first_step: step of the learning-rate cycle at which this plan starts.
        cycle_steps: length of the learning-rate cycle over all plans.
        learning_rate: peak learning rate.
        weight_decay: of AdamW.
        classes_per_step: labelled photographs per step.
        captioned_per_step: captioned photographs per step.
        words_per_step: words per step.
        least_word_count: least number of photographs that must share a word before it is learned.
        smallest_crop: smallest side of a crop, relative to the photograph's side.
        jitter: largest relative change of brightness and contrast.
        train_images: whether the image tower's convolutional part is trained; else only its head and the
            text tower are.
        seed: for every random choice.
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


class EncoderTrainer:
    """Train a CLIP in place.

    Args:
        model: an open_clip ``CLIP``.
        tokenize: texts -> (T, context) int64, padded; the highest id ends a text.
        captioned: photographs with captions.
        labelled: photographs with classes, or None.
        plan: hyperparameters.
        mean: per channel, for normalising pixels in [0, 1].
        std: per channel, for the same.
    """

    def __init__(
        self,
        model: open_clip.CLIP,
        tokenize: Tokenize,
        captioned: CaptionedPhotos,
        labelled: LabelledPhotos | None,
        plan: EncoderPlan,
        *,
        mean: tuple[float, ...] = MEAN,
        std: tuple[float, ...] = STD,
    ) -> None:
        self.model = model
        self.mean, self.std = mean, std
        self.tokenize = tokenize
        self.captioned = captioned
        self.labelled = labelled
        self.plan = plan
        self.words = count_words(captioned.captions, least=plan.least_word_count)
        self.random = torch.Generator().manual_seed(plan.seed)
        self.words_fit = _ScaleAndBias()
        _trunk(model).requires_grad_(plan.train_images)
        self.head = nn.Linear(model.text_projection.shape[1], len(labelled.names) if labelled else 1)

    def run(self, on_step: OnStep = say_nothing) -> None:
        """Train as planned; ``on_step`` is called with the losses after each step."""
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
            nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            optimizer.step()
            on_step(step + 1, {name: loss.item() for name, loss in losses.items()})
        self.model.eval()

    def _losses(self, captioned: Tensor) -> dict[str, Tensor]:
        rows = self._pick(len(captioned), self.plan.captioned_per_step)
        views = [self._views(captioned[rows])]
        if self.labelled is not None:
            picked = self._pick(len(self.labelled.pixels), self.plan.classes_per_step)
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
        pixels = normalized(views, self.mean, self.std).contiguous(memory_format=torch.channels_last)
        with mixed_precision():
            vectors: Tensor = self.model.encode_image(pixels)
        return vectors.float()

    def _embed_texts(self, texts: list[str]) -> Tensor:
        return embed_tokens(self.model, self.tokenize(texts))

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


class _ScaleAndBias(nn.Module):
    """Map cosines to logits by a learned scale and bias, as in SigLIP."""

    def __init__(self) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(2.7))
        self.bias = nn.Parameter(torch.tensor(-4.0))

    def forward(self, cosines: Tensor) -> Tensor:
        return cosines * self.log_scale.exp() + self.bias


def _trunk(model: open_clip.CLIP) -> nn.Module:
    """Return the image tower's timm network without its head, or else the whole tower."""
    trunk: nn.Module = getattr(model.visual, "trunk", model.visual)
    return trunk


def embed_tokens(model: open_clip.CLIP, tokens: Tensor) -> Tensor:
    """Embed (T, context) tokens: (T, D) float32 unit rows with gradients; batches have similar lengths."""
    lengths = tokens.argmax(dim=1) + 1
    order = lengths.argsort(stable=True)
    with mixed_precision():
        chunks = [
            _encode_text(model, tokens[rows, : int(lengths[rows[-1]])]) for rows in torch.split(order, 64)
        ]
    return F.normalize(torch.cat(chunks).float()[order.argsort()], dim=-1)


def _encode_text(model: open_clip.CLIP, tokens: Tensor) -> Tensor:
    """Return ``model.encode_text``, (T, D), for tokens cut at the end of the longest text.

    The result is the same, because the tower is causal: padding does not affect the tokens before it.
    """
    length = tokens.shape[1]
    hidden = model.token_embedding(tokens) + model.positional_embedding[:length]
    hidden = model.ln_final(model.transformer(hidden, attn_mask=model.attn_mask[:length, :length]))
    vectors: Tensor = hidden[torch.arange(len(tokens)), tokens.argmax(dim=-1)] @ model.text_projection
    return vectors

"""Training a small BLIP (Li et al., 2022) from nothing, on little data and little time.

A vision transformer learns slowly from few photographs, a convolutional network fast. So the BLIP's vision
tower first learns from a trained convolutional CLIP: every patch is to predict the CLIP's feature maps at its
place (as in FitNets, Romero et al., 2015), which is some hundred targets a photograph instead of one label.
Captions come last.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  (the name that torch's users know)
from torch import Tensor, nn
from transformers import BertTokenizer, BlipForConditionalGeneration

from autotag.training.augmentation import normalized, random_views, resized
from autotag.training.data import CaptionedPhotos, LabelledPhotos
from autotag.training.encoder import MEAN, STD, WordTable, word_loss
from autotag.training.progress import OnStep, say_nothing
from autotag.training.schedule import adamw, one_cycle, set_learning_rate
from autotag.training.workers import average_gradients, worker


@dataclass(frozen=True)
class DistillationPlan:
    """How the vision tower learns from the convolutional teacher.

    Attributes:
        steps: number of batches.
        learning_rate: peak.
        weight_decay: of AdamW.
        labelled_per_step: labelled photographs a step.
        captioned_per_step: captioned photographs a step.
        smallest_crop: least share of the side that a crop keeps.
        seed: of every random choice.
    """

    steps: int = 1700
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.05
    labelled_per_step: int = 80
    captioned_per_step: int = 48
    smallest_crop: float = 0.5
    seed: int = 1


@dataclass(frozen=True)
class CaptionPlan:
    """How to learn captions.

    Attributes:
        steps: number of batches.
        learning_rate: peak, of the text decoder.
        vision_factor: the vision tower's learning rate over the decoder's; 0 leaves it as it is.
        weight_decay: of AdamW.
        photos_per_step: photographs a step.
        captions_per_photo: captions of each photograph a step.
        label_smoothing: share of probability spread over all tokens.
        word_weight: weight of predicting the captions' words from the photograph's vector.
        smallest_crop: least share of the side that a crop keeps.
        max_tokens: longer captions are cut.
        seed: of every random choice.
    """

    steps: int = 2750
    learning_rate: float = 1.0e-3
    vision_factor: float = 0.5
    weight_decay: float = 0.05
    photos_per_step: int = 64
    captions_per_photo: int = 3
    label_smoothing: float = 0.1
    word_weight: float = 1.0
    smallest_crop: float = 0.6
    max_tokens: int = 28
    seed: int = 2


class FeatureTeacher:
    """What a trained convolutional network sees, as targets for patches and for the whole photograph.

    Args:
        trunk: a timm network that gives pooled features.
        grid: patches along one side.
    """

    def __init__(self, trunk: nn.Module, *, grid: int) -> None:
        self.trunk: Any = trunk.eval().requires_grad_(False)
        self.grid = grid

    @torch.no_grad()
    def __call__(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Targets for normalised pixels (B, 3, S, S).

        Returns:
            (B, grid * grid, C) float32, the last two feature maps at every patch, each channel standardised;
            and (B, D) float32, the pooled features, of length 1.
        """
        with torch.autocast("cpu", dtype=torch.bfloat16):
            last, maps = self.trunk.forward_intermediates(
                pixels.contiguous(memory_format=torch.channels_last), indices=2
            )
            pooled: Tensor = self.trunk.forward_head(last)
        return self._standardised(maps), F.normalize(pooled.float(), dim=-1)

    def _standardised(self, maps: list[Tensor]) -> Tensor:
        shape = (self.grid, self.grid)
        fitted = [
            F.interpolate(each.float(), size=shape, mode="bilinear", align_corners=False) for each in maps
        ]
        targets = torch.cat(fitted, dim=1).flatten(2).transpose(1, 2)
        return (targets - targets.mean(dim=(0, 1))) / (targets.std(dim=(0, 1)) + 1e-4)


class VisionDistiller:
    """Teaches a BLIP vision tower the features of a convolutional network, classes and words.

    Args:
        vision: a ``BlipVisionModel``.
        teacher: gives the targets.
        captioned: photographs with captions.
        words: which words describe them.
        labelled: photographs with classes, or None.
        plan: how to train.
    """

    def __init__(  # noqa: PLR0917  (what is trained, from what, on what, how: the order of every trainer)
        self,
        vision: nn.Module,
        teacher: FeatureTeacher,
        captioned: CaptionedPhotos,
        words: WordTable,
        labelled: LabelledPhotos | None,
        plan: DistillationPlan,
    ) -> None:
        self.vision = vision
        self.teacher = teacher
        self.captioned = captioned
        self.words = words
        self.labelled = labelled
        self.plan = plan
        rank, self.workers = worker()
        self.random = torch.Generator().manual_seed(1000 * plan.seed + rank)
        width: int = vision.config.hidden_size  # type: ignore[assignment,union-attr]
        self.size: int = vision.config.image_size  # type: ignore[assignment,union-attr]
        features, vectors = self.teacher(torch.zeros(2, 3, self.size, self.size))
        self.to_features = nn.Linear(width, features.shape[-1])
        self.to_vector = nn.Linear(width, vectors.shape[-1])
        self.to_words = nn.Linear(width, len(words.words))
        nn.init.constant_(self.to_words.bias, -4.0)  # a word describes few photographs
        self.to_classes = nn.Linear(width, len(labelled.names) if labelled else 1)

    def run(self, on_step: OnStep = say_nothing) -> None:
        """Trains the tower in place."""
        modules = [self.vision, self.to_features, self.to_vector, self.to_words, self.to_classes]
        optimizer = adamw(modules, learning_rate=0.0, weight_decay=self.plan.weight_decay)
        captioned = resized(self.captioned.pixels, min(self.captioned.pixels.shape[-1], self.size * 3 // 2))
        self.vision.train()
        for step in range(self.plan.steps):
            set_learning_rate(optimizer, self.plan.learning_rate * one_cycle(step, self.plan.steps))
            losses = self._losses(captioned)
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(torch.stack(list(losses.values())).sum())
            average_gradients(modules)
            nn.utils.clip_grad_norm_(self.vision.parameters(), 1.0)
            optimizer.step()
            on_step(step + 1, {name: loss.item() for name, loss in losses.items()})
        self.vision.eval()

    def _losses(self, captioned: Tensor) -> dict[str, Tensor]:
        rows = self._pick(len(captioned), self.plan.captioned_per_step)
        views = [self._views(captioned[rows])]
        if self.labelled is not None:
            picked = self._pick(len(self.labelled.pixels), self.plan.labelled_per_step)
            views.append(self._views(self.labelled.pixels[picked]))
        pixels = normalized(torch.cat(views), MEAN, STD)
        hidden = _vision_states(self.vision, pixels)
        first, patches = hidden[:, 0], hidden[:, 1:]
        features, vectors = self.teacher(pixels)
        losses = {
            "features": F.mse_loss(self.to_features(patches), features),
            "vector": 1 - F.cosine_similarity(self.to_vector(first), vectors).mean(),
            "words": word_loss(self.to_words(first[: len(rows)]), self.words.present[rows]),
        }
        if self.labelled is not None:
            logits = self.to_classes(first[len(rows) :])
            classes = self.labelled.classes[picked]
            losses["classes"] = 0.3 * F.cross_entropy(logits, classes, label_smoothing=0.1)
        return losses

    def _pick(self, total: int, per_step: int) -> Tensor:
        return torch.randint(total, (per_step // self.workers,), generator=self.random)

    def _views(self, pixels: Tensor) -> Tensor:
        return random_views(pixels, size=self.size, smallest=self.plan.smallest_crop, generator=self.random)


class CaptionTrainer:
    """Teaches a BLIP to caption.

    Args:
        model: the BLIP, trained in place.
        tokenizer: its tokenizer, with ``[PAD]`` as token 0.
        captioned: photographs with captions.
        words: which words describe them.
        plan: how to train.
        to_words: a linear head from the vision tower's first vector to the words; a new one for None.
    """

    def __init__(
        self,
        model: BlipForConditionalGeneration,
        tokenizer: BertTokenizer,
        captioned: CaptionedPhotos,
        words: WordTable,
        plan: CaptionPlan,
        *,
        to_words: nn.Linear | None = None,
    ) -> None:
        self.model = model
        self.captioned = captioned
        self.words = words
        self.plan = plan
        rank, self.workers = worker()
        self.random = torch.Generator().manual_seed(1000 * plan.seed + rank)
        vision: Any = model.config.vision_config
        self.size: int = vision.image_size
        self.to_words = to_words or nn.Linear(vision.hidden_size, len(words.words))
        text: Any = model.config.text_config
        self.ids, self.owners = caption_ids(
            tokenizer, captioned.captions, max_tokens=plan.max_tokens, start=text.bos_token_id
        )

    def run(self, on_step: OnStep = say_nothing) -> None:
        """Trains the model in place."""
        slow = adamw(
            [self.model.vision_model, self.to_words], learning_rate=0.0, weight_decay=self.plan.weight_decay
        )
        fast = adamw([self.model.text_decoder], learning_rate=0.0, weight_decay=self.plan.weight_decay)
        pixels = resized(self.captioned.pixels, min(self.captioned.pixels.shape[-1], self.size * 3 // 2))
        self.model.train()
        for step in range(self.plan.steps):
            rate = self.plan.learning_rate * one_cycle(step, self.plan.steps)
            set_learning_rate(fast, rate)
            set_learning_rate(slow, rate * self.plan.vision_factor)
            losses = self._losses(pixels)
            self.model.zero_grad(set_to_none=True)
            self.to_words.zero_grad(set_to_none=True)
            torch.autograd.backward(torch.stack(list(losses.values())).sum())
            average_gradients([self.model, self.to_words])
            nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            slow.step()
            fast.step()
            on_step(step + 1, {name: loss.item() for name, loss in losses.items()})
        self.model.eval()  # type: ignore[no-untyped-call]

    def _losses(self, pixels: Tensor) -> dict[str, Tensor]:
        rows = torch.randint(len(pixels), (self.plan.photos_per_step // self.workers,), generator=self.random)
        views = random_views(
            pixels[rows], size=self.size, smallest=self.plan.smallest_crop, generator=self.random
        )
        hidden = _vision_states(self.model.vision_model, normalized(views, MEAN, STD))
        words = self.plan.word_weight * word_loss(self.to_words(hidden[:, 0]), self.words.present[rows])
        ids = torch.cat([self._captions_of(row) for row in rows.tolist()])
        ids = ids[:, : int((ids != 0).sum(dim=1).max())]
        captions = caption_loss(
            self.model,
            hidden.repeat_interleave(self.plan.captions_per_photo, dim=0),
            ids,
            label_smoothing=self.plan.label_smoothing,
        )
        return {"captions": captions, "words": words}

    def _captions_of(self, row: int) -> Tensor:
        """(captions_per_photo, L): some of a photograph's captions; all of them before any comes twice."""
        mine = self.owners[row]
        order = torch.randperm(len(mine), generator=self.random).tolist()
        return self.ids[[mine[order[index % len(mine)]] for index in range(self.plan.captions_per_photo)]]


def caption_ids(
    tokenizer: BertTokenizer, captions: list[list[str]], *, max_tokens: int, start: int | None = None
) -> tuple[Tensor, list[list[int]]]:
    """Captions as a BLIP learns them.

    Args:
        tokenizer: its tokenizer, with ``[PAD]`` as token 0.
        captions: per photograph its captions.
        max_tokens: longer captions are cut to this, beginning and end included.
        start: the token that begins a caption; None for the tokenizer's own, ``[DEC]``.

    Returns:
        (C, L) int64 of ``[DEC] caption [SEP]`` padded with 0, and per photograph the rows of its captions.
    """
    first = tokenizer.bos_token_id if start is None else start
    owners: list[list[int]] = []
    rows: list[list[int]] = []
    for texts in captions:
        owners.append(list(range(len(rows), len(rows) + len(texts))))
        for text in texts:
            tokens = tokenizer(text, add_special_tokens=False).input_ids[: max_tokens - 2]
            rows.append([first, *tokens, tokenizer.sep_token_id])
    ids = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = torch.tensor(row)
    return ids, owners


def caption_loss(
    model: BlipForConditionalGeneration, states: Tensor, ids: Tensor, *, label_smoothing: float
) -> Tensor:
    """Mean cross-entropy of the next token, given (B, P, D) states of the photographs and (B, L) captions."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model.text_decoder(
            input_ids=ids[:, :-1],
            attention_mask=(ids[:, :-1] != 0).long(),
            encoder_hidden_states=states,
            use_cache=False,
        ).logits
    return F.cross_entropy(
        logits.float().flatten(0, 1), ids[:, 1:].flatten(), ignore_index=0, label_smoothing=label_smoothing
    )


def _vision_states(vision: nn.Module, pixels: Tensor) -> Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        states: Tensor = vision(pixel_values=pixels).last_hidden_state
    return states.float()

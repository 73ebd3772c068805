"""Trains a small BLIP (Li et al. 2022, arXiv:2201.12086) with little data in little time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  (the name that torch's users know)
from torch import Tensor, nn
from transformers import BertTokenizer, BlipForConditionalGeneration

from autotag.training.checkpoints import Checkpoint, Stateful, seeded
from autotag.training.inputs import Inputs
from autotag.training.precision import mixed_precision
from autotag.training.progress import OnStep, say_nothing
from autotag.training.schedule import adamw, one_cycle, set_learning_rate
from autotag.training.words import WordTable, word_loss


@dataclass(frozen=True)
class CaptionPlan:
    """Hyperparameters of training on captions.

    Attributes:
        steps: number of batches.
        learning_rate: peak learning rate of the text decoder.
        vision_factor: the vision tower's learning rate, relative to the decoder's; 0 freezes it.
        weight_decay: of AdamW.
        photos_per_step: photographs per step.
        captions_per_photo: captions per photograph and step.
        label_smoothing: share of probability spread over all tokens.
        word_weight: weight of the loss of predicting the captions' words from the photograph's vector.
        max_tokens: longer captions are truncated.
        seed: for every random choice.
    """

    steps: int = 2200
    learning_rate: float = 1.0e-3
    vision_factor: float = 1.0
    weight_decay: float = 0.05
    photos_per_step: int = 48
    captions_per_photo: int = 3
    label_smoothing: float = 0.1
    word_weight: float = 1.0
    max_tokens: int = 28
    seed: int = 2


@dataclass(frozen=True)
class CaptionedInputs:
    """Photographs as inputs of the vision tower, with their captions.

    Attributes:
        inputs: the photographs.
        captions: N lists of captions, none of them empty.
        weights: (N,) float32, relative frequency at which each photograph is drawn; None for equal ones.
    """

    inputs: Inputs
    captions: list[list[str]]
    weights: Tensor | None = None

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Return the indices of ``count`` random photographs, (count,) int64."""
        if self.weights is None:
            return torch.randint(len(self.captions), (count,), generator=generator)
        return torch.multinomial(self.weights, count, replacement=True, generator=generator)


@dataclass
class CaptionTrainer:
    """Train a BLIP to caption.

    Args:
        model: the BLIP, trained in place. Parameters that do not require gradients are not changed.
        tokenizer: its tokenizer, with ``[PAD]`` as token 0.
        photos: photographs and their captions.
        words: which words describe which photograph.
        plan: hyperparameters.
        checkpoint: where the state is saved, and where training resumes from.
    """

    model: BlipForConditionalGeneration
    tokenizer: BertTokenizer
    photos: CaptionedInputs
    words: WordTable
    plan: CaptionPlan
    checkpoint: Checkpoint = field(default_factory=lambda: Checkpoint(None))

    def __post_init__(self) -> None:
        self._random = torch.Generator()
        vision: Any = self.model.config.vision_config
        text: Any = self.model.config.text_config
        self._to_words = nn.Linear(vision.hidden_size, len(self.words.words))
        nn.init.constant_(self._to_words.bias, -4.0)  # a word describes few photographs
        self._ids, self._owners = caption_ids(
            self.tokenizer, self.photos.captions, max_tokens=self.plan.max_tokens, start=text.bos_token_id
        )

    def run(self, on_step: OnStep = say_nothing) -> None:
        """Train the model in place."""
        plan = self.plan
        seeing = [self.model.vision_model, self._to_words]
        slow = adamw(seeing, learning_rate=0.0, weight_decay=plan.weight_decay)
        fast = adamw([self.model.text_decoder], learning_rate=0.0, weight_decay=plan.weight_decay)
        parts: dict[str, Stateful] = {
            "model": self.model,
            "to_words": self._to_words,
            "slow": slow,
            "fast": fast,
        }
        self.model.train()
        keep_statistics(self.model)
        for step in range(self.checkpoint.resume(parts), plan.steps):
            seeded(self._random, seed=plan.seed, step=step)
            rate = plan.learning_rate * one_cycle(step, plan.steps)
            set_learning_rate(fast, rate)
            set_learning_rate(slow, rate * plan.vision_factor)
            losses = self._losses()
            self.model.zero_grad(set_to_none=True)
            self._to_words.zero_grad(set_to_none=True)
            torch.autograd.backward(torch.stack(list(losses.values())).sum())
            nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            slow.step()
            fast.step()
            on_step(step + 1, {name: loss.item() for name, loss in losses.items()})
            self.checkpoint.save(step + 1, parts, now=step + 1 == plan.steps)
        self.model.eval()  # type: ignore[no-untyped-call]

    def _losses(self) -> dict[str, Tensor]:
        plan = self.plan
        rows = self.photos.draw(plan.photos_per_step, self._random)
        hidden = vision_states(self.model.vision_model, self.photos.inputs(rows, self._random))
        words = plan.word_weight * word_loss(self._to_words(hidden[:, 0]), self.words.present[rows])
        ids = torch.cat([self._captions_of(row) for row in rows.tolist()])
        ids = ids[:, : int((ids != 0).sum(dim=1).max())]
        states = hidden.repeat_interleave(plan.captions_per_photo, dim=0)
        captions = caption_loss(self.model, states, ids, label_smoothing=plan.label_smoothing)
        return {"captions": captions, "words": words}

    def _captions_of(self, row: int) -> Tensor:
        """Return (captions_per_photo, L) captions of a photograph; none repeats before all were used."""
        mine = self._owners[row]
        order = torch.randperm(len(mine), generator=self._random).tolist()
        return self._ids[[mine[order[index % len(mine)]] for index in range(self.plan.captions_per_photo)]]


def keep_statistics(model: nn.Module) -> None:
    """Freeze the statistics of batch norms, because batches here are too small to estimate them."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()


def caption_ids(
    tokenizer: BertTokenizer, captions: list[list[str]], *, max_tokens: int, start: int | None = None
) -> tuple[Tensor, list[list[int]]]:
    """Tokenize captions for training a BLIP.

    Args:
        tokenizer: its tokenizer, with ``[PAD]`` as token 0.
        captions: per photograph its captions.
        max_tokens: longer captions are truncated to this many tokens, including the start and end tokens.
        start: id of the token that begins a caption; None for the tokenizer's own, ``[DEC]``.

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


def caption_logits(model: BlipForConditionalGeneration, states: Tensor, ids: Tensor) -> Tensor:
    """Return the logits of every next token, (B, L - 1, V) float32.

    Args:
        model: the BLIP.
        states: (B, P, D), the vision tower's output for the photographs.
        ids: (B, L) int64 captions, padded with 0.
    """
    with mixed_precision():
        logits = model.text_decoder(
            input_ids=ids[:, :-1],
            attention_mask=(ids[:, :-1] != 0).long(),
            encoder_hidden_states=states,
            use_cache=False,
        ).logits
    floats: Tensor = logits.float()
    return floats


def caption_loss(
    model: BlipForConditionalGeneration, states: Tensor, ids: Tensor, *, label_smoothing: float
) -> Tensor:
    """Return the mean cross-entropy of the next token, given (B, P, D) states and (B, L) captions."""
    logits = caption_logits(model, states, ids)
    return F.cross_entropy(
        logits.flatten(0, 1), ids[:, 1:].flatten(), ignore_index=0, label_smoothing=label_smoothing
    )


def vision_states(vision: nn.Module, pixels: Tensor) -> Tensor:
    """Return the vision tower's last hidden states, (B, P, D) float32."""
    with mixed_precision():
        states: Tensor = vision(pixel_values=pixels).last_hidden_state
    return states.float()

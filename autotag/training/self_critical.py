"""Trains a captioner on the scores of its own captions: self-critical sequence training.

Captions are sampled. The probability of each is raised or lowered in proportion to how far its CIDEr-D is
above or below the baseline, the mean of the photograph's other captions (Rennie et al. 2017,
arXiv:1612.00563; this baseline is from Luo 2020, arXiv:2003.09971). Cross-entropy with human captions is
added, so that the captions remain English.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import BertTokenizer, BlipForConditionalGeneration, DynamicCache, EncoderDecoderCache
from transformers.models.blip.modeling_blip_text import BlipTextLMHeadModel

from autotag.evaluation.metrics.cider import CiderD
from autotag.training.captioner import (
    CaptionedInputs,
    caption_ids,
    caption_logits,
    caption_loss,
    vision_states,
)
from autotag.training.checkpoints import Checkpoint, Stateful, seeded
from autotag.training.precision import mixed_precision
from autotag.training.progress import OnStep, say_nothing
from autotag.training.schedule import adamw, one_cycle, set_learning_rate

_PARAMETERS = inspect.signature(BlipTextLMHeadModel.forward).parameters
_CACHE = "cache" if "cache" in _PARAMETERS else "past_key_values"
"""Name of the parameter for cached keys and values in the installed transformers."""


@dataclass(frozen=True)
class SelfCriticalPlan:
    """Hyperparameters of training on scores.

    Attributes:
        steps: number of batches.
        learning_rate: peak learning rate.
        weight_decay: of AdamW.
        photos_per_step: photographs per step whose sampled captions are scored.
        captions_per_photo: sampled captions per photograph, at least 2.
        taught_per_step: photographs per step for cross-entropy.
        caption_weight: weight of the cross-entropy.
        max_tokens: longer captions are truncated.
        seed: for every random choice.
    """

    steps: int = 500
    learning_rate: float = 1e-4
    weight_decay: float = 0.05
    photos_per_step: int = 24
    captions_per_photo: int = 5
    taught_per_step: int = 24
    caption_weight: float = 0.3
    max_tokens: int = 22
    seed: int = 5


@dataclass
class SelfCriticalTrainer:
    """Train a BLIP that can caption already, towards higher CIDEr-D.

    Args:
        model: the BLIP, trained in place.
        tokenizer: its tokenizer, with ``[PAD]`` as token 0.
        scored: photographs with several human captions each.
        taught: photographs and captions for cross-entropy.
        plan: hyperparameters.
        checkpoint: where the state is saved, and where training resumes from.
    """

    model: BlipForConditionalGeneration
    tokenizer: BertTokenizer
    scored: CaptionedInputs
    taught: CaptionedInputs
    plan: SelfCriticalPlan
    checkpoint: Checkpoint = field(default_factory=lambda: Checkpoint(None))

    def __post_init__(self) -> None:
        self._random = torch.Generator()
        self._cider = CiderD(self.scored.captions)
        text: Any = self.model.config.text_config
        self._start: int = text.bos_token_id
        self._end: int = text.sep_token_id
        self._ids, self._owners = caption_ids(
            self.tokenizer, self.taught.captions, max_tokens=self.plan.max_tokens, start=self._start
        )

    def run(self, on_step: OnStep = say_nothing) -> None:
        """Train the model in place; without dropout, so that the sampled model is the trained one."""
        plan = self.plan
        optimizer = adamw([self.model], learning_rate=0.0, weight_decay=plan.weight_decay)
        parts: dict[str, Stateful] = {"model": self.model, "optimizer": optimizer}
        self.model.eval()  # type: ignore[no-untyped-call]
        for step in range(self.checkpoint.resume(parts), plan.steps):
            seeded(self._random, seed=plan.seed, step=step)
            set_learning_rate(optimizer, plan.learning_rate * one_cycle(step, plan.steps))
            loss, reward = self._scored_loss()
            taught = self._taught_loss()
            self.model.zero_grad(set_to_none=True)
            torch.autograd.backward(loss + plan.caption_weight * taught)
            nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            optimizer.step()
            on_step(step + 1, {"reward": reward, "captions": taught.item()})
            self.checkpoint.save(step + 1, parts, now=step + 1 == plan.steps)

    def _scored_loss(self) -> tuple[Tensor, float]:
        """Return the loss of one batch of sampled captions, and their mean score."""
        plan = self.plan
        rows = self.scored.draw(plan.photos_per_step, self._random)
        hidden = vision_states(self.model.vision_model, self.scored.inputs(rows, self._random))
        states = hidden.repeat_interleave(plan.captions_per_photo, dim=0)
        ids = self._sampled(states.detach())
        scores = self._scores(rows, ids)
        others = (scores.sum(dim=1, keepdim=True) - scores) / (plan.captions_per_photo - 1)
        advantage = (scores - others).flatten()
        chosen = (
            caption_logits(self.model, states, ids).log_softmax(-1).gather(2, ids[:, 1:, None]).squeeze(2)
        )
        written = (ids[:, 1:] != 0).float()
        loss = -(advantage[:, None] * chosen * written).sum() / written.sum()
        return loss, scores.mean().item()

    @torch.no_grad()
    def _sampled(self, states: Tensor) -> Tensor:
        """Sample one caption for each of (B, P, D) states: (B, L) int64, ended by ``[SEP]`` or truncated."""
        decoder: Any = self.model.text_decoder
        cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        ids = torch.full((len(states), 1), self._start)
        going = torch.ones(len(states), dtype=torch.bool)
        while going.any() and ids.shape[1] < self.plan.max_tokens:
            with mixed_precision():
                logits = decoder(
                    input_ids=ids[:, -1:],
                    attention_mask=torch.ones_like(ids),
                    encoder_hidden_states=states,
                    use_cache=True,
                    **{_CACHE: cache},
                ).logits[:, -1]
            chosen = torch.multinomial(logits.float().softmax(-1), 1, generator=self._random)
            ids = torch.cat([ids, torch.where(going[:, None], chosen, 0)], dim=1)
            going &= chosen.squeeze(1) != self._end
        return ids

    def _scores(self, rows: Tensor, ids: Tensor) -> Tensor:
        """Return CIDEr-D of sampled captions, (B, captions_per_photo); a truncated caption scores 0."""
        texts = self.tokenizer.batch_decode(ids, skip_special_tokens=True)
        ended = (ids == self._end).any(dim=1).tolist()
        owners = rows.repeat_interleave(self.plan.captions_per_photo).tolist()
        scores = [
            self._cider.score(owner, text) if whole else 0.0
            for owner, text, whole in zip(owners, texts, ended, strict=True)
        ]
        return torch.tensor(scores).view(len(rows), -1)

    def _taught_loss(self) -> Tensor:
        rows = self.taught.draw(self.plan.taught_per_step, self._random)
        hidden = vision_states(self.model.vision_model, self.taught.inputs(rows, self._random))
        picks = torch.rand(len(rows), generator=self._random).tolist()
        mine = [self._owners[row] for row in rows.tolist()]
        ids = self._ids[[texts[int(pick * len(texts))] for texts, pick in zip(mine, picks, strict=True)]]
        ids = ids[:, : int((ids != 0).sum(dim=1).max())]
        return caption_loss(self.model, hidden, ids, label_smoothing=0.1)

"""Trains a small text tower to reproduce the vectors of a large sentence encoder.

The loss compares each vector with its target by cosine, and the similarities between the texts of a batch
with those between their targets (similarity-preserving distillation, Tung and Mori 2019, arXiv:1907.09682).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import open_clip
import torch
import torch.nn.functional as F  # noqa: N812  (the name that torch's users know)
from torch import Tensor, nn

from autotag.training.checkpoints import Checkpoint, Stateful, seeded
from autotag.training.encoder import TEMPLATES, Tokenize, embed_tokens
from autotag.training.progress import OnStep, say_nothing
from autotag.training.schedule import adamw, one_cycle, set_learning_rate


@dataclass(frozen=True)
class TextPlan:
    """Hyperparameters of the text tower's training.

    Attributes:
        steps: number of batches.
        learning_rate: peak learning rate.
        weight_decay: of AdamW.
        texts_per_step: texts per step.
        names_share: share of the texts that are names in a template.
        others_share: share of the texts that are other names in a template.
        similarity_weight: weight of the loss on similarities within the batch.
        seed: for every random choice.
    """

    steps: int = 2400
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    texts_per_step: int = 256
    names_share: float = 0.5
    others_share: float = 0.25
    similarity_weight: float = 20.0
    seed: int = 4


@dataclass(frozen=True)
class TextTargets:
    """Texts and their target vectors.

    Attributes:
        texts: T texts.
        vectors: (T, D) float16 or float32, unit rows.
    """

    texts: list[str]
    vectors: Tensor


@dataclass
class TextTowerTrainer:
    """Train the text tower of a CLIP, in place.

    Args:
        model: an open_clip ``CLIP``; only its text side is trained.
        tokenize: texts -> (T, context) int64, padded; the highest id ends a text.
        names: names that users are likely to use. A name has the same target in every template.
        others: other names, drawn less often.
        sentences: texts without a template.
        plan: hyperparameters.
        checkpoint: where the state is saved, and where training resumes from.
    """

    model: open_clip.CLIP
    tokenize: Tokenize
    names: TextTargets
    others: TextTargets
    sentences: TextTargets
    plan: TextPlan
    checkpoint: Checkpoint = field(default_factory=lambda: Checkpoint(None))

    def run(self, on_step: OnStep = say_nothing) -> None:
        """Train as planned."""
        plan = self.plan
        random = torch.Generator()
        tower = text_side(self.model)
        optimizer = adamw([tower], learning_rate=0.0, weight_decay=plan.weight_decay)
        parts: dict[str, Stateful] = {"tower": tower, "optimizer": optimizer}
        self.model.train()
        for step in range(self.checkpoint.resume(parts), plan.steps):
            seeded(random, seed=plan.seed, step=step)
            set_learning_rate(optimizer, plan.learning_rate * one_cycle(step, plan.steps))
            texts, targets = self._batch(plan.texts_per_step, random)
            vectors = embed_tokens(self.model, self.tokenize(texts))
            own = 1 - (vectors * targets).sum(dim=1).mean()
            others = F.mse_loss(vectors @ vectors.T, targets @ targets.T)
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(own + plan.similarity_weight * others)
            nn.utils.clip_grad_norm_(tower.parameters(), 1.0)
            optimizer.step()
            on_step(step + 1, {"own": own.item(), "others": others.item()})
            self.checkpoint.save(step + 1, parts, now=step + 1 == plan.steps)
        self.model.eval()

    def _batch(self, count: int, random: torch.Generator) -> tuple[list[str], Tensor]:
        named, others = round(count * self.plan.names_share), round(count * self.plan.others_share)
        names, names_targets = _drawn(self.names, named, random)
        other_names, other_targets = _drawn(self.others, others, random)
        sentences, sentence_targets = _drawn(self.sentences, count - named - others, random)
        picks = torch.randint(len(TEMPLATES), (named + others,), generator=random).tolist()
        asked = [
            TEMPLATES[pick].format(name) for pick, name in zip(picks, [*names, *other_names], strict=True)
        ]
        targets = torch.cat([names_targets, other_targets, sentence_targets])
        return [*asked, *sentences], F.normalize(targets.float(), dim=-1)


def _drawn(targets: TextTargets, count: int, random: torch.Generator) -> tuple[list[str], Tensor]:
    rows = torch.randint(len(targets.texts), (count,), generator=random).tolist()
    return [targets.texts[row] for row in rows], targets.vectors[rows]


def text_side(model: open_clip.CLIP) -> nn.Module:
    """Return the text side of a CLIP as one module that shares its parameters."""
    side = nn.Module()
    side.token_embedding, side.transformer, side.ln_final = (
        model.token_embedding,
        model.transformer,
        model.ln_final,
    )
    side.positional_embedding, side.text_projection = model.positional_embedding, model.text_projection
    return side

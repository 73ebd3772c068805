"""Trains the head of an image tower, which maps the backbone's features to the space of text vectors.

The backbone is frozen, so features are computed once and a step takes a fraction of a second. Texts have the
vectors of a large sentence encoder, mapped by a small network that is trained together with the head. So
words that are not in the training data lie near similar words that are (the idea of DeViSE, Frome et al.
2013). The losses:

- classes: the head reproduces the backbone's own distribution over the 1,000 classes of ImageNet, by their
  names (distillation, Hinton et al. 2015, arXiv:1503.02531), on photographs of all sets and on synthetic
  features;
- labels: a sigmoid loss (as in SigLIP, Zhai et al. 2023, arXiv:2303.15343) over labels that are known to be
  present or absent, and over broader terms of the classes that the backbone sees;
- captions: the symmetric contrastive loss of CLIP (Radford et al. 2021, arXiv:2103.00020) within a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  (the name that torch's users know)
from numpy.typing import NDArray
from torch import Tensor, nn

from autotag.training.checkpoints import Checkpoint, Stateful, seeded
from autotag.training.progress import OnStep, say_nothing
from autotag.training.schedule import adamw, one_cycle, set_learning_rate


@dataclass(frozen=True)
class HeadPlan:
    """Hyperparameters of the head's training.

    Attributes:
        steps: number of batches.
        learning_rate: peak learning rate.
        weight_decay: of AdamW.
        photos_per_step: photographs of each set per step.
        synthetic_per_step: synthetic features per step.
        mixed_share: share of photographs that are mixed with another one.
        noise: standard deviation of Gaussian noise on features, relative to each feature's own.
        class_weight: weight of the softmax loss on the classes of ImageNet.
        each_class_weight: weight of the sigmoid loss on these classes.
        broader_weight: weight of the loss on their broader terms.
        caption_weight: weight of the contrastive loss.
        seed: for every random choice.
    """

    steps: int = 900
    learning_rate: float = 1e-3
    weight_decay: float = 0.1
    photos_per_step: int = 192
    synthetic_per_step: int = 256
    mixed_share: float = 0.5
    noise: float = 0.15
    class_weight: float = 4.0
    each_class_weight: float = 0.3
    broader_weight: float = 0.1
    caption_weight: float = 0.25
    seed: int = 3


@dataclass(frozen=True)
class Classes:
    """The backbone's own classifier, with the names of its classes.

    Attributes:
        weight: (C, F) float32.
        bias: (C,) float32.
        names: per class the rows of ``HeadTexts.vectors`` that name it, the most common first.
        broader: (B,) int64, rows of ``HeadTexts.vectors`` of broader terms.
        below: (B, C) float32, 1 where a class belongs to a broader term, else 0.
    """

    weight: Tensor
    bias: Tensor
    names: list[list[int]]
    broader: Tensor
    below: Tensor

    def probabilities(self, features: Tensor) -> Tensor:
        """Return (B, C), the classifier's distribution for (B, F) features."""
        return F.linear(features, self.weight, self.bias).softmax(dim=-1)


@dataclass(frozen=True)
class LabelledFeatures:
    """Features of photographs, with their labels.

    Attributes:
        features: (N, V, F) float16, V views of each photograph.
        labels: (L,) int64, rows of ``HeadTexts.vectors``.
        present: (N, L) uint8, 1 if the photograph shows the label, else 0.
        weight: weight of the loss on these labels.
        exclusive: whether each photograph shows exactly one label; then a softmax loss is added.
        captions: per photograph the rows of ``HeadTexts.captions``; None if the set has no captions.
        classes_count: whether the class losses use these photographs.
    """

    features: NDArray[np.float16]
    labels: Tensor
    present: Tensor
    weight: float
    exclusive: bool = False
    captions: list[list[int]] | None = None
    classes_count: bool = True


@dataclass(frozen=True)
class HeadTexts:
    """Vectors of texts, from the large sentence encoder.

    Attributes:
        vectors: (T, E) float32, of names.
        captions: (C, E) float16, of captions.
    """

    vectors: Tensor
    captions: Tensor


class TextMap(nn.Module):
    """Map a sentence encoder's vectors to the CLIP's: a linear map plus a small learned correction.

    Args:
        width: length of the sentence encoder's vectors.
        dimensions: length of the CLIP's vectors, at least ``width``.
        hidden: hidden width of the correction.
    """

    def __init__(self, width: int, dimensions: int, hidden: int = 768) -> None:
        super().__init__()
        self.turn = nn.Linear(width, dimensions, bias=False)
        nn.init.orthogonal_(self.turn.weight)
        last = nn.Linear(hidden, dimensions)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.correction = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), last)

    def forward(self, vectors: Tensor) -> Tensor:
        """Return (T, dimensions) unit rows for (T, width) rows."""
        return F.normalize(self.turn(vectors) + self.correction(vectors), dim=-1)


class Projection(nn.Module):
    """Map vectors linearly, initially the identity; it can be merged into a text tower's projection.

    Args:
        dimensions: length of the vectors.
    """

    def __init__(self, dimensions: int) -> None:
        super().__init__()
        self.turn = nn.Linear(dimensions, dimensions, bias=False)
        nn.init.eye_(self.turn.weight)

    def forward(self, vectors: Tensor) -> Tensor:
        """Return (T, dimensions) unit rows."""
        return F.normalize(self.turn(vectors), dim=-1)


class NameShifts(nn.Module):
    """Move the vector of each name by a learned amount, initially 0.

    A small text tower places a name only roughly. With a shift each, names that photographs teach are as good
    as the rows of a classifier; the tower learns the shifted vectors afterwards.

    Args:
        count: number of names.
        dimensions: length of the vectors.
    """

    def __init__(self, count: int, dimensions: int) -> None:
        super().__init__()
        self.shifts = nn.Parameter(torch.zeros(count, dimensions))

    def forward(self, vectors: Tensor) -> Tensor:
        """Return (count, dimensions) unit rows for (count, dimensions) unit rows."""
        return F.normalize(vectors + self.shifts, dim=-1)


class Scales(nn.Module):
    """Keep the parameters that turn cosines into logits: a scale per softmax, scale and bias per sigmoid."""

    def __init__(self) -> None:
        super().__init__()
        self.classes = nn.Parameter(torch.tensor(3.4))
        self.captions = nn.Parameter(torch.tensor(3.0))
        self.labels = nn.Parameter(torch.tensor(2.9))
        self.bias = nn.Parameter(torch.tensor(-4.0))

    def sigmoid_logits(self, cosines: Tensor) -> Tensor:
        """Return the logits of the sigmoid losses."""
        return cosines * self.labels.exp() + self.bias


@torch.no_grad()
def start_head(head: Any, classes: Classes, class_vectors: Tensor) -> None:
    """Initialise a head's hidden units as the classifier, and its output weights as the class vectors.

    So the head starts close to ConSE (Norouzi et al. 2014, arXiv:1312.5650): a photograph's vector lies
    between the names of the classes that the classifier sees in it.

    Args:
        head: ``mlp`` of an open_clip image tower, with at least as many hidden units as classes.
        classes: the classifier.
        class_vectors: (C, D) unit rows.
    """
    count = len(classes.bias)
    head.fc1.weight[:count] = classes.weight * 0.5
    head.fc1.bias[:count] = classes.bias * 0.5 - 1.0
    head.fc2.weight[:, :count] = class_vectors.T * 0.3
    head.fc2.weight[:, count:] *= 0.1


def class_shifts(features: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean of the features, and the direction from it to each class.

    If classes are Gaussian with a common covariance S, the best linear classifier has weights w = S^-1 m for
    a class whose mean is m away from the overall mean (Fisher 1936). So S w points from the overall mean to
    the class mean.

    Args:
        features: (N, F) float32 of photographs of many kinds.
        weight: (C, F) float32 of a linear classifier.

    Returns:
        (F,) and (C, F) float32. One unit of a shift adds 1 to the logit of its class, relative to the mean
        logit.
    """
    weight = weight.detach()
    centred = weight - weight.mean(dim=0)
    shifts = centred @ torch.cov(features.T)
    return features.mean(dim=0), shifts / (centred * shifts).sum(dim=1, keepdim=True)


class SyntheticFeatures:
    """Generate features that the classifier assigns to random classes, from the features of photographs.

    Args:
        features: (N, F) float32 of photographs of many kinds.
        weight: (C, F) float32 of the classifier.
    """

    def __init__(self, features: Tensor, weight: Tensor) -> None:
        self._mean, self._shifts = class_shifts(features, weight)
        self._largest = features.max()

    def __call__(self, base: Tensor, count: int, random: torch.Generator) -> Tensor:
        """Return (count, F) features: rows of ``base``, moved towards the mean, then towards a class each."""
        rows = torch.randint(len(base), (count,), generator=random)
        towards = torch.randint(len(self._shifts), (count,), generator=random)
        amount = 4 + 10 * torch.rand(count, 1, generator=random)
        faded = torch.lerp(base[rows], self._mean, 0.7 * torch.rand(count, 1, generator=random))
        return (faded + amount * self._shifts[towards]).clamp(min=0).minimum(self._largest)


class _Mixture(NamedTuple):
    """Photographs that are each mixed with another one (mixup, Zhang et al. 2018, arXiv:1710.09412).

    Attributes:
        own: (B,) int64, indices of the photographs.
        other: (B,) int64, indices of the photographs mixed in.
        share: (B, 1) float32 in [0, 0.5], share of the other photograph.
    """

    own: Tensor
    other: Tensor
    share: Tensor


@dataclass
class ImageHeadTrainer:
    """Train the head of an image tower and the map of texts, in place.

    Args:
        head: features (B, F) -> (B, D).
        text_map: maps the texts' vectors (T, E) to (T, D).
        sets: photographs with labels, with captions or with neither.
        classes: the backbone's own classifier.
        texts: the vectors of all names and captions.
        plan: hyperparameters.
        checkpoint: where the state is saved, and where training resumes from.
        shifts: moves the mapped vectors of names, one shift each; None leaves them where the map puts them.
    """

    head: nn.Module
    text_map: nn.Module
    sets: Sequence[LabelledFeatures]
    classes: Classes
    texts: HeadTexts
    plan: HeadPlan
    checkpoint: Checkpoint = field(default_factory=lambda: Checkpoint(None))
    shifts: NameShifts | None = None

    def __post_init__(self) -> None:
        self.scales = Scales()
        self._random = torch.Generator()
        seen = torch.cat([torch.from_numpy(each.features[:, 0]).float() for each in self.sets])
        sample = seen[
            torch.randperm(len(seen), generator=torch.Generator().manual_seed(self.plan.seed))[:8000]
        ]
        self._deviation = sample.std(dim=0)
        self._synthetic = SyntheticFeatures(sample, self.classes.weight)

    def run(self, on_step: OnStep = say_nothing) -> None:
        """Train as planned."""
        plan = self.plan
        modules = [self.head, self.text_map, self.scales, *([] if self.shifts is None else [self.shifts])]
        optimizer = adamw(modules, learning_rate=0.0, weight_decay=plan.weight_decay)
        parts: dict[str, Stateful] = {
            "head": self.head,
            "text_map": self.text_map,
            "scales": self.scales,
            "optimizer": optimizer,
        }
        if self.shifts is not None:
            parts["shifts"] = self.shifts
        self.head.train()
        for step in range(self.checkpoint.resume(parts), plan.steps):
            seeded(self._random, seed=plan.seed, step=step)
            set_learning_rate(optimizer, plan.learning_rate * one_cycle(step, plan.steps))
            losses = self._losses()
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(torch.stack(list(losses.values())).sum())
            nn.utils.clip_grad_norm_(self.head.parameters(), 5.0)
            optimizer.step()
            on_step(step + 1, {name: loss.item() for name, loss in losses.items()})
            self.checkpoint.save(step + 1, parts, now=step + 1 == plan.steps)
        self.head.eval()

    def name_vectors(self) -> Tensor:
        """Return (T, D) unit rows, the vectors of all names in the CLIP's space."""
        mapped: Tensor = self.text_map(self.texts.vectors)
        return mapped if self.shifts is None else cast("Tensor", self.shifts(mapped))

    def _losses(self) -> dict[str, Tensor]:
        plan = self.plan
        rows = [self._mixture(len(each.features)) for each in self.sets]
        seen = [self._features(each, mixed) for each, mixed in zip(self.sets, rows, strict=True)]
        real = torch.cat(seen)
        features = torch.cat([real, self._synthetic(real, plan.synthetic_per_step, self._random)])
        vectors = F.normalize(self.head(features), dim=-1)
        mapped = self.name_vectors()
        counts = [
            torch.full((len(mixed.own),), each.classes_count)
            for each, mixed in zip(self.sets, rows, strict=True)
        ]
        counting = torch.cat([*counts, torch.ones(plan.synthetic_per_step, dtype=torch.bool)])
        targets = self.classes.probabilities(features[counting])
        losses = {
            **self._class_losses(vectors[counting], targets, mapped),
            "broader": plan.broader_weight * self._broader_loss(vectors[counting], targets, mapped),
        }
        own = torch.split(vectors[: len(real)], [len(mixed.own) for mixed in rows])
        labels = [self._label_loss(*each, mapped) for each in zip(self.sets, own, rows, strict=True)]
        losses["labels"] = torch.stack(labels).sum()
        captions = [
            self._caption_loss(seen_as, [each.captions[row] for row in mixed.own.tolist()])
            for each, seen_as, mixed in zip(self.sets, own, rows, strict=True)
            if each.captions is not None
        ]
        if captions:
            losses["captions"] = plan.caption_weight * torch.stack(captions).sum()
        return losses

    def _mixture(self, total: int) -> _Mixture:
        count = self.plan.photos_per_step
        share = 0.5 * torch.rand(count, 1, generator=self._random)
        mixed = torch.rand(count, 1, generator=self._random) < self.plan.mixed_share
        return _Mixture(self._pick(total, count), self._pick(total, count), share * mixed)

    def _features(self, photos: LabelledFeatures, rows: _Mixture) -> Tensor:
        own, other = (self._views(photos, picked) for picked in (rows.own, rows.other))
        noise = torch.randn(own.shape, generator=self._random)
        return (torch.lerp(own, other, rows.share) + self.plan.noise * self._deviation * noise).clamp(min=0)

    def _views(self, photos: LabelledFeatures, rows: Tensor) -> Tensor:
        views = self._pick(photos.features.shape[1], len(rows))
        return torch.from_numpy(photos.features[rows.numpy(), views.numpy()]).float()

    def _class_losses(self, vectors: Tensor, targets: Tensor, mapped: Tensor) -> dict[str, Tensor]:
        """Compute a softmax loss, to tell classes apart, and a sigmoid loss, for the scale of labels."""
        picks = 2 * torch.rand(len(self.classes.names), generator=self._random) - 1  # half the time the first
        named = [
            names[int(max(0.0, pick) * len(names))]
            for names, pick in zip(self.classes.names, picks.tolist(), strict=True)
        ]
        cosines = vectors @ mapped[named].T
        logits = cosines * self.scales.classes.exp().clamp(max=100)
        each = F.binary_cross_entropy_with_logits(
            self.scales.sigmoid_logits(cosines), targets, reduction="sum"
        )
        return {
            "classes": self.plan.class_weight
            * F.kl_div(logits.log_softmax(dim=-1), targets, reduction="batchmean"),
            "each_class": self.plan.each_class_weight * each / len(vectors),
        }

    def _broader_loss(self, vectors: Tensor, targets: Tensor, mapped: Tensor) -> Tensor:
        logits = self.scales.sigmoid_logits(vectors @ mapped[self.classes.broader].T)
        shares = (targets @ self.classes.below.T).clamp(max=1.0)
        return F.binary_cross_entropy_with_logits(logits, shares, reduction="sum") / len(vectors)

    def _label_loss(
        self, photos: LabelledFeatures, vectors: Tensor, rows: _Mixture, mapped: Tensor
    ) -> Tensor:
        if not len(photos.labels):
            return vectors.new_zeros(())
        cosines = vectors @ mapped[photos.labels].T
        present = torch.lerp(photos.present[rows.own].float(), photos.present[rows.other].float(), rows.share)
        logits = self.scales.sigmoid_logits(cosines)
        each = F.binary_cross_entropy_with_logits(logits, present, reduction="sum")
        loss = photos.weight * each / len(vectors)
        if photos.exclusive:
            loss = loss + 0.3 * F.cross_entropy(cosines * self.scales.classes.exp().clamp(max=100), present)
        return loss

    def _caption_loss(self, vectors: Tensor, owned: list[list[int]]) -> Tensor:
        picks = torch.rand(len(owned), generator=self._random).tolist()
        rows = [captions[int(pick * len(captions))] for captions, pick in zip(owned, picks, strict=True)]
        mapped = self.text_map(self.texts.captions[rows].float())
        logits = vectors @ mapped.T * self.scales.captions.exp().clamp(max=100)
        own = torch.arange(len(rows))
        return F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)

    def _pick(self, total: int, count: int) -> Tensor:
        return torch.randint(total, (count,), generator=self._random)

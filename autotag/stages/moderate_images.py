"""Say how safe images are to show: by a classifier, or by comparing them with sentences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, ClassVar, cast, get_args

import numpy as np

from autotag.config.checks import check_choice, check_number
from autotag.config.options import convert_options
from autotag.errors import ConfigError, suggestion
from autotag.models.classifiers.declared_labels import declared_labels
from autotag.models.names import ModelName, check_model
from autotag.protocols import (
    Classifier,
    are_exclusive,
    categories_of,
    default_threshold_of,
    logit_scale_of,
)
from autotag.records import ModerationLabel
from autotag.records.sample import SafetyName
from autotag.relevance.embeddings import image_vectors
from autotag.relevance.sample_views import probabilities_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from autotag.models.classifiers.declared_labels import DeclaredLabels
    from autotag.protocols import ImageTextEncoder, Models
    from autotag.records import Sample

ZERO_SHOT = "zero-shot"
_ZERO_SHOT_THRESHOLD = 0.7  # benchmarks/moderation.py, with clip-mini
_RATING = "rating"
_MOST_SHOWN = 6
SENTENCES: dict[SafetyName, tuple[str, ...]] = {
    "safe": (
        "a photo of people in everyday clothes",
        "a photo of children playing outside",
        "a photo of somebody doing sports",
        "a photo of an animal",
        "a photo of food",
        "a photo of a building or a street",
        "a photo of a landscape",
        "a drawing or a text",
    ),
    "suggestive": (
        "a sexy photo of a woman in lingerie",
        "a sexy photo of a man in underwear",
    ),
    "explicit": (
        "a pornographic photo of people having sex",
        "a photo of a naked woman showing her breasts",
        "a photo of a naked man",
    ),
    "violent": (
        "a photo of a dead body with blood and gore",
        "a photo of somebody attacking a person with a weapon",
    ),
}
"""The sentences that ``model="zero-shot"`` compares an image with."""


@dataclass
class ModerateImages:
    """Say how probable it is that an image is safe, suggestive, explicit, violent ..., in ``moderation``.

    Every label that the model can say is there, most probable first. A label other than "safe" is flagged if
    its probability reaches the threshold. A probability that is not a number is an error of this image.

    Args:
        model: a classifier's name or folder, or a ``Classifier``. ``"opennsfw"`` needs the extra
            ``moderation``. ``"zero-shot"`` compares the image with sentences by an encoder; its labels are
            marked as weak, because it is often wrong.
        labels: label of the classifier -> what it means: "safe", "suggestive", "explicit", "violent",
            "hateful" or "other"; every label must be there, of a tagger with ratings every rating. None for
            the meaning in the model's card, or for a classifier that uses these words itself.
        threshold: the lowest probability that is flagged, from 0 to 1, for all labels or by label:
            ``{"explicit": 0.4}``, where other labels keep the model's own. None for the model's own, or 0.5
            where it has none.
        encoder: of ``"zero-shot"``: name, folder or ``ImageTextEncoder``; None for the pipeline's own.
        name: the stage's name.

    Raises:
        ConfigError: an option is out of range, a model's name is unknown, or the meaning of a label is not
            known, where the labels are known before the model is loaded: of objects and most folders.
    """

    model: str | Classifier = field(default="opennsfw", metadata={"model": "classifier"})
    _: KW_ONLY
    labels: Mapping[str, str] | None = None
    threshold: float | Mapping[SafetyName, float] | None = None
    encoder: str | ImageTextEncoder | None = field(default=None, metadata={"model": "encoder"})
    name: str = "moderate_images"
    _wanted: str | Classifier = field(init=False, repr=False, compare=False)
    _wanted_encoder: str | ImageTextEncoder | None = field(init=False, repr=False, compare=False)
    _judge: _ByClassifier | _BySentences = field(init=False, repr=False, compare=False)
    _least: float = field(init=False, repr=False, compare=False, default=1.0)

    requires: ClassVar[frozenset[str]] = frozenset()
    provides: ClassVar[frozenset[str]] = frozenset({"moderation"})

    def __post_init__(self) -> None:
        convert_options(self, where=self.name)
        by_label = self.threshold if isinstance(self.threshold, Mapping) else {"": self.threshold}
        if "safe" in by_label:
            raise ConfigError(f"{self.name}.threshold has 'safe', which is never flagged; leave it out.")
        for label, threshold in by_label.items():
            if threshold is not None:
                where = f"{self.name}.threshold" + (f".{label}" if label else "")
                check_number(where, threshold, least=0, most=1)
        for label, meaning in (self.labels or {}).items():
            check_choice(f"{self.name}.labels.{label}", meaning, get_args(SafetyName))
        if self.model == ZERO_SHOT:
            if self.labels is not None:
                raise ConfigError(f"{self.name}.labels is for classifiers; 'zero-shot' has none")
            self._check_thresholds(list(SENTENCES))
            self._wanted = ZERO_SHOT
            self._wanted_encoder = None if self.encoder is None else check_model(self.encoder, "encoder")
            return
        if self.encoder is not None:
            raise ConfigError(f"{self.name}.encoder is for model = 'zero-shot'; leave it out")
        self._wanted = check_model(self.model, "classifier")
        declared = (
            declared_labels(self._wanted.address) if isinstance(self._wanted, ModelName) else self._wanted
        )
        if declared is not None:
            self._meanings(declared)

    @property
    def borrows(self) -> frozenset[str]:
        """Return the fields that name a model in use."""
        return frozenset({"encoder"} if self.model == ZERO_SHOT else {"model"})

    @property
    def image_encoder(self) -> ImageTextEncoder | None:
        """Return the encoder of ``"zero-shot"``; None for a classifier."""
        return self._judge.encoder if isinstance(self._judge, _BySentences) else None

    def setup(self, models: Models, /) -> None:
        """Get the model.

        Raises:
            ConfigError: it is not known what a label of the classifier means, or a threshold is for a label
                that the model does not say.
        """
        if self._wanted == ZERO_SHOT:
            self._judge = _BySentences(models.encoder(self._wanted_encoder))
            self._least = _ZERO_SHOT_THRESHOLD
            return
        classifier = models.classifier(self._wanted)
        meanings = self._meanings(classifier)
        self._judge = _ByClassifier(classifier, meanings, _name_of(self._wanted))
        self._least = default_threshold_of(classifier)

    def __call__(self, samples: Sequence[Sample], /) -> None:
        if not samples:
            return
        judge = self._judge
        for sample, row in zip(samples, judge.probabilities(samples), strict=True):
            if not np.isfinite(row).all():  # an image that nobody judged must not pass for a safe one
                raise ValueError(f"{judge.model} gives a probability that is not a number")
            found = zip(judge.names, row.tolist(), strict=True)
            sample.moderation.extend(
                ModerationLabel(
                    label, chance, judge.model, flagged=self._flags(label, chance), weak=judge.weak
                )
                for label, chance in sorted(found, key=lambda one: -one[1])
            )

    def _flags(self, label: SafetyName, probability: float) -> bool:
        if isinstance(self.threshold, Mapping):
            least = self.threshold.get(label, self._least)
        else:
            least = self._least if self.threshold is None else self.threshold
        return label != "safe" and probability >= least

    def _check_thresholds(self, names: Sequence[str]) -> None:
        """Refuse thresholds of labels that the model does not say."""
        known = [name for name in names if name != "safe"]
        for label in self.threshold if isinstance(self.threshold, Mapping) else ():
            if label not in known:
                raise ConfigError(
                    f"{self.name}.threshold has {label!r}, which this model does not say. "
                    f"{suggestion(label, known)}"
                )

    def _meanings(self, classifier: Classifier | DeclaredLabels) -> list[SafetyName | None]:
        """Return what each label of a classifier means; None for a tagger's labels other than ratings.

        Raises:
            ConfigError: it is not known, or a threshold is for what no label means.
        """
        kinds = categories_of(classifier)
        rated = _RATING in kinds
        says = list(classifier.labels)
        judged = [not rated or kinds[place] == _RATING for place in range(len(says))]
        known = {label for label, judges in zip(says, judged, strict=True) if judges}
        card = self._wanted.address.card if isinstance(self._wanted, ModelName) else None
        given = self.labels or (card.safety if card else {})
        for label in given:
            if label not in known:
                raise ConfigError(
                    f"{self.name}.labels has {label!r}, which this classifier does not say. "
                    f"{suggestion(label, sorted(known)[:_MOST_SHOWN])}"
                )
        words: tuple[SafetyName, ...] = get_args(SafetyName)
        meaning = given or {word: word for word in words}
        unknown = [label for label in dict.fromkeys(says) if label in known and label not in meaning]
        if unknown:
            listed = ", ".join(map(repr, unknown[:_MOST_SHOWN]))
            more = f" and {len(unknown) - _MOST_SHOWN} more" if len(unknown) > _MOST_SHOWN else ""
            raise ConfigError(
                f"{self.name}: it is not known how safe an image is that this classifier calls "
                f"{listed}{more}; say it for each: labels = {{{unknown[0]!r} = 'safe', ...}}. "
                f"Known: {', '.join(words)}."
            )
        meanings = [
            cast("SafetyName", meaning[label]) if judges else None
            for label, judges in zip(says, judged, strict=True)
        ]
        self._check_thresholds([name for name in words if name in meanings])
        return meanings


class _ByClassifier:
    """Judge samples by a classifier whose labels have a meaning."""

    weak = False

    def __init__(self, classifier: Classifier, meanings: Sequence[SafetyName | None], model: str) -> None:
        self.model = model
        self.names = [name for name in get_args(SafetyName) if name in meanings]
        self._classifier = classifier
        self._places = [
            [place for place, meaning in enumerate(meanings) if meaning == name] for name in self.names
        ]

    def probabilities(self, samples: Sequence[Sample]) -> NDArray[np.float32]:
        """Return (B, names) float32: the sum of exclusive labels of one meaning, else the highest of them."""
        found = probabilities_of(samples, self._classifier)
        joined = np.sum if are_exclusive(self._classifier) else np.max
        columns = [joined(found[:, places], axis=1) for places in self._places]
        return np.stack(columns, axis=1).clip(0, 1)


class _BySentences:
    """Judge samples by the softmax of their cosines with sentences, summed over those of one meaning."""

    weak = True

    def __init__(self, encoder: ImageTextEncoder) -> None:
        self.encoder = encoder
        self.model = f"{ZERO_SHOT} ({encoder.id})"
        self.names = list(SENTENCES)
        self._sentences = encoder.embed_texts([text for texts in SENTENCES.values() for text in texts])
        self._starts = np.cumsum([0, *map(len, SENTENCES.values())])[:-1]

    def probabilities(self, samples: Sequence[Sample]) -> NDArray[np.float32]:
        """Return (B, names) float32; rows add up to 1."""
        logits = logit_scale_of(self.encoder) * (image_vectors(samples, self.encoder) @ self._sentences.T)
        chances = np.exp(logits - logits.max(axis=1, keepdims=True))
        chances /= chances.sum(axis=1, keepdims=True)
        return np.add.reduceat(chances, self._starts, axis=1).astype(np.float32)


def _name_of(model: str | Classifier) -> str:
    """Return a model's name as results show it: the catalog's, or as written; of an object its class."""
    if isinstance(model, ModelName):
        return model.address.name
    return model if isinstance(model, str) else type(model).__name__

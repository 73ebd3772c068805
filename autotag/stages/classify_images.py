"""Classify images, and propose the likely labels as tags."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from autotag.config.checks import check_count, check_list, check_number, shown
from autotag.config.options import convert_options
from autotag.errors import ConfigError, suggestion
from autotag.models.names import check_model
from autotag.protocols import categories_of, thresholds_of
from autotag.records import Tag
from autotag.relevance.sample_views import probabilities_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from autotag.protocols import Classifier, Models
    from autotag.records import Sample

_USUAL_THRESHOLD = 0.5
_RATING = "rating"


@dataclass
class ClassifyImages:
    """Propose the labels that a classifier finds likely, after the existing tags, best first.

    A tag's score is the classifier's probability. Of a label that lists synonyms with commas ("tabby, tabby
    cat"), as ImageNet's do, the first is proposed. A label that the classifier has twice is proposed once,
    with the higher probability.

    Args:
        model: a classifier's name or folder, or a ``Classifier``.
        threshold: the lowest probability that is proposed, from 0 to 1; for a tagger also by category:
            ``{"general": 0.35, "character": 0.85}``, where other categories keep the model's own. None for
            the model's own thresholds, or 0.5 where it has none.
        top_k: the most labels per image, at least 1.
        namespace: the broader term below which the tags are put in a hierarchy of keywords; None for none.
        categories: propose only labels of these categories, for taggers; None for all but ratings.
        name: the stage's name.

    Raises:
        ConfigError: an option is out of range, or the model's name is unknown.
    """

    model: str | Classifier = field(metadata={"model": "classifier"})
    _: KW_ONLY
    threshold: float | Mapping[str, float] | None = None
    top_k: int = 10
    namespace: str | None = None
    categories: Sequence[str] | None = None
    name: str = "classify_images"
    _wanted: str | Classifier = field(init=False, repr=False, compare=False)
    _classifier: Classifier = field(init=False, repr=False, compare=False)
    _least: NDArray[np.float32] = field(init=False, repr=False, compare=False)
    _texts: list[str] = field(init=False, repr=False, compare=False)

    requires: ClassVar[frozenset[str]] = frozenset()
    provides: ClassVar[frozenset[str]] = frozenset({"tags"})

    def __post_init__(self) -> None:
        if self.categories is not None:
            check_list(f"{self.name}.categories", self.categories)
        convert_options(self, where=self.name)
        if self.categories == ():
            raise ConfigError(f"{self.name}.categories is empty; name a category, or leave it out")
        by_category = self.threshold if isinstance(self.threshold, Mapping) else {"": self.threshold}
        for category, threshold in by_category.items():
            if threshold is not None:
                where = f"{self.name}.threshold" + (f".{category}" if category else "")
                check_number(where, threshold, least=0, most=1)
        check_count(f"{self.name}.top_k", self.top_k)
        if self.namespace is not None and not self.namespace.strip():
            raise ConfigError(f"{self.name}.namespace is {shown(self.namespace)}; name it, or leave it out")
        self._wanted = check_model(self.model, "classifier")

    def setup(self, models: Models, /) -> None:
        """Get the classifier.

        Raises:
            ConfigError: it does not know a category.
        """
        self._classifier = models.classifier(self._wanted)
        labels = self._classifier.labels
        self._texts = [first_synonym(label) for label in labels]
        categories = list(categories_of(self._classifier)) or [""] * len(labels)
        by_category = self.threshold if isinstance(self.threshold, Mapping) else {}
        for category in (*by_category, *(self.categories or ())):
            if category not in categories:
                raise ConfigError(
                    f"{self.name}: this classifier has no category {category!r}. "
                    f"{suggestion(category, {one for one in categories if one})}"
                )
        own = thresholds_of(self._classifier) or [_USUAL_THRESHOLD] * len(labels)
        threshold = self.threshold
        usual = own if threshold is None or isinstance(threshold, Mapping) else [threshold] * len(labels)
        least = [by_category.get(kind, value) for kind, value in zip(categories, usual, strict=True)]
        wanted = [self._wants(kind) for kind in categories]
        self._least = np.where(wanted, np.array(least, dtype=np.float32), np.float32(np.inf))

    def __call__(self, samples: Sequence[Sample], /) -> None:
        if not samples:
            return
        rows = probabilities_of(samples, self._classifier)
        for sample, row in zip(samples, rows, strict=True):
            sample.tags.extend(self._tags(row))

    def _wants(self, category: str) -> bool:
        return category != _RATING if self.categories is None else category in self.categories

    def _tags(self, probabilities: NDArray[np.float32]) -> list[Tag]:
        """Return the tags to propose for one image, from the probabilities of all labels, (L,)."""
        likely = np.flatnonzero(probabilities >= self._least)
        best = likely[np.argsort(-probabilities[likely], kind="stable")]
        scores: dict[str, float] = {}
        for place in best.tolist():
            scores.setdefault(self._texts[place], float(probabilities[place]))
            if len(scores) == self.top_k:
                break
        return [self._tag(text, score) for text, score in scores.items()]

    def _tag(self, text: str, score: float) -> Tag:
        tag = Tag.proposed(text, score, by=self.name)
        return replace(tag, path=(self.namespace.strip(), text)) if self.namespace else tag


def first_synonym(label: str) -> str:
    """Return the first of the synonyms that a label lists with commas: "tabby" of "tabby, tabby cat"."""
    first = label.partition(", ")[0].strip()
    return first or label.strip()

"""Propose the keywords that somebody's own photographs taught."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path  # noqa: TC003 - a config is converted by the annotations
from typing import TYPE_CHECKING, ClassVar

from autotag.config.checks import check_count
from autotag.config.options import convert_options
from autotag.metadata.keywords import fold
from autotag.models.names import check_model
from autotag.records import Tag
from autotag.relevance.embeddings import image_vectors
from autotag.relevance.learned_keywords import NEAR_CUT, LearnedKeywords

if TYPE_CHECKING:
    from collections.abc import Sequence

    from autotag.protocols import ImageTextEncoder, Models
    from autotag.records import Sample
    from autotag.relevance.learned_keywords import LearnedKeyword


@dataclass
class SuggestKeywords:
    """Propose keywords from a file of ``autotag learn``, before the existing tags, most probable first.

    Each keyword has its own threshold in the file. A keyword's score is its probability, which is not
    comparable with the scores of other stages; so this stage stands after ``filter_tags``. A tag that is
    there already under the same name is replaced and keeps its scores. A keyword whose path another proposed
    keyword continues ("Places" of "Places|Italy") is left out, since it is part of that keyword's path.
    Keywords whose odds are less than twice those at their thresholds are listed in
    ``result.extras["near_cut"]``, for a person to look at; the key is missing where there are none.

    Tags of earlier stages go, too, where people corrected them: a tag that they removed from similar
    photographs, and from every image a tag that they removed from most.

    Args:
        keywords: the file; it is read when the stage is built.
        top_k: keywords per image, at least 1; None for all that reach their thresholds.
        encoder: name, folder or ``ImageTextEncoder``; None for the pipeline's own. It has to be the one that
            the keywords were learned with.
        name: the stage's name.

    Raises:
        ConfigError: an option is out of range, or the file is missing, damaged or of another format; from
            ``setup``, if the keywords were learned with another encoder.
    """

    keywords: Path = field(metadata={"file": "one"})
    _: KW_ONLY
    top_k: int | None = None
    encoder: str | ImageTextEncoder | None = field(default=None, metadata={"model": "encoder"})
    name: str = "suggest_keywords"
    _learned: LearnedKeywords = field(init=False, repr=False, compare=False)
    _words: list[str] = field(init=False, repr=False, compare=False)
    _unwanted: frozenset[str] = field(init=False, repr=False, compare=False)
    _wanted: str | ImageTextEncoder | None = field(init=False, repr=False, compare=False)
    image_encoder: ImageTextEncoder = field(init=False, repr=False, compare=False)

    requires: ClassVar[frozenset[str]] = frozenset()
    provides: ClassVar[frozenset[str]] = frozenset({"tags", f"extras.{NEAR_CUT}"})

    def __post_init__(self) -> None:
        convert_options(self, where=self.name)
        if self.top_k is not None:
            check_count(f"{self.name}.top_k", self.top_k)
        self._wanted = None if self.encoder is None else check_model(self.encoder, "encoder")
        self._learned = learned = LearnedKeywords.load(self.keywords)
        self._words = [fold(word) for word in (*(one.text for one in learned.keywords), *learned.others)]
        self._unwanted = frozenset(map(fold, learned.unwanted))

    def setup(self, models: Models, /) -> None:
        """Get the encoder.

        Raises:
            ConfigError: the keywords were learned with another one.
        """
        self.image_encoder = models.encoder(self._wanted)
        self._learned.check_encoder(self.image_encoder.id, file=str(self.keywords))

    def __call__(self, samples: Sequence[Sample], /) -> None:
        if not samples or self._learned.is_empty:
            return
        vectors = image_vectors(samples, self.image_encoder)
        found, proposed = self._learned.suggested(vectors)
        declined = self._learned.declined(vectors)
        for sample, row, kept, gone in zip(samples, found, proposed, declined, strict=True):
            best = sorted(kept.nonzero()[0].tolist(), key=lambda place: (-row[place], place))
            likely = [(self._learned.keywords[place], float(row[place])) for place in best]
            chosen = _chosen(likely, self.top_k)
            removed = {*self._unwanted, *(self._words[place] for place in gone.nonzero()[0])}
            tags = [tag for tag in sample.tags if fold(tag.text) not in removed]
            sample.tags = self._merged(tags, chosen)
            if doubtful := [keyword.text for keyword, score in chosen if keyword.is_near_cut(score)]:
                sample.extras[NEAR_CUT] = doubtful

    def _merged(self, tags: Sequence[Tag], chosen: Sequence[tuple[LearnedKeyword, float]]) -> list[Tag]:
        """Return the chosen keywords as tags, then the tags that are none of them."""
        before = {fold(tag.text): tag for tag in tags}
        first: dict[str, Tag] = {}
        for keyword, score in chosen:
            known = before.get(fold(keyword.text))
            scores = {**(known.scores if known else {}), self.name: score}
            count = known.count if known else None
            path = keyword.path if len(keyword.path) > 1 else ()
            source = known.source if known else self.name
            language = (known.concept, known.language) if known else ()
            tag = Tag(keyword.text, score, source, scores, path, count, *language)
            first.setdefault(fold(keyword.text), tag)
        return [*first.values(), *(tag for tag in tags if fold(tag.text) not in first)]


def _chosen(
    likely: Sequence[tuple[LearnedKeyword, float]], top_k: int | None
) -> list[tuple[LearnedKeyword, float]]:
    """Return the first keywords, at most ``top_k``; one that continues another's path takes its place."""
    if top_k is None:
        return _without_parents(likely)
    chosen: list[tuple[LearnedKeyword, float]] = []
    for candidate in likely:
        joined = _without_parents([*chosen, candidate])
        if len(joined) <= top_k:
            chosen = joined
    return chosen


def _without_parents(chosen: Sequence[tuple[LearnedKeyword, float]]) -> list[tuple[LearnedKeyword, float]]:
    """Return the keywords whose path no other one continues, in their order."""
    begun = {keyword.path[:length] for keyword, _ in chosen for length in range(1, len(keyword.path))}
    return [(keyword, score) for keyword, score in chosen if keyword.path not in begun]

"""The phrases of prompts: read from vocabularies, embedded once, ranked for images."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import numpy as np

from autotag.prompts.clip_interrogator_modes import chunked_top
from autotag.prompts.modes import Part, Scores, top
from autotag.relevance.label_matrix import LabelMatrix, label_matrix
from autotag.vocabularies.clip_interrogator_lists import PARTS as LISTS
from autotag.vocabularies.clip_interrogator_lists import clip_interrogator_labels
from autotag.vocabularies.templates import SLOT
from autotag.vocabularies.vocabulary import Vocabulary, read_vocabulary

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from autotag.prompts.modes import Ranks
    from autotag.protocols import ImageTextEncoder

PARTS: tuple[Part, ...] = get_args(Part)
"""The parts of a prompt; with equal scores, the phrase of the earlier part comes first."""

Labels = str | Path | tuple[str, ...] | Vocabulary | None


def read_phrases(option: str, given: Labels, *, living_artists: bool) -> tuple[str, ...]:
    """Return the labels of a vocabulary for a prompt; () for None or an empty list.

    Raises:
        ConfigError: see ``read_vocabulary`` and ``Vocabulary``.
    """
    if given is None or given == ():
        return ()
    if isinstance(given, tuple):
        return Vocabulary(given, name=option, template=SLOT).labels
    return read_vocabulary(option, given, template=SLOT, living_artists=living_artists).labels


def read_compat_phrases(option: str, given: Labels) -> tuple[str, ...]:
    """Return the labels as CLIP Interrogator has them: a name means its own list; a list is unchanged.

    Raises:
        ConfigError: its package is not installed, or see ``read_vocabulary``.
    """
    if isinstance(given, tuple):
        return given
    if isinstance(given, str) and given in LISTS:
        return clip_interrogator_labels(given)
    return read_phrases(option, given, living_artists=True)


@dataclass(frozen=True, eq=False)
class PromptPhrases:
    """Hold the vectors of every part's phrases, by one encoder.

    Attributes:
        matrices: part -> its labels and vectors.
        compat: whether phrases are ranked as CLIP Interrogator ranks them.
    """

    matrices: Mapping[Part, LabelMatrix]
    compat: bool

    @classmethod
    def embedded(
        cls,
        phrases: Mapping[Part, tuple[str, ...]],
        encoder: ImageTextEncoder,
        *,
        compat: bool = False,
        folder: Path | None = None,
    ) -> PromptPhrases:
        """Embed the phrases of some parts, or read their vectors from the cache.

        Args:
            phrases: part -> its phrases; missing parts have none.
            encoder: embeds them.
            compat: rank as CLIP Interrogator does, with vectors in half precision.
            folder: of the cache, see ``label_matrix``.
        """
        matrices = {
            part: label_matrix(encoder, phrases.get(part, ()), folder=folder, name=part) for part in PARTS
        }
        if compat:
            matrices = {part: _rounded(matrix) for part, matrix in matrices.items()}
        return cls(matrices, compat)

    def ranks(self, image_vectors: NDArray[np.float32]) -> list[Ranks]:
        """Return each image's ranks of all phrases, from image vectors (B, D) float32, rows of length 1."""
        scores = {part: matrix.similarities(image_vectors) for part, matrix in self.matrices.items()}
        labels = {part: matrix.labels for part, matrix in self.matrices.items()}
        return [
            _ImageRanks(labels, {part: rows[index] for part, rows in scores.items()}, self._top)
            for index in range(len(image_vectors))
        ]

    @property
    def _top(self) -> Callable[..., NDArray[np.intp]]:
        return chunked_top if self.compat else top


@dataclass(frozen=True, eq=False)
class _ImageRanks:
    """Rank phrases for one image by the cosines of every part's labels (``autotag.prompts.modes.Ranks``)."""

    labels: Mapping[Part, tuple[str, ...]]
    scores: Mapping[Part, Scores]
    ranked: Callable[..., NDArray[np.intp]]

    def best(self, part: Part, count: int, /) -> list[str]:
        return [self.labels[part][place] for place in self.ranked(self.scores[part], count)]

    def worst(self, part: Part, count: int, /) -> list[str]:
        return [self.labels[part][place] for place in self.ranked(self.scores[part], count, lowest=True)]

    def best_of_all(self, count: int, /) -> list[str]:
        """Return the best ``count`` labels of all parts together, best first."""
        everything = np.concatenate([self.scores[part] for part in PARTS])
        starts = np.cumsum([0, *(len(self.labels[part]) for part in PARTS)])
        places = partial(self.ranked, everything)
        if self.ranked is chunked_top:
            return [self._label(place, starts) for place in places(count)]
        best: list[str] = []
        ask = count
        while len(best) < min(count, len(everything)):
            best = [*dict.fromkeys(self._label(place, starts) for place in places(ask))]
            if ask >= len(everything):
                break
            ask += max(count - len(best), 0)
        return best[:count]

    def _label(self, place: int, starts: NDArray[np.intp]) -> str:
        part = int(np.searchsorted(starts, place, side="right")) - 1
        label: str = self.labels[PARTS[part]][place - int(starts[part])]
        return label


def _rounded(matrix: LabelMatrix) -> LabelMatrix:
    """Round vectors to half precision, as CLIP Interrogator stores them."""
    return LabelMatrix(matrix.labels, matrix.vectors.astype(np.float16).astype(np.float32))

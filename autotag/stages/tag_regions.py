"""Propose labels for parts of an image: the boxes of a detector, and the cells of a grid."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path  # noqa: TC003 - a config is converted by the annotations
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from autotag.config.checks import check_count, check_number
from autotag.config.options import convert_options
from autotag.errors import ConfigError
from autotag.images.crops import cut_out
from autotag.models.names import check_model
from autotag.records import Tag
from autotag.relevance.label_matrix import VocabularyMatrix
from autotag.vocabularies.vocabulary import Vocabulary, read_vocabulary

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from PIL import Image

    from autotag.protocols import ImageTextEncoder, Models
    from autotag.records import Sample

_MOST_CELLS = 8


@dataclass
class TagRegions:
    """Propose labels for parts of each image, after the existing tags, so that small things get tags, too.

    The parts are the boxes in ``detections``, each with a margin, and the cells of a grid. All parts of a
    batch go through the encoder as one batch of their own. A label's score is its best cosine with one of the
    parts; labels that are tags already are not proposed again.

    Args:
        vocabulary: a bundled vocabulary's name, a file (see ``Vocabulary.from_file``) or a ``Vocabulary``.
        top_k: labels per image, at least 1.
        threshold: the lowest cosine that is proposed, from -1 to 1; None for the encoder's own.
        boxes: look at the boxes of detections, which an earlier stage must find.
        grid: look at this many times as many cells, from 2 to 8; 0 for no grid.
        margin: added to each side of a box, as a part of its length, from 0 to 1.
        smallest: the shorter side in pixels of the original below which a part is left out, at least 1.
        encoder: name, folder or ``ImageTextEncoder``; None for the pipeline's own.
        name: the stage's name.

    Raises:
        ConfigError: an option is out of range, there are no parts to look at, or the vocabulary is unknown or
            cannot be read.
    """

    vocabulary: str | Path | Vocabulary = field(default="things", metadata={"file": "one"})
    _: KW_ONLY
    top_k: int = 10
    threshold: float | None = None
    boxes: bool = True
    grid: int = 0
    margin: float = 0.1
    smallest: int = 32
    encoder: str | ImageTextEncoder | None = field(default=None, metadata={"model": "encoder"})
    name: str = "tag_regions"
    _labels: Vocabulary = field(init=False, repr=False, compare=False)
    _wanted: str | ImageTextEncoder | None = field(init=False, repr=False, compare=False)
    _encoder: ImageTextEncoder = field(init=False, repr=False, compare=False)
    _matrix: VocabularyMatrix = field(init=False, repr=False, compare=False)
    _least: float = field(init=False, repr=False, compare=False, default=0.0)

    requires: frozenset[str] = field(init=False, repr=False, compare=False, default=frozenset({"detections"}))
    provides: ClassVar[frozenset[str]] = frozenset({"tags"})

    def __post_init__(self) -> None:
        convert_options(self, where=self.name)
        check_count(f"{self.name}.top_k", self.top_k)
        check_count(f"{self.name}.grid", self.grid, least=0, most=_MOST_CELLS)
        check_count(f"{self.name}.smallest", self.smallest)
        check_number(f"{self.name}.margin", self.margin, least=0, most=1)
        if self.threshold is not None:
            check_number(f"{self.name}.threshold", self.threshold, least=-1, most=1)
        if self.grid == 1:
            raise ConfigError(f"{self.name}.grid is 1, the whole image; use 2 or more, or 0 for none")
        if not self.boxes and not self.grid:
            raise ConfigError(f"{self.name} has nothing to look at; set boxes, or a grid of 2 or more")
        self.requires = frozenset({"detections"} if self.boxes else ())
        self._wanted = None if self.encoder is None else check_model(self.encoder, "encoder")
        self._labels = read_vocabulary(f"{self.name}.vocabulary", self.vocabulary)

    def setup(self, models: Models, /) -> None:
        """Get the encoder, and embed the vocabulary or read its vectors where they are kept.

        Raises:
            ConfigError: no threshold is set, and none is known for this encoder.
        """
        self._encoder = models.encoder(self._wanted)
        known = self._encoder.default_thresholds.get("cosine")
        least = known if self.threshold is None else self.threshold
        if least is None:
            raise ConfigError(f"{self.name}.threshold: none is known for this encoder; set one")
        self._least = least
        self._matrix = VocabularyMatrix.embedded(self._labels, self._encoder)

    def __call__(self, samples: Sequence[Sample], /) -> None:
        crops = [self._crops(sample) for sample in samples]
        flat = [crop for own in crops for crop in own]
        if not flat:
            return
        cosines = self._matrix.similarities(self._encoder.embed_images(flat))
        start = 0
        for sample, own in zip(samples, crops, strict=True):
            if own:
                sample.tags.extend(self._best(cosines[start : start + len(own)].max(axis=0), sample.tags))
            start += len(own)

    def _best(self, cosines: NDArray[np.float32], tags: Sequence[Tag]) -> list[Tag]:
        """Return the tags to propose, from each label's best cosine, (L,)."""
        there = {tag.text.casefold() for tag in tags}
        found: list[Tag] = []
        for place in np.argsort(-cosines, kind="stable"):
            label, cosine = self._labels.labels[place], float(cosines[place])
            if cosine < self._least or len(found) == self.top_k:
                break
            if label.casefold() not in there:
                found.append(Tag.proposed(label, cosine, by=self.name))
        return found

    def _crops(self, sample: Sample) -> list[Image.Image]:
        """Return the parts of an image, cut from its pixels, which may be fewer than the original's."""
        boxes = [found.box for found in sample.detections] if self.boxes else []
        parts = [(box, self.margin) for box in boxes] + [(cell, 0.0) for cell in self._cells(sample.size)]
        crops = (
            cut_out(sample.image, sample.size, box, margin=margin, smallest=self.smallest)
            for box, margin in parts
        )
        return [crop for crop in crops if crop is not None]

    def _cells(self, size: tuple[int, int]) -> list[tuple[float, float, float, float]]:
        across, down = (side / self.grid if self.grid else 0.0 for side in size)
        return [
            (column * across, row * down, (column + 1) * across, (row + 1) * down)
            for row in range(self.grid)
            for column in range(self.grid)
        ]

"""The photographs to fine-tune on: checked, hashed, split, and read in batches ahead of the training."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from autotag.errors import ConfigError, ImageReadError
from autotag.evaluation.datasets import EvaluationSet, Example
from autotag.images.reading import file_bytes, read_image

FEWEST = 20
_FEWEST_HELD_OUT = 4
_SHOWN = 3
_logger = logging.getLogger("autotag")


@dataclass(frozen=True)
class SplitPhotographs:
    """Photographs that can be read, in two parts.

    Attributes:
        train: to train on.
        held_out: to judge on; no photograph is in both parts, not even under another name.
        sha256: of the photographs' contents, captions and tags, in hexadecimal digits.
        unreadable: number of photographs left out because they cannot be read.
    """

    train: tuple[Example, ...]
    held_out: EvaluationSet
    sha256: str
    unreadable: int


def split_photographs(dataset: EvaluationSet, *, held_out: float, workers: int) -> SplitPhotographs:
    """Read every photograph once, leave out unreadable ones, and hold some out.

    Which ones are held out depends only on the contents of the photographs.

    Args:
        dataset: see ``read_dataset``.
        held_out: share of the photographs.
        workers: threads.

    Raises:
        ConfigError: fewer than ``FEWEST`` photographs can be read.
    """
    with ThreadPoolExecutor(workers) as pool:
        digests = list(pool.map(_digest, dataset.examples))
    unreadable = [one.id for one, digest in zip(dataset.examples, digests, strict=True) if digest is None]
    if unreadable:
        shown = ", ".join(map(repr, unreadable[:_SHOWN])) + (", ..." if len(unreadable) > _SHOWN else "")
        _logger.warning("%d photographs cannot be read and are left out: %s", len(unreadable), shown)
    pairs = sorted(
        ((digest, one) for one, digest in zip(dataset.examples, digests, strict=True) if digest),
        key=lambda pair: (pair[0], pair[1].id),
    )
    if len(pairs) < FEWEST:
        raise ConfigError(
            f"{dataset.name!r} has {len(pairs)} photographs to fine-tune on; at least {FEWEST} are needed, "
            "and hundreds are better"
        )
    cut = max(_FEWEST_HELD_OUT, round(held_out * len(pairs)))
    while cut < len(pairs) and pairs[cut][0] == pairs[cut - 1][0]:
        cut += 1
    if len(pairs) - cut < FEWEST // 2:
        raise ConfigError(f"{dataset.name!r} has too few different photographs: most are copies of one")
    return SplitPhotographs(
        train=tuple(one for _, one in pairs[cut:]),
        held_out=replace(dataset, examples=tuple(one for _, one in pairs[:cut])),
        sha256=_hash_of(pairs),
        unreadable=len(unreadable),
    )


def _digest(example: Example) -> str | None:
    """Return the SHA-256 of a photograph's file; None if it cannot be read as an image."""
    try:
        content = (
            file_bytes(str(example.image), example.id) if isinstance(example.image, Path) else example.image
        )
        read_image(content, target_size=1, source=example.id)
    except ImageReadError:
        return None
    return hashlib.sha256(content).hexdigest()


def _hash_of(pairs: list[tuple[str, Example]]) -> str:
    whole = hashlib.sha256()
    for digest, one in pairs:
        whole.update(repr((digest, one.texts, one.tags)).encode())
    return whole.hexdigest()


@dataclass(frozen=True)
class Batch:
    """Some photographs with a text each.

    Attributes:
        images: inputs of the model's image tower, by name, on the CPU.
        texts: of each photograph a caption or a tag, drawn at random.
        examples: the photographs, in the same order.
    """

    images: Mapping[str, Tensor]
    texts: list[str]
    examples: list[Example]


@dataclass(frozen=True)
class Batches:
    """The batches of a training, each a function of its number alone; so a training can resume anywhere.

    Photographs come in a random order, each once per pass over them.

    Attributes:
        examples: at least one.
        size: photographs per batch.
        prepare: upright RGB images -> inputs of the image tower; called in several threads.
        image_side: side in pixels of the model's input; None if unknown.
        smallest_crop: see ``FineTuningPlan``.
        workers: threads that read.
        seed: for the order, the texts and the crops.
        rehearsed: photographs of other kinds, so that they are not forgotten (rehearsal, Robins 1995).
        rehearsed_per_batch: how many of ``size`` are of these.
    """

    examples: tuple[Example, ...]
    size: int
    prepare: Callable[[list[Image.Image]], Mapping[str, Tensor]]
    image_side: int | None
    smallest_crop: float
    workers: int
    seed: int
    rehearsed: tuple[Example, ...] = ()
    rehearsed_per_batch: int = 0

    def numbered(self, first: int, end: int) -> Iterator[Batch]:
        """Yield the batches ``first`` to ``end`` - 1; a batch per worker is read ahead.

        Raises:
            ImageReadError: a photograph cannot be read any more.
        """
        with ThreadPoolExecutor(self.workers) as pool:
            ahead: list[Future[Batch]] = []
            for number in range(first, end):
                ahead.append(pool.submit(self._batch, number))
                if len(ahead) > self.workers:
                    yield ahead.pop(0).result()
            while ahead:
                yield ahead.pop(0).result()

    def _batch(self, number: int) -> Batch:
        random = np.random.default_rng([self.seed, number])
        own = self.size - self.rehearsed_per_batch
        examples = [
            *_drawn(self.examples, own, self.seed, number),
            *_drawn(self.rehearsed, self.rehearsed_per_batch, self.seed, number),
        ]
        texts = [one.texts or one.tags for one in examples]
        side = None if self.image_side is None else round(self.image_side / self.smallest_crop)
        images = [
            _cropped(read_image(one.image, target_size=side, source=one.id).image, self.smallest_crop, random)
            for one in examples
        ]
        return Batch(self.prepare(images), [some[random.integers(len(some))] for some in texts], examples)


def _drawn(examples: tuple[Example, ...], size: int, seed: int, number: int) -> list[Example]:
    """Return batch ``number`` of ``size`` photographs, each once per pass over them."""
    count = len(examples)
    places = range(number * size, (number + 1) * size)
    return [examples[_order(count, seed, place // count)[place % count]] for place in places]


@lru_cache(maxsize=4)
def _order(count: int, seed: int, epoch: int) -> NDArray[np.intp]:
    return np.random.default_rng([seed, epoch, count]).permutation(count)


def _cropped(image: Image.Image, smallest: float, random: np.random.Generator) -> Image.Image:
    """Return a random crop; each side has at least the share ``smallest`` of the image's side."""
    width, height = (max(1, round(side * random.uniform(smallest, 1))) for side in image.size)
    left, top = random.integers(image.width - width + 1), random.integers(image.height - height + 1)
    return image.crop((int(left), int(top), int(left) + width, int(top) + height))

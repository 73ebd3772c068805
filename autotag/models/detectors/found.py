"""Turn the output of detectors, scores and boxes, into detections."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
import torch
from PIL import Image

from autotag.errors import ConfigError, ModelLoadError
from autotag.images.boxes import best_of_overlapping, inside
from autotag.models.loading.class_names import is_generic, numbered
from autotag.records import Detection

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

NO_OBJECT = frozenset({"N/A", ""})
"""Gaps in the numbering of COCO's classes; such boxes are left out."""
LEAST_SCORE = 0.05
"""Boxes with a lower score are not returned: hundreds of them in every image show nothing."""
_MOST_TIMES_LARGER = 8
_USUAL_SIDE = 800
_LONGEST_STRIP = 8  # times as long as it is wide
_Found = TypeVar("_Found")


def detections(
    labels: Sequence[str],
    scores: NDArray[np.floating],
    boxes: NDArray[np.floating],
    size: tuple[int, int],
) -> list[Detection]:
    """Return detections, best first, without boxes outside the image or without area.

    Args:
        labels: N labels.
        scores: (N,) in [0, 1].
        boxes: (N, 4) left, top, right, bottom in pixels.
        size: width and height of the image in whose pixels the boxes are.
    """
    cut, kept = inside(boxes, *size)
    values = np.asarray(scores, dtype=np.float64)[kept]
    order = [place for place in np.argsort(-values, kind="stable") if np.isfinite(values[place])]
    rows = cut.tolist()
    return [Detection(labels[kept[place]], float(values[place]), tuple(rows[place])) for place in order]


def best_detections(
    boxes: NDArray[np.floating],
    scores: NDArray[np.floating],
    numbers: NDArray[np.integer],
    labels: Sequence[str],
    *,
    overlap: float,
    size: tuple[int, int],
) -> list[Detection]:
    """Return ``detections`` of one image, without low scores, and of overlapping boxes of one label the best.

    Args:
        boxes: (N, 4) left, top, right, bottom in pixels.
        scores: (N,) in [0, 1].
        numbers: (N,) the place of each box's label in ``labels``.
        labels: what was asked for.
        overlap: intersection over union above which the lower of two boxes of one label goes.
        size: width and height of the image in whose pixels the boxes are.
    """
    kept = scores >= LEAST_SCORE
    boxes, scores, numbers = boxes[kept], scores[kept], numbers[kept]
    best = best_of_overlapping(boxes, scores, overlap, numbers)
    return detections([labels[number] for number in numbers[best]], scores[best], boxes[best], size)


def corners(boxes: torch.Tensor) -> torch.Tensor:
    """Return (..., 4) boxes as left, top, right, bottom, from centre x, centre y, width, height."""
    centre, half = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat([centre - half, centre + half], dim=-1)


class Frame(NamedTuple):
    """An image as a model gets it.

    Attributes:
        image: the pixels; None where the model gets a view instead.
        size: width and height of the original in pixels.
        span: width and height of ``image`` in pixels of the original; larger where it is padded.
    """

    image: Image.Image | None
    size: tuple[int, int]
    span: tuple[float, float]


def framed(image: Image.Image, side: int | None) -> Frame:
    """Return an image that a model can resize: not much larger than its input, and not a narrow strip.

    A model that keeps the aspect ratio would make a strip of 30,000 x 100 pixels 4 pixels high, and one that
    pads it to a square would need 10 GB. So a long image is first made smaller, and a strip is padded at its
    right or bottom with black. Other images stay as they are.

    Args:
        image: upright RGB.
        side: of the model's input, in pixels; None when unknown.
    """
    most = _MOST_TIMES_LARGER * (side or _USUAL_SIDE)
    small = image
    if max(image.size) > most:
        small = image.copy()
        small.thumbnail((most, most), Image.Resampling.BOX)
    span = (float(image.width), float(image.height))
    least = -(-max(small.size) // _LONGEST_STRIP)
    if min(small.size) < least:
        padded = Image.new("RGB", (max(small.width, least), max(small.height, least)))
        padded.paste(small)
        span = span[0] * padded.width / small.width, span[1] * padded.height / small.height
        small = padded
    return Frame(small, image.size, span)


def by_shape(
    frames: Sequence[Frame],
    prepare: Callable[[Image.Image], dict[str, torch.Tensor]],
    run: Callable[[dict[str, torch.Tensor], list[Frame]], Sequence[_Found]],
) -> list[_Found]:
    """Run a model on batches of images that have one shape once they are prepared, in the given order.

    Models with an input of fixed size get one batch. Others are not padded: padding changes what they find,
    so that an image would have other boxes in a batch than alone.

    Args:
        frames: the images.
        prepare: makes the model's inputs for one image, tensors with a first dimension of 1.
        run: takes the joined inputs of some frames, and returns one row per frame.
    """
    prepared = [prepare(frame.image) for frame in frames if frame.image is not None]
    groups: dict[Any, list[int]] = {}
    for place, inputs in enumerate(prepared):
        groups.setdefault(inputs["pixel_values"].shape, []).append(place)
    rows: dict[int, _Found] = {}
    for places in groups.values():
        joined = {
            name: torch.cat([prepared[place][name] for place in places]) for name in prepared[places[0]]
        }
        rows.update(zip(places, run(joined, [frames[place] for place in places]), strict=True))
    return [rows[place] for place in range(len(frames))]


def names_of_classes(model: str, place: Path, names: object) -> dict[int, str]:
    """Return the label of each class.

    Args:
        model: its name, for the message.
        place: the folder or file that holds it, likewise.
        names: as found there, see ``numbered``.

    Raises:
        ModelLoadError: there are only names such as "LABEL_0" and "0", or none, or a class has no number.
    """
    labels = numbered(model, place, names)
    if all(name in NO_OBJECT or is_generic(name) for name in labels.values()):
        shown = next(iter(labels.values()), None)
        found = f"has only names such as {shown!r}" if shown else "has none"
        raise ModelLoadError(
            model,
            f"model {model!r}: {place} names no labels (it {found}). Write them into config.json as "
            '"id2label": {"0": "person", "1": "dog"}; beside an ONNX file, a line each in labels.txt',
        )
    return labels


def refuse_without_labels(model: str) -> ConfigError:
    """Return the error for a detector that must be told what to find."""
    return ConfigError(f"detector {model!r} finds what it is asked for; name it: labels = ['dog', 'bicycle']")

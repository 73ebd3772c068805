"""YOLO networks as ONNX files, with onnxruntime: letterbox and non-maximum suppression are autotag's own."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image

from autotag.errors import ModelLoadError
from autotag.files.bounded_files import named_path
from autotag.images.boxes import best_of_overlapping
from autotag.models.detectors.found import LEAST_SCORE, detections, framed, names_of_classes
from autotag.models.loading.class_names import LABELS_FILE, lines_of, numbered
from autotag.models.loading.onnx_loading import onnx_session

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from autotag.protocols import ModelRequest
    from autotag.records import Detection

_SIDE = 640
_GREY = 114
_OVERLAP = 0.5
_MOST_CANDIDATES = 10_000
_EXPECTED = (
    "export a network for detection, of YOLOv8 or later, with `yolo export format=onnx`, or name each label "
    "on a line of labels.txt"
)


class Letterboxed(NamedTuple):
    """An image on a square of grey.

    Attributes:
        pixels: (3, H, W) float32 in [0, 1].
        scale: pixels of the input per pixel of the image.
        left: of the image in the input, in pixels.
        top: of the image in the input, in pixels.
    """

    pixels: NDArray[np.float32]
    scale: float
    left: int
    top: int


def letterboxed(image: Image.Image, width: int, height: int) -> Letterboxed:
    """Return an upright RGB image resized to fit, its aspect ratio kept, centred on grey (114)."""
    scale = min(width / image.width, height / image.height)
    across, down = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    left, top = (width - across) // 2, (height - down) // 2
    whole = Image.new("RGB", (width, height), (_GREY,) * 3)
    whole.paste(image.resize((across, down), Image.Resampling.BILINEAR), (left, top))
    pixels = np.asarray(whole, dtype=np.float32).transpose(2, 0, 1) / 255
    return Letterboxed(np.ascontiguousarray(pixels), scale, left, top)


class OnnxDetector:
    """Find objects with a YOLO network in an ONNX file, as ultralytics exports YOLOv8, v9, v10 and v11.

    The network has one input, (B, 3, H, W) float RGB in [0, 1], and one output: (B, 4 + L, N) with centre x,
    centre y, width, height in pixels of the input and a probability for each label; or, exported with its own
    suppression, (B, N, 6) with left, top, right, bottom, score and label number. Of boxes of one label that
    overlap by more than half, the best stays.

    Args:
        session: an ``onnxruntime.InferenceSession``.
        labels: label number -> label.
        name: of the model, for messages.
    """

    default_threshold = 0.25  # as in YOLO's own programs

    def __init__(self, session: Any, labels: Mapping[int, str], *, name: str = "onnx") -> None:
        self.name = name
        self.session = session
        self._label_of = dict(labels)
        self._input = session.get_inputs()[0]
        batch, _, height, width = self._input.shape
        self._at_once = batch if isinstance(batch, int) else None
        self._height, self._width = (side if isinstance(side, int) else _SIDE for side in (height, width))

    @classmethod
    def load(cls, request: ModelRequest) -> OnnxDetector:
        """Load a file.

        Its labels are in its metadata (``names``), else in ``labels.txt`` beside it, one on each line.

        Raises:
            ConfigError: onnxruntime is not installed.
            ModelUnavailableError: there is no such file.
            ModelLoadError: the file is damaged, of another kind or task, or does not name each label.
        """
        file = named_path(request.location)
        session = onnx_session(request, "detector", file)
        _check_kind(request, file, session)
        labels = names_of_classes(request.name, file, _names(request.name, session, file))
        _check_output(request.name, session.get_outputs()[0].shape[1:], len(labels))
        return cls(session, labels, name=request.name)

    @property
    def labels(self) -> tuple[str, ...]:
        """Return every label that the detector knows, in the order of its numbers."""
        return tuple(dict.fromkeys(self._label_of.values()))

    @property
    def image_size(self) -> int:
        """Return the longer side of the input in pixels."""
        return max(self._width, self._height)

    def detect(self, images: Sequence[Image.Image], /) -> list[list[Detection]]:
        """Return each image's objects, best first, with boxes in pixels of that image (upright RGB).

        Raises:
            ModelLoadError: the network's output is not YOLO's for these labels, or its scores are no
                probabilities.
        """
        rows = []
        size = self._at_once or max(1, len(images))
        for first in range(0, len(images), size):
            rows += self._batch(images[first : first + size])
        return rows

    def _batch(self, images: Sequence[Image.Image]) -> list[list[Detection]]:
        frames = [framed(image, self.image_size) for image in images]
        small = [frame.image for frame in frames if frame.image is not None]
        boxed = [letterboxed(image, self._width, self._height) for image in small]
        pixels = [one.pixels for one in boxed]
        missing = (self._at_once or 0) - len(pixels)
        pixels += [pixels[0]] * missing  # a network for batches of four takes no three
        kind = np.float16 if self._input.type == "tensor(float16)" else np.float32
        [output] = self.session.run(None, {self._input.name: np.stack(pixels).astype(kind)})[:1]
        _check_output(self.name, output.shape[1:], len(self._label_of))
        rows = []
        for frame, image, one, own in zip(frames, small, boxed, output, strict=False):
            boxes, scores, numbers = self._decoded(np.asarray(own, dtype=np.float32))
            pixels_of = (boxes - [one.left, one.top] * 2) / one.scale
            stretch = np.tile(np.divide(frame.span, image.size), 2)
            names = [self._label_of[number] for number in numbers.tolist()]
            rows.append(detections(names, scores, pixels_of * stretch, frame.size))
        return rows

    def _decoded(
        self, output: NDArray[np.float32]
    ) -> tuple[NDArray[np.float64], NDArray[np.float32], NDArray[np.intp]]:
        """Return ``decoded`` boxes, scores and label numbers of one image's output, after a check."""
        if is_suppressed(output.shape):
            scores = output[:, 4]
            are_labels = set(output[scores >= LEAST_SCORE, 5].tolist()) <= self._label_of.keys()
        else:
            scores = output[4:]
            are_labels = self._label_of.keys() >= set(range(len(scores)))
        if not (are_labels and ((scores >= 0) & (scores <= 1)).all()):
            wrong = "its scores are not in [0, 1]" if are_labels else "it numbers labels that have no names"
            raise ModelLoadError(self.name, f"model {self.name!r}: {wrong}; {_EXPECTED}")
        return decoded(output)


def is_suppressed(shape: Sequence[int | str | None]) -> bool:
    """Return whether the output of one image has this shape after the network's own suppression: (N, 6)."""
    return shape[-1] == 6


def decoded(
    output: NDArray[np.float32],
) -> tuple[NDArray[np.float64], NDArray[np.float32], NDArray[np.intp]]:
    """Return boxes (M, 4) in pixels of the input, scores and label numbers (M,), from one image's output."""
    if is_suppressed(output.shape):
        kept = output[output[:, 4] >= LEAST_SCORE]
        boxes, scores, numbers = kept[:, :4].astype(np.float64), kept[:, 4], kept[:, 5].astype(np.intp)
    else:
        chances = output[4:].max(axis=0)
        kept_places = np.flatnonzero(chances >= LEAST_SCORE)
        best = kept_places[np.argsort(-chances[kept_places], kind="stable")[:_MOST_CANDIDATES]]
        scores, numbers = chances[best], output[4:, best].argmax(axis=0)
        middle, half = output[:2, best].T.astype(np.float64), output[2:4, best].T.astype(np.float64) / 2
        boxes = np.concatenate([middle - half, middle + half], axis=1)
    whole = np.isfinite(boxes).all(axis=1)
    boxes, scores, numbers = boxes[whole], scores[whole], numbers[whole]
    left = best_of_overlapping(boxes, scores, _OVERLAP, numbers)
    return boxes[left], scores[left], numbers[left]


def _check_kind(request: ModelRequest, file: Path, session: Any) -> None:
    """Refuse a network for another task, or with another input or output than YOLO's."""
    task = session.get_modelmeta().custom_metadata_map.get("task", "detect")
    if task != "detect":
        raise ModelLoadError(
            request.name, f"model {request.name!r}: {file} is for the task {task!r}; {_EXPECTED}"
        )
    given, made = session.get_inputs(), session.get_outputs()
    image_like = len(given) == 1 and len(given[0].shape) == 4 and given[0].shape[1] == 3
    if not image_like or len(made[0].shape) != 3:
        raise ModelLoadError(
            request.name,
            f"model {request.name!r}: {file} takes {[one.shape for one in given]} and gives "
            f"{[one.shape for one in made]}; expected one image input (B, 3, H, W) and YOLO's output of "
            "three dimensions, as `yolo export format=onnx` writes it",
        )


def _check_output(model: str, shape: Sequence[int | str | None], count: int) -> None:
    """Refuse an output that is not YOLO's for so many labels.

    Args:
        model: its name.
        shape: of the output for one image; a size that is not known is not a number.
        count: of the labels.

    Raises:
        ModelLoadError: it has another shape.
    """
    if is_suppressed(shape) or not isinstance(shape[0], int) or shape[0] == 4 + count:
        return
    raise ModelLoadError(
        model,
        f"model {model!r}: it gives {list(shape)} numbers for an image; {count} label"
        f"{'' if count == 1 else 's'} need [{4 + count}, N], or [N, 6] with its own suppression; {_EXPECTED}",
    )


def _names(model: str, session: Any, file: Path) -> dict[int, str]:
    """Return the labels in a network's metadata, else those in ``labels.txt`` beside it; empty for none."""
    written = session.get_modelmeta().custom_metadata_map.get("names", "")
    try:
        found = ast.literal_eval(written) if written else {}
    except (ValueError, SyntaxError):
        found = {}
    if found and isinstance(found, dict | list):
        return numbered(model, file, found)
    beside = file.with_name(LABELS_FILE)
    return dict(enumerate(lines_of(model, beside) if beside.is_file() else []))
